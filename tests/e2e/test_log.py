"""The log file under many processes, and while it is rotated: every event in one whole line, in one of the files."""

from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.node_files import LOG_FILE, parse_line

CALLS = 110
LONG = "p" * 200  # so that a line is longer than what some file systems write at once


def test_a_list_without_host_local_is_told_once(node: Node) -> None:
    """Another IPAM gives the addresses: that there is nothing to sweep is said at info once per boot, at debug each time."""
    network = Network(node)

    def told(**options: str) -> list[str]:
        for _ in range(3):
            network.reap(**options)
        lines = [line["level"] for line in node.log("sweep-skipped")]
        node.path(LOG_FILE).unlink(missing_ok=True)
        return lines

    assert told() == ["info"]
    assert told(logLevel="debug") == ["debug"] * 3
    node.reboot()
    assert told() == ["info"]
    assert told(dataDir="/var/lib/cni/elsewhere") == ["info"]


def test_many_processes_write_whole_lines_while_the_file_is_rotated(node: Node) -> None:
    """Each of 110 dry runs tells of each of 20 leaks, or why it has not looked; three times the file is renamed meanwhile."""
    network = Network(node, dryRun=True, logLevel="debug")
    pods = [node.pod() for _ in range(CALLS)]
    network.add(pods[0])
    gone = node.pod()
    for number in range(20):
        owner, args = container_id(f"leak-{number}"), f"K8S_POD_NAMESPACE=n;K8S_POD_NAME={LONG}{number}"
        node.plugin("ADD", network.head, netns=gone, container_id=owner, args=args).check()
        node.reserve("net", f"10.66.0.{100 + number}", owner)
    gone.delete()
    node.path(LOG_FILE).unlink()
    commands = [node.plugin_command("ADD", network.head, netns=pod, container_id=container_id(pod.name)) for pod in pods]
    rotate = [
        {**commands[0], "argv": ["sh", "-c", f"until mv {LOG_FILE} {LOG_FILE}.{turn}; do :; done"], "stdin": b""}
        for turn in "123"
    ]
    everything = [*commands[:30], rotate[0], *commands[30:60], rotate[1], *commands[60:90], rotate[2], *commands[90:]]
    for ran in node.together(everything):
        ran.check()
    files = [path for path in node.path("/var/log").iterdir() if path.name.startswith("cni-reaper.log")]
    assert len(files) >= 3
    events: dict[str, int] = {}
    skipped = 0
    for path in files:
        text = path.read_text()
        assert text.endswith("\n")
        for line in text.splitlines():
            fields = parse_line(line)
            if fields["event"] == "would-reap":
                assert fields["pod"].startswith(f"n/{LONG}")
                assert fields["cause"]
                events[fields["address"]] = events.get(fields["address"], 0) + 1
            skipped += fields["event"] in ("sweep-skipped", "sweep-shared")
    assert skipped < CALLS, "somebody has looked for all who waited"
    assert events == {f"10.66.0.{100 + number}": CALLS - skipped for number in range(20)}
