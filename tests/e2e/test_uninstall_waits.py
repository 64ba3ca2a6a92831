"""The executable stays for as long as something may call it: a runtime, a call that runs, another conflist."""

import json
import os
import signal

import pytest

from tests.support.cni_calls import NET_D, bridge, host_local
from tests.support.install import FILE, LINK, OURS, has_us, install, is_there, nothing_is_there, plugins, tree, uninstall, write
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR


def test_executable_and_records_stay_while_a_runtime_may_call(bare: Node) -> None:
    """CRI-O and multus replay at a DEL the list of the ADD: it must find us, and the last one leaves nothing."""
    install(bare).check()
    pod = bare.pod()
    chain = bare.path(FILE).read_bytes()
    bare.cnitool("add", "net", pod).check()
    said = uninstall(bare).check().text
    assert "1 attachments" in said
    assert OURS not in plugins(bare)
    assert bare.path(LINK).exists()
    assert tree(bare, STATE_DIR)
    after = bare.path(FILE).read_bytes()
    bare.path(FILE).write_bytes(chain)  # what the runtime has in its cache
    bare.cnitool("del", "net", pod).check()
    bare.path(FILE).write_bytes(after)
    assert bare.reservations("net") == {}
    uninstall(bare).check()
    assert nothing_is_there(bare)
    assert not bare.path(STATE_DIR).exists()


def test_purge_does_not_wait_for_runtimes(bare: Node) -> None:
    """A person who knows that the runtime is containerd need not wait."""
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare)
    assert not bare.path(STATE_DIR).exists()
    assert bare.reservations("net") != {}, "a reservation is never removed by it"


def test_records_stay_while_another_conflist_has_us(bare: Node) -> None:
    """An entry elsewhere on the node goes by them, and calls our executable."""
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    write(bare, [OURS, bridge(host_local("10.67.0.0/29"))], f"{NET_D}/20-other.conflist", name="other")
    said = uninstall(bare, "--conflist", FILE, "--purge").check().text
    assert "20-other.conflist" in said
    assert bare.path(LINK).exists()
    assert tree(bare, STATE_DIR)


def test_entry_put_back_keeps_the_executable(bare: Node) -> None:
    """A watcher that still runs: it is said, and the executable stays."""
    install(bare).check()
    watcher = bare.start([LINK, "install", "--watch"])
    ran = uninstall(bare)
    assert ran.rc == 1
    assert "back" in ran.text
    assert bare.path(LINK).exists()
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert plugins(bare)[0] == OURS


def test_uninstall_waits_for_multus(bare: Node) -> None:
    """Its copy still has us: what it would call stays."""
    install(bare).check()
    copy = {"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus", "delegates": [json.loads(bare.read(FILE))]}
    bare.write(f"{NET_D}/00-multus.conf", json.dumps(copy))
    ran = uninstall(bare, "--purge")
    assert ran.rc == 1
    assert "multus has still a copy" in ran.text
    assert bare.path(LINK).exists()


@pytest.mark.parametrize("how", ["too large", "an error of the disk", "a directory that cannot be listed"])
def test_the_executable_stays_when_a_conflist_cannot_be_read(bare: Node, how: str) -> None:
    """A runtime may load it, with us in it."""
    install(bare).check()
    if how == "too large":
        bare.path(FILE).write_bytes(bare.path(FILE).read_bytes() + b" " * (1 << 20))
        ran = uninstall(bare, "--purge")
    else:
        path = FILE if how == "an error of the disk" else NET_D
        inject = ["strace", "-f", "-o", "/dev/null", "-P", path, "-e", "trace=openat", "-e", "inject=openat:error=EIO"]
        ran = bare.run([*inject, LINK, "uninstall", "--purge"])
    assert ran.rc == 1
    assert (NET_D if how == "a directory that cannot be listed" else FILE) in ran.text
    assert bare.path(LINK).exists()
    assert plugins(bare)[0] == OURS


def test_where_no_runtime_is_seen_the_executable_stays(bare: Node) -> None:
    """From a container that sees no cache of a runtime, and only what install has made itself."""
    bare.path(DATA_DIR).rmdir()
    install(bare).check()
    assert os.listdir(bare.path("/var/lib/cni")) == ["reaper"]
    assert "whether one can still call it is not to be seen" in uninstall(bare).check().text
    assert is_there(bare)
    assert not has_us(bare)
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare)
    assert os.listdir(bare.path("/var/lib/cni")) == []


def test_uninstall_waits_for_a_call_that_runs(bare: Node) -> None:
    """A plugin of the chain still runs, and its runtime will call the rest of the old list: the executable stays meanwhile."""
    install(bare).check()
    call = bare.start(["sleep", "infinity"], env={"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a-slow-one"})
    ran = uninstall(bare, "--purge")
    assert ran.rc == 1
    assert "a-slow-one" in ran.text
    assert not has_us(bare)
    assert is_there(bare)
    bare.stop(call)
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare, LINK)
