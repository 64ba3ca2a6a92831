"""Install and uninstall read the node once, and once more under their lock: configuration, directories, conflists, the register.

What is read is told by the interpreter (sys.addaudithook), so the commands run from source.
"""

import json
import sys
from pathlib import Path

import orjson
import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import FILE, NOTES, has_us, install, write
from tests.support.node import Node
from tests.support.programs import ROOT

CONFIG = "/etc/containerd/config.toml"
COUNT = """
import json, os, sys
sys.path[:0] = {path}
seen = []
def watch(event, arguments):
    is_file = event == "open" and not arguments[2] & os.O_DIRECTORY
    if is_file or event in ("os.scandir", "os.listdir"):
        seen.append(str(arguments[0]))
sys.addaudithook(watch)
from cni_reaper_plugin.operator import cli
from cni_reaper_plugin.operator.executable import plugin_dir
from cni_reaper_plugin.operator.install import uninstall
plugin_dir.place, plugin_dir.is_placed = lambda _: False, lambda _: True  # only the frozen executable can copy itself
uninstall.SETTLE_S = 0.0
code = cli.run({arguments})
sys.stderr.write("\\n" + json.dumps([code, seen]))
"""


def reads(node: Node, *arguments: str) -> dict[str, int]:
    """Run a command from source, and return how often it has read each path or listed the directory."""
    path = [str(ROOT), str(Path(orjson.__file__).parent.parent)]
    ran = node.run([sys.executable, "-I", "-S", "-c", COUNT.format(path=path, arguments=list(arguments))]).check()
    code, seen = json.loads(ran.err.decode().splitlines()[-1])
    assert code == 0, str(ran)
    return {one: seen.count(one) for one in (CONFIG, NET_D, FILE, NOTES)}


@pytest.fixture
def rewritten(bare: Node) -> Node:
    """A node whose conflist the platform has written again since we were put into it."""
    bare.write(CONFIG, f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{BIN}"\nconf_dir = "{NET_D}"\n')
    install(bare).check()
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    return bare


def test_install_reads_once(rewritten: Node) -> None:
    """And once more under the lock; the file that it replaces is opened there by its name, to be compared."""
    assert reads(rewritten, "install") == {CONFIG: 1, NET_D: 2, FILE: 2, NOTES: 2}
    assert has_us(rewritten)


def test_uninstall_reads_once(rewritten: Node) -> None:
    """And once more when the runtimes have loaded the new conflist, then under the lock, before and behind the records."""
    install(rewritten).check()
    assert reads(rewritten, "uninstall") == {CONFIG: 1, NET_D: 4, FILE: 4, NOTES: 2}
    assert not has_us(rewritten)


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_dry_run_reads_once(rewritten: Node, verb: str) -> None:
    """It takes no lock."""
    assert reads(rewritten, verb, "--dry-run") == {CONFIG: 1, NET_D: 1, FILE: 1, NOTES: 1}
