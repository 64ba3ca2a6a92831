"""Directories of conflists as they are found on nodes: those of conflist-examples/, with us and without, and odd ones.

Each is a Case: what is in the directory, what libcni is asked for, and what install is to make of it.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cni_calls import host_local
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.programs import ROOT

EXAMPLES = sorted((ROOT / "conflist-examples").glob("*.conflist"))
FILE = "10-net.conflist"
NETWORK = "net"
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
OURS = '{"type": "cni-reaper"}'
LATER = '{"type": "cni-reaper", "ofALaterVersion": {"x": [1, 2.50]}, "logLevel": "debug"}'
BRIDGE: Conf = {"type": "bridge", "bridge": "cni0", "ipam": host_local("10.66.0.0/24")}
_ENTRY = re.compile(rb' *\{\s*"type": "cni-reaper"[^{}]*\},\n|,\s*\{\s*"type": "cni-reaper"[^{}]*\}')


@dataclass(frozen=True)
class Case:
    """files: content by name, in the directory; file: the one that counts; at: the place of our entry in it, None where install
    refuses; back: what uninstall leaves of files that it does not leave as they were; says: words of the refusal;
    stays: uninstall has to leave the executable there; prepare: what else is done, with the node and the case's directory;
    network: which libcni is asked for."""

    files: dict[str, bytes]
    file: str = FILE
    at: int | None = 0
    back: dict[str, bytes] = field(default_factory=dict)
    says: str = ""
    stays: bool = False
    prepare: Callable[[Node, Path], None] | None = None
    network: str = NETWORK


def conflist(*plugins: Conf, **more: object) -> bytes:
    """Return a conflist of a network `net` with these plugins, as canal writes it."""
    return json.dumps({"name": NETWORK, "cniVersion": "0.3.1", **more, "plugins": list(plugins)}, indent=2).encode()


PLAIN = conflist(BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}})


def text(plugins: str, head: str = '"cniVersion": "1.0.0", "name": "net"') -> bytes:
    """Return a conflist on one line, of the text between the brackets of `plugins`."""
    return f'{{{head}, "plugins": [{plugins}]}}'.encode()


ONE = json.dumps(BRIDGE)
TWO = ONE + ', {"type": "tuning"}'


def examples() -> dict[str, Case]:
    """Return each file of conflist-examples/, as it is and without our entry."""
    cases = {}
    for path in EXAMPLES:
        raw = path.read_bytes()
        told = json.loads(raw)
        at = [one["type"] for one in told["plugins"]].index("cni-reaper")
        bare, count = _ENTRY.subn(b"", raw)
        assert count == 1, path
        assert [one["type"] for one in json.loads(bare)["plugins"]] == [
            one["type"] for one in told["plugins"] if one["type"] != "cni-reaper"
        ]
        name = path.name.removesuffix(".conflist")
        cases[f"{name} with us"] = Case({path.name: raw}, path.name, at, back={path.name: bare}, network=told["name"])
        cases[f"{name} without us"] = Case({path.name: bare}, path.name, network=told["name"])  # its ipvlan has a master
    return cases


def taken() -> dict[str, Case]:
    """Return the odd ones that our entry goes into."""
    nested = '{"a": {"plugins": [{"type": "not me"}]}, "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}'
    return {
        "on one line": Case({FILE: text(TWO)}),
        "without a blank": Case({FILE: json.dumps(json.loads(PLAIN), separators=(",", ":")).encode()}),
        "CRLF": Case({FILE: PLAIN.replace(b"\n", b"\r\n")}),
        "tabs": Case({FILE: json.dumps(json.loads(PLAIN), indent="\t").encode() + b"\n"}),
        "blank lines around it": Case({FILE: b"\n\n  " + PLAIN + b"\n\n\n"}),
        "plugins twice, the last counts": Case(
            {FILE: text('{"type": "gone"}', f'"name": "net", "plugins": [{ONE}]')[:-2] + f'], "plugins": [{TWO}]}}'.encode()}
        ),
        "name twice, the last counts": Case({FILE: text(ONE, '"name": "other", "cniVersion": "1.0.0", "name": "net"')}),
        "type twice in an entry": Case({FILE: text('{"type": "cni-reaper", ' + ONE[1:])}),
        "an escaped key": Case({FILE: text(TWO).replace(b"plugins", b"plug\\u0069ns")}),
        "our type, escaped": Case({FILE: text('{"type": "cni\\u002dreaper"}, ' + TWO)}, back={FILE: text(TWO)}),
        "huge integers and small reals": Case({FILE: text(TWO, '"x": 12345678901234567890123, "y": 1e-400, "name": "net"')}),
        "letters of all kinds": Case({FILE: text(TWO, '"π": "ü \\" \U0001f600 \\ud83d\\ude00 \\u0000", "name": "net"')}),
        "brackets in texts": Case({FILE: text(nested, '"x": "], \\"plugins\\": [", "name": "net"')}),
        "a nested plugins": Case({FILE: text(nested, '"x": {"plugins": [{"type": "cni-reaper"}]}, "name": "net"')}),
        "no cniVersion": Case({FILE: text(TWO, '"name": "net"')}),
        "cniVersion 0.2.0": Case({FILE: text(TWO, '"cniVersion": "0.2.0", "name": "net"')}),
        "cniVersion 1.1.0 and others": Case(
            {FILE: text(TWO, '"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "net"')}
        ),
        "disableCheck and the like": Case({FILE: text(TWO, '"disableCheck": "true", "disableGC": true, "name": "net"')}),
        "nearly too large": Case({FILE: text(TWO, f'"x": "{"x" * 1_048_000}", "name": "net"')}),
        "a name with blanks": Case({"10 my net.conflist": PLAIN}, "10 my net.conflist"),
        "a name with a dot ahead": Case({".net.conflist": PLAIN}, ".net.conflist"),
        "a mode, an owner, a label": Case({FILE: PLAIN}, prepare=_belongs_to_another),
        "two names for it": Case({FILE: PLAIN}, prepare=_hard_link),
        "a symlink in the directory": Case({"real": PLAIN}, prepare=_symlink("real")),
        "a symlink out of it": Case({"../platform/real.conflist": PLAIN}, prepare=_symlink("../platform/real.conflist")),
        "a symlink over a symlink": Case({"../platform/real.conflist": PLAIN}, prepare=_symlinks),
        "the directory is a symlink": Case({FILE: PLAIN}, prepare=_directory_elsewhere),
        "two of one name, the first counts": Case({FILE: PLAIN, "20-net.conflist": PLAIN}),
        "two, and the second has us": Case(
            {FILE: PLAIN, "20-other.conflist": text(f"{OURS}, {ONE}", '"name": "other"')},
            back={"20-other.conflist": text(ONE, '"name": "other"')},
        ),
        "behind multus": Case(
            {
                "00-multus.conf": json.dumps({"name": "m", "type": "multus", "clusterNetwork": "net"}).encode(),
                "10-canal.conflist": PLAIN,
            },
            "10-canal.conflist",
        ),
        "a broken one behind it": Case({FILE: PLAIN, "99-broken.conflist": b"{"}),
        "other files": Case({FILE: PLAIN, "00-README.md": b"x", "10-net.conflist.bak": b"{", "calico-kubeconfig": b"y"}),
        "us at the tail": Case({FILE: text(f"{TWO}, {OURS}")}, back={FILE: text(TWO)}),
        "us in the middle": Case({FILE: text(TWO.replace(", {", f", {OURS}, {{"))}, back={FILE: text(TWO)}),
        "us twice": Case({FILE: text(f"{OURS}, {TWO}, {OURS}")}, back={FILE: text(TWO)}),
        "us three times in a row": Case({FILE: text(f"{LATER}, {OURS}, {OURS}, {TWO}")}, back={FILE: text(TWO)}),
        "us of a later version": Case({FILE: text(f"{LATER}, {TWO}")}, back={FILE: text(TWO)}),
        "us of a later version, at the tail": Case({FILE: text(f"{TWO}, {LATER}")}, back={FILE: text(TWO)}),
        "us with options that are wrong": Case(
            {FILE: text(f'{{"type": "cni-reaper", "budgetMs": -1}}, {TWO}')}, back={FILE: text(TWO)}
        ),
        "us before a loopback": Case(
            {FILE: text(f'{OURS}, {{"type": "loopback"}}, {ONE}')}, at=1, back={FILE: text(f'{{"type": "loopback"}}, {ONE}')}
        ),
        "ipvlan with its master": Case({FILE: text(ONE.replace("bridge", "ipvlan")[:-1] + ', "master": "eth0"}')}),
        "ipvlan without": Case({FILE: text(ONE.replace("bridge", "ipvlan"))}, at=1),
        "us alone behind ipvlan": Case(
            {FILE: text(ONE.replace("bridge", "ipvlan") + ", " + OURS)}, at=1, back={FILE: text(ONE.replace("bridge", "ipvlan"))}
        ),
        "cilium chained": Case({FILE: text(ONE + ', {"type": "cilium-cni", "chaining-mode": "generic-veth"}')}),
        "host-local elsewhere": Case({FILE: conflist({**BRIDGE, "ipam": host_local("10.66.0.0/24", dataDir="/run/its own")})}),
        "flannel": Case({FILE: conflist({"type": "flannel", "delegate": {"isDefaultGateway": True}})}),
        "no drop-ins wanted": Case({FILE: conflist(BRIDGE, loadOnlyInlinedPlugins=True)}),
    }


def refused() -> dict[str, Case]:
    """Return those that install leaves as they are, with a sentence that has these words."""
    deep = '{"x": ' * 5000 + "1" + "}" * 5000
    multus = text(f'{{"type": "multus", "delegates": [{ONE}]}}')

    def case(raw: bytes, says: str, **more: object) -> Case:
        return Case({FILE: raw}, at=None, says=says, **more)  # type: ignore[arg-type]  # the names of Case's own fields

    return {
        "empty": case(b"", "cannot be parsed as JSON"),
        "half": case(PLAIN[:-20], "cannot be parsed as JSON"),
        "a byte order mark": case(b"\xef\xbb\xbf" + PLAIN, "byte order mark"),
        "UTF-16": case(PLAIN.decode().encode("utf-16"), "cannot be parsed as JSON"),
        "no UTF-8": case(text(TWO, '"x": "?", "name": "net"').replace(b"?", b"\xff"), "parsed as JSON"),
        "half of a pair of surrogates": case(text(TWO, '"x": "\\ud83d", "name": "net"'), "parsed as JSON"),
        "something behind it": case(PLAIN + b"\n}", "cannot be parsed as JSON"),
        "a comma too many": case(text(ONE + ","), "cannot be parsed as JSON"),
        "a comment": case(b"// ours\n" + PLAIN, "cannot be parsed as JSON"),
        "NaN": case(text(TWO, '"x": NaN, "name": "net"'), "cannot be parsed as JSON"),
        "too deep": case(text(f'{ONE}, {{"type": "tuning", "x": {deep}}}'), "parsed as JSON"),
        "a list": case(b"[" + PLAIN + b"]", "no JSON object"),
        "no plugins": case(b'{"name": "net", "cniVersion": "1.0.0"}', "no list"),
        "plugins empty": case(text(""), "no list"),
        "plugins is null": case(b'{"name": "net", "plugins": null}', "no list"),
        "plugins in capitals": case(text(ONE).replace(b"plugins", b"Plugins"), "no list"),
        "an entry is a text": case(text('"bridge", ' + ONE), "entry 1"),
        "an entry without type": case(text(ONE + ', {"name": "x"}'), "entry 2"),
        "no name": case(text(ONE, '"cniVersion": "1.0.0"'), "`name`"),
        "a name with a slash": case(text(ONE, '"name": "../net"'), "`name`"),
        "cniVersion of the future": case(text(ONE, '"cniVersion": "9.9.9", "name": "net"'), "9.9.9"),
        "cniVersion is a number": case(text(ONE, '"cniVersion": 1, "name": "net"'), "`cniVersion`"),
        "us alone": case(text(OURS), "host-local", stays=True),
        "calico's own IPAM": case(conflist({"type": "calico", "ipam": {"type": "calico-ipam"}}), "calico-ipam"),
        "no IPAM": case(conflist({"type": "cilium-cni"}), "no ipam section"),
        "too large": case(text(TWO, f'"x": "{"x" * 1_048_576}", "name": "net"'), "by hand"),
        "only multus' own": Case({"00-multus.conflist": multus}, "00-multus.conflist", at=None, says="no conflist yet"),
        "a single .conf": Case({"10-net.conf": _single()}, "10-net.conf", at=None, says="/10-net.conflist"),
        "a single .json": Case({"10-net.json": _single()}, "10-net.json", at=None, says="/10-net.conflist"),
        "a .conf with a list": Case({"10-net.conf": PLAIN}, "10-net.conf", at=None, says="*.conflist"),
        "a single plugin in a .conflist": case(_single(), "no list"),
        "the first one is broken": Case({"05-broken.conflist": b"{", FILE: PLAIN}, at=None, says="05-broken.conflist"),
        "the first one has no host-local": Case(
            {"05-other.conflist": conflist({"type": "tuning"}), FILE: PLAIN}, at=None, says="05-other.conflist"
        ),
        "a link to nowhere": Case({}, at=None, says="no file", prepare=_symlink("/nowhere")),
        "a link to itself": Case({}, at=None, says="cannot be read", prepare=_symlink(FILE)),
        "a pipe": Case({}, at=None, says="no regular file", prepare=_pipe),
        "nothing": Case({}, at=None, says="no conflist yet"),
        "a directory of that name": Case({}, at=None, says="no conflist yet", prepare=_directory_of_that_name),
        "a directory that is read-only": case(PLAIN, "Read-only file system", prepare=_read_only),
        "a file that is mounted there": case(PLAIN, "cannot be replaced", prepare=_mounted),
    }


def _single() -> bytes:
    return json.dumps({"cniVersion": "0.4.0", "name": NETWORK, **BRIDGE}).encode()


def _belongs_to_another(_: Node, directory: Path) -> None:
    path = directory / FILE
    path.chmod(0o640)
    os.chown(path, 1234, 5678)
    os.setxattr(path, "trusted.a label", b"\0\1")


def _hard_link(_: Node, directory: Path) -> None:
    (directory / "backup").hardlink_to(directory / FILE)


def _symlink(target: str) -> Callable[[Node, Path], None]:
    def prepare(_: Node, directory: Path) -> None:
        (directory / FILE).symlink_to(target)

    return prepare


def _symlinks(_: Node, directory: Path) -> None:
    (directory / "step").symlink_to("../platform/real.conflist")
    (directory / FILE).symlink_to("step")


def _directory_elsewhere(_: Node, directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to("elsewhere")


def _pipe(_: Node, directory: Path) -> None:
    os.mkfifo(directory / FILE)


def _directory_of_that_name(_: Node, directory: Path) -> None:
    (directory / FILE).mkdir()


def _read_only(node: Node, directory: Path) -> None:
    inside = "/" + str(directory.relative_to(node.path("/")))
    node.mount(inside, inside, flags=MS_BIND)
    node.mount("none", inside, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def _mounted(node: Node, directory: Path) -> None:
    inside = "/" + str((directory / FILE).relative_to(node.path("/")))
    node.mount(inside, inside, flags=MS_BIND)
