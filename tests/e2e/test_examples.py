"""Every file of conflist-examples/: libcni reads it, and a pool full of leaks heals with it; a live pod keeps its address.

Pools are made smaller, and that is all that is changed. What is not to be had here (calico, flannel) is played by a program that
delegates to ptp or bridge with host-local, by the same keys; what the kernel of the tests lacks (ipvlan) is only read.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cni_calls import BIN, NET_D
from tests.support.full_pool import add_to_fresh_pod, addresses_of, assert_untouched, fill
from tests.support.node import Node
from tests.support.node_files import LOG_FILE, Conf
from tests.support.programs import ROOT

EXAMPLES = ROOT / "conflist-examples"
FILES = sorted(path.name for path in EXAMPLES.glob("*.conflist"))
POOLS = {4: "10.55.0.0/29", 6: "fd00:55::/125"}
PLAYED = ("calico", "flannel")
READ_ONLY = ("ipvlan",)
RUN, PLAYS, READS = "run", "run, {} played", "read by libcni"
PLAYER = '''#!{python} -I
"""Plays calico or flannel: what they delegate to, with the address range that they know from elsewhere."""
import json, os, subprocess, sys
conf = json.load(sys.stdin)
kind = conf.pop("type")
delegate = {{"cniVersion": conf["cniVersion"], "name": conf["name"]}}
if kind == "flannel":
    delegate.update(conf["delegate"], type="bridge", ipam={{"type": "host-local", "ranges": [[{{"subnet": "{pool}"}}]]}})
else:
    text = json.dumps(conf["ipam"])
    assert "usePodCidr" in text
    delegate.update(type="ptp", ipam=json.loads(text.replace("usePodCidr", "{pool}")))
sys.exit(subprocess.run([os.environ["CNI_PATH"] + "/" + delegate["type"]], input=json.dumps(delegate).encode()).returncode)
'''


def example(file: str) -> Conf:
    """Return an example as it is."""
    conf: Conf = json.loads((EXAMPLES / file).read_text())
    return conf


def types(conf: Conf) -> list[str]:
    """Return the plugins of a conflist."""
    return [plugin["type"] for plugin in conf["plugins"]]


def shrunk(conf: Conf) -> Conf:
    """Return it with small pools, so that they are soon full."""

    def smaller(value: Any) -> Any:
        if isinstance(value, list):
            return [smaller(one) for one in value]
        if not isinstance(value, dict):
            return value
        made = {key: smaller(one) for key, one in value.items()}
        if "/" in str(made.get("subnet", "")):
            made["subnet"] = POOLS[6 if ":" in made["subnet"] else 4]
        return made

    made: Conf = smaller(conf)
    return made


def installed(node: Node, conf: Conf) -> str:
    """Write a conflist and what it needs in the node; return the network's name."""
    node.conflist(conf["name"], conf["plugins"], conf["cniVersion"])
    for kind in PLAYED:
        player = node.path(f"{BIN}/{kind}")
        player.write_text(PLAYER.format(python=sys.executable, pool=POOLS[4]))
        player.chmod(0o755)
    if any("master" in plugin for plugin in conf["plugins"]):
        node.add_link("eth1", "veth", peer="eth1-far")
    return str(conf["name"])


def reservations(node: Node, conf: Conf) -> dict[str, tuple[str, str]]:
    """Return what host-local has reserved, wherever the example has it do so."""
    ipam: Conf = next((plugin["ipam"] for plugin in conf["plugins"] if "ipam" in plugin), {})
    return node.reservations(conf["name"], ipam.get("dataDir", "/var/lib/cni/networks"))


@pytest.mark.parametrize("file", [file for file in FILES if not set(types(example(file))) & {*READ_ONLY}])
def test_full_pool_heals(node: Node, file: str) -> None:
    """Fill the pool with pods, lose all but one without a DEL: the next pod starts, the live one keeps what it has."""
    conf = shrunk(example(file))
    dry = any(plugin.get("dryRun") for plugin in conf["plugins"])
    network = installed(node, conf)
    live, *dead = fill(node, network)
    its_own = addresses_of(live)
    for pod in dead:
        pod.delete()
    if dry:
        _, refused = add_to_fresh_pod(node, network)
        assert refused.rc != 0
        assert {line["container"] for line in node.log("would-reap")} == {pod.container_id for pod in dead}
        conf["plugins"] = [{key: value for key, value in plugin.items() if key != "dryRun"} for plugin in conf["plugins"]]
        node.conflist(network, conf["plugins"], conf["cniVersion"])
    fresh, ran = add_to_fresh_pod(node, network)
    ran.check()
    assert {owner for owner, _ in reservations(node, conf).values()} == {live.container_id, fresh.container_id}
    if "macvlan" not in types(conf) and not any("dataDir" in plugin for plugin in conf["plugins"]):
        assert_untouched(node, network, live, its_own)
    assert addresses_of(live) == its_own


@pytest.mark.parametrize("file", FILES)
def test_libcni_reads_it(node: Node, file: str) -> None:
    """As it is in the file, libcni loads it and comes as far as running its first plugin."""
    conf = example(file)
    node.write(f"{NET_D}/{file}", (EXAMPLES / file).read_text())
    for kind in types(conf):
        node.path(f"{BIN}/{kind}").unlink(missing_ok=True)
    ran = node.cnitool("add", conf["name"], node.pod())
    assert f'failed to find plugin "{types(conf)[0]}"' in ran.text


def test_all_networks_frees_those_of_another_network(node: Node) -> None:
    """With `"networks": ["*"]` a leak on a network that has us in no conflist is freed as well."""
    network = installed(node, shrunk(example("all-networks.conflist")))
    node.cnitool("add", network, node.pod()).check()
    node.reserve("another", "10.99.0.2", "dead" * 16)
    node.cnitool("add", network, node.pod()).check()
    assert node.reservations("another") == {}


@pytest.mark.parametrize("file", FILES)
def test_entry_stands_where_the_readme_says(file: str) -> None:
    """We are first, but second behind ipvlan; and where host-local's dataDir is another one, it is ours, too."""
    conf = example(file)
    place = types(conf).index("cni-reaper")
    assert place == (1 if "ipvlan" in types(conf) else 0)
    ours = conf["plugins"][place]
    data_dirs = {plugin["ipam"].get("dataDir") for plugin in conf["plugins"] if "ipam" in plugin}
    assert data_dirs <= {ours.get("dataDir")}
    assert ours.get("logFile", LOG_FILE) == LOG_FILE


def test_readme_has_every_file() -> None:
    """The table of the README says of every file how it is tested, and that is how."""
    text = Path(EXAMPLES / "README.md").read_text()
    table = dict(re.findall(r"^\| \[`([^`]+)`\]\([^)]*\) \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    expected = {}
    for file in FILES:
        kinds = set(types(example(file)))
        played = kinds & {*PLAYED}
        expected[file] = READS if kinds & {*READ_ONLY} else PLAYS.format(played.pop()) if played else RUN
    assert table == expected
