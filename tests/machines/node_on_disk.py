"""A node whose plugins, conflist and store are on a disk: what its machine brings along, and what its console tells of pods.

power.sh is what runs there. The list is flannel's, and the runtime an old libcni's cnitool: both fail for ever at an empty file.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.machines import found
from tests.machines.found import NETWORK
from tests.machines.machine import Console
from tests.support.cni_calls import NET_D, reaper
from tests.support.node_files import LOG_FILE, Conf

POWER, REAPER = "/power/node", "/root/cni-reaper"
FILE = f"{NET_D}/10-{NETWORK}.conflist"
FLANNEL = {"type": "flannel", "subnetFile": "/power/subnet.env", "delegate": {"isDefaultGateway": True}}
ORIGINAL = json.dumps({"cniVersion": "0.4.0", "name": NETWORK, "plugins": [FLANNEL]}, indent=2).encode() + b"\n"
"""The conflist as a platform has written it."""
OPTIONS = {"logFile": LOG_FILE}
PUT_IN = f"{REAPER} install --options '{json.dumps(OPTIONS)}'"
BROKEN_JSON = ("unexpected end of JSON input", "invalid character")
"""What the old libcni and flannel say of a file that a power cut has broken."""


def with_ours() -> Conf:
    """Return the conflist with our entry."""
    whole: Conf = json.loads(ORIGINAL)
    return {**whole, "plugins": [reaper(**OPTIONS), FLANNEL]}


def brought(tools: Path, prefix: int, names: Sequence[str], valid: Sequence[str]) -> dict[str, bytes]:
    """Return the files that a machine brings along: what is not on its disk.

    tools: the directory of the old cnitool and flannel's plugin. prefix: of the pool. names: of the last lives' pods.
    valid: those of this life that the runtime lists with GC.
    """
    conf: Conf = {"cniVersion": "1.1.0", "name": NETWORK}
    attachments = [{"containerID": found.owner(name), "ifname": found.IFNAME} for name in valid]
    subnet = f"FLANNEL_NETWORK=10.90.0.0/16\nFLANNEL_SUBNET=10.90.0.1/{prefix}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    configurations = {
        "gc": {**conf, **reaper(**OPTIONS), "cni.dev/valid-attachments": attachments},
        "cni-reaper.json": {**conf, **reaper(**OPTIONS)},
        "flannel.json": {**conf, "cniVersion": "0.4.0", **FLANNEL},
    }
    files = {f"power/{name}": (tools / name).read_bytes() for name in ("cnitool", "flannel")}
    files |= {f"power/{name}": json.dumps(one).encode() for name, one in configurations.items()}
    return files | {
        "power/node": Path(__file__).with_name("power.sh").read_bytes(),
        f"power/without/{NETWORK}.conflist": ORIGINAL,
        "power/original": ORIGINAL,
        "power/options": json.dumps(OPTIONS).encode(),
        "power/subnet.env": subnet.encode(),
        "power/names": "".join(f"{name}\n" for name in names).encode(),
    }


def reports(console: Console, steps: Sequence[str]) -> list[str]:
    """Return the lines of a console, and in the place of these steps' the lines that they have written."""
    lines = []
    for line in console.text.splitlines():
        name = line.split(":", 2)[1] if line.startswith("@step:") else ""
        lines += console.steps[name].out.decode(errors="replace").splitlines() if name in steps else [line]
    return lines
