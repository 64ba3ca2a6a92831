"""The shell blocks of README.md and docs/, run on a private node as a reader would, one document after the other.

A line with `# exit code N` at its end must exit with N, every other with 0.
"""

import json
import re
import textwrap

from tests.support.node import Node
from tests.support.programs import ROOT

NOT_RUN = {
    "./build.sh demo     #": "CI runs these verbs themselves; whether they are there: test_build_sh_has_the_documents_verbs",
}
DEAD = "d" * 64
DELETE = """veths() { ip -o link | grep -c veth || true; }
delete() {
    ip -n "$1" link show eth0 >/dev/null 2>&1 || { ip netns del "$1"; return; }
    local before; before=$(veths)
    ip netns del "$1"
    until [ "$(veths)" -lt "$before" ]; do :; done
}
"""
"""The kernel ends a namespace a moment after it is deleted; until then its address is in use, and a person types slower."""


def blocks(document: str, kind: str = "sh") -> list[str]:
    """Return the blocks of a kind of a document, in order."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def run(node: Node, block: str) -> str:
    """Run a block line by line in one shell; return what it printed."""
    script = re.sub(
        r"^(?P<line>[^#\n]+?)\s*#(?P<said>.*)exit code (?P<code>\d+).*$",
        r"code=0; \g<line> || code=$?; [ $code = \g<code> ] || { echo 'exit code' $code 'of' '\g<line>' >&2; exit 99; }",
        block,
        flags=re.MULTILINE,
    )
    script = DELETE + re.sub(r"^ip netns del (\w+)", r"delete \1", script, flags=re.MULTILINE)
    environment = {"NETCONFPATH": "/etc/cni/net.d", "CNI_PATH": "/opt/cni/bin"}
    path = f"{node.programs.cnitool.parent}:/opt/cni/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ran = node.run(["bash", "-euo", "pipefail", "-c", f"cd {ROOT}\n{script}"], env={"PATH": path, **environment})
    assert ran.rc == 0, f"{block}\n{ran}"
    return ran.text


def test_every_block_is_run() -> None:
    """A document with a shell block is read below, or the block says why it is not."""
    documents = {path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")) if blocks(str(path.relative_to(ROOT)))}
    assert {str(path.relative_to(ROOT)) for path in documents} == {
        "README.md",
        "docs/commands.md",
        "docs/metrics.md",
        "docs/operations.md",
        "docs/runtimes.md",
    }


def test_build_sh_has_the_documents_verbs() -> None:
    """What the documents tell to run with build.sh is a verb of it."""
    usage = (ROOT / "build.sh").read_text()
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("*/README.md"),
        *(ROOT / "tests").glob("*/README.md"),
    ]
    verbs = {verb for path in documents for verb in re.findall(r"\./build\.sh ([a-z][a-z-]+)", path.read_text())}
    assert {"demo", "test", "release"} <= verbs
    for verb in verbs:
        assert re.search(rf"^  {verb} ", usage, re.MULTILINE), verb


def test_every_block_does_what_its_document_says(node: Node) -> None:
    """README, commands and operations on one node: leaks that the text speaks of are there, and go when it says so."""
    node.path("/opt/cni/bin/cni-reaper").unlink()
    two_commands, install, by_hand = blocks("README.md")
    assert two_commands.startswith(tuple(NOT_RUN))
    (conflist,) = blocks("README.md", "json")
    wanted = json.loads(conflist)
    node.write("/etc/cni/net.d/10-cbr0.conflist", json.dumps({**wanted, "plugins": wanted["plugins"][1:]}))
    run(node, install)
    assert json.loads(node.read("/etc/cni/net.d/10-cbr0.conflist")) == wanted
    assert "event=reaped" in run(node, by_hand)
    node.path("/run/cni-reaper/views").unlink()  # as on a node on which it has never run
    node.reserve("cbr0", "10.42.0.40", DEAD)
    look, dry, see, wet, full, mend, upgrade, out, rest = blocks("docs/operations.md")
    assert "no ADD of this boot" in run(node, look)
    run(node, dry)
    assert "would-reap" in run(node, see)
    assert "1 LIVE, 1 STALE" in run(node, "cni-reaper audit || true")
    run(node, wet)
    assert len(node.reservations("cbr0")) == 2
    live = node.reservations("cbr0")
    (commands,) = blocks("docs/commands.md")
    address = min(live)
    run(node, commands.replace("10.42.0.2", address))
    (sentinel,) = blocks("docs/runtimes.md")
    run(node, sentinel)
    assert "10.42.0.250" in node.reservations("cbr0")
    assert "address=10.42.0.250" in run(node, full)
    assert node.reservations("cbr0") == live
    node.write(f"/var/lib/cni/results/cbr0-{DEAD}-eth0", "")
    assert "0 removed, 1 waiting" in run(node, mend)
    assert "cni-reaper " in run(node, upgrade)
    (metrics,) = blocks("docs/metrics.md")
    run(node, metrics)
    run(node, "cnitool check cbr0 /run/netns/try; ip netns add third; cnitool add cbr0 /run/netns/third")
    assert "cni_reaper_sweeps_total" in node.read("/var/lib/node_exporter/textfile_collector/cni-reaper.prom")
    run(node, "cnitool del cbr0 /run/netns/third; ip netns del third")
    assert "left there with its records" in run(node, out)
    run(node, rest)
    assert node.reservations("cbr0") == {}
    assert not node.path("/var/lib/cni/reaper").exists()
    assert not node.path("/opt/cni/bin/cni-reaper").exists()
    assert json.loads(node.read("/etc/cni/net.d/10-cbr0.conflist")) == {**wanted, "plugins": wanted["plugins"][1:]}
