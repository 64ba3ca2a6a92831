"""What the compiler is shown to optimise for: starts of the interpreter, and of the plugin with a store of some size.

Runs under the interpreter in the making (`make PROFILE_TASK=…`). /build/plugin has the plugin's source, /build/wheels orjson.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STARTS = 60
LIVE = 110
BUILD = Path("/build")


def start(*arguments: str, environment: "dict[str, str] | None" = None, stdin: bytes = b"") -> bytes:
    """Start this interpreter and return what it prints."""
    return subprocess.run([sys.executable, *arguments], env=environment, input=stdin, capture_output=True, check=True).stdout


def plugin(directory: Path, netns: str, verb: str, number: int, **options: object) -> None:
    """Run a verb of the plugin in a store below `directory`, for a container by number, with this CNI_NETNS."""
    conf = {
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "cni-reaper",
        "dataDir": str(directory / "networks"),
        "stateDir": str(directory / "reaper"),
        "logFile": str(directory / "log"),
        **options,
    }
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("LD_")},
        "PYTHONPATH": f"{BUILD}/plugin:{BUILD}/wheels",
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": f"{number:064x}",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": netns,
        "CNI_PATH": "/opt/cni/bin",
    }
    start("-B", "-S", "-m", "cni_reaper_plugin", environment=environment, stdin=json.dumps(conf).encode())


def main() -> None:
    """Train."""
    for _ in range(STARTS):
        start("-I", "-S", "-c", "pass")
    pod = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        with tempfile.TemporaryDirectory() as name:
            train(Path(name), f"/proc/{pod.pid}/ns/net")
    finally:
        pod.kill()
        pod.wait()


def train(directory: Path, netns: str) -> None:
    """Let pods start and end where others live."""
    while os.stat(netns).st_ino == os.stat("/proc/self/ns/net").st_ino:
        time.sleep(0.01)
    reserved = directory / "networks" / "net"
    reserved.mkdir(parents=True)
    for number in range(LIVE):
        plugin(directory, netns, "ADD", number, reapOn=[])
        (reserved / f"10.0.0.{number + 2}").write_text(f"{number:064x}\r\neth0")
    for number in range(LIVE, LIVE + STARTS):
        plugin(directory, netns, "ADD", number)
        plugin(directory, netns, "VERSION", number)
        plugin(directory, netns, "DEL", number)


if __name__ == "__main__":
    main()
