"""From version 0.1.0 to this one and back, with the real bundle of 0.1.0, while pods start and end: no ADD and no DEL fails.

CNI_REAPER_OLD_BUNDLE is the directory of that bundle. 0.1.0 froze the machine's own Python, and with 3.13 its commands did not
run: on such a machine there is none. tests/e2e has the same with a played layout.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import (
    FILE,
    LINK,
    OURS,
    executable,
    has_us,
    install,
    is_there,
    nothing_is_there,
    plugins,
    tree,
    uninstall,
    until,
    write,
)
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.programs import MissingProgramError

ROOT = f"{BIN}/.cni-reaper"
PLATFORM = [bridge(host_local("10.66.0.0/24"))]
DRY = {"dryRun": True}
PODS = 3
CALLS_EACH_TIME = 8
WITHIN_S = 60.0
LIVE = """
while [ ! -e /run/end ]; do
    for pod in "$@"; do
        for verb in add del; do
            "$CNITOOL" $verb net "/run/netns/$pod" >/run/said 2>&1 || { echo "$verb $pod" && cat /run/said; } >>/run/failed
            echo >>/run/calls
        done
    done
done
"""


@pytest.fixture
def old() -> str:
    """The executable of version 0.1.0."""
    directory = os.environ.get("CNI_REAPER_OLD_BUNDLE", "")
    if not directory:
        pytest.skip("this machine's Python cannot freeze version 0.1.0")
    if not Path(directory, "cni-reaper").exists():
        raise MissingProgramError(f"{directory} is no bundle of version 0.1.0: `./build.sh e2e` provides it")
    return f"{directory}/cni-reaper"


def calls(node: Node) -> int:
    """Return how many calls have ended."""
    path = node.path("/run/calls")
    return path.stat().st_size if path.exists() else 0


def wait_for_calls(node: Node) -> None:
    """Wait until some more calls have begun and ended."""
    before = calls(node)
    assert until(lambda: calls(node) > before + CALLS_EACH_TIME, WITHIN_S)


@contextmanager
def pods(node: Node) -> Iterator[None]:
    """Let pods start and end all the while, and see in the end that none of their calls has failed."""
    environment = {"NETCONFPATH": NET_D, "CNI_PATH": BIN, "CNI_IFNAME": "eth0", "CNITOOL": str(node.programs.cnitool)}
    names = [node.pod().name for _ in range(PODS)]
    running = node.start(["sh", "-c", LIVE, "sh", *names], env=environment)
    yield
    node.path("/run/end").touch()
    assert node.wait(running) == 0
    assert not node.path("/run/failed").exists(), node.read("/run/failed")
    assert node.reservations("net") == {}


def test_switching_versions_fails_no_pod(bare: Node, old: str) -> None:
    """Each version installs over the other, and is called from then on; the entry and its options stay as they are."""
    write(bare, PLATFORM)
    before = tree(bare, BIN)
    bare.run([old, "install", "--options", json.dumps(DRY)]).check()
    bundle = str(bare.path(LINK).readlink())
    with pods(bare):
        for _ in range(2):
            wait_for_calls(bare)
            assert f"{ROOT}: the files of version 0.1.0 stay" in install(bare).check().text
            assert is_there(bare)
            wait_for_calls(bare)
            write(bare, PLATFORM)
            install(bare).check()
            assert plugins(bare)[0] == {**OURS, **DRY}
            wait_for_calls(bare)
            bare.run([old, "install"]).check()
            assert str(bare.path(LINK).readlink()) == bundle
            assert plugins(bare)[0] == {**OURS, **DRY}
            bare.run([LINK, "version"]).check()
        wait_for_calls(bare)
        install(bare).check()
        wait_for_calls(bare)
        os.utime(bare.path(f"{BIN}/{bundle}").parent, (0, 0))
        install(bare).check()
        assert nothing_is_there(bare, ROOT)
        wait_for_calls(bare)
    assert {"reaped", "would-reap"} & {line["event"] for line in bare.log()} == set(), "no pod that lives is taken for dead"
    uninstall(bare, "--purge").check()
    assert tree(bare, BIN) == before
    assert nothing_is_there(bare, STATE_DIR)


def test_watchers_of_both_versions_keep_the_entry(bare: Node, old: str) -> None:
    """As while a DaemonSet is rolled out: both keep the entry in, neither replaces the other's executable, the bundle stays."""
    bare.run([old, "install"]).check()
    theirs = bare.start([LINK, "install", "--watch"])
    install(bare).check()
    ours = bare.start([executable(bare), "install", "--watch"])
    (bundle,) = [path for path in bare.path(ROOT).iterdir() if path.is_dir()]
    os.utime(bundle, (0, 0))
    for _ in range(3):
        write(bare, PLATFORM)
        assert until(lambda: has_us(bare))
        assert is_there(bare)
        assert bundle.exists()
    assert [bare.stop(one, signal.SIGTERM) for one in (theirs, ours)] == [0, 0]
    install(bare).check()
    assert nothing_is_there(bare, ROOT)


def test_uninstall_of_either_version_leaves_pods_starting(bare: Node, old: str) -> None:
    """This one's leaves nothing of 0.1.0, also where no runtime looks; and 0.1.0's leaves a node that starts pods."""
    elsewhere = "/srv/net.d/10-net.conflist"
    originals = write(bare, PLATFORM), write(bare, PLATFORM, elsewhere)
    before = tree(bare, BIN)
    bare.run([old, "install"]).check()
    bare.run([old, "install", "--conf-dir", "/srv/net.d"]).check()
    uninstall(bare).check()
    assert (bare.path(FILE).read_bytes(), bare.path(elsewhere).read_bytes()) == originals
    assert tree(bare, BIN) == before
    assert nothing_is_there(bare, STATE_DIR)
    install(bare).check()
    bare.run([old, "uninstall"]).check()
    assert bare.path(FILE).read_bytes() == originals[0]
    bare.cnitool("add", "net", bare.pod()).check()
