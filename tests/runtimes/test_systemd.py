"""packaging/systemd under a real systemd: what its README tells to do, on a system that boots, is rewritten, and boots again."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.runtimes.systemd import FILE, LIST, NET_D, Systemd, comes_back, has_us, rests, write
from tests.support.node import Node
from tests.support.waiting import until

PACKAGING = Path(__file__).parents[2] / "packaging" / "systemd"
HOME = "/root/clone"

KUBELET = f"[Service]\nType=oneshot\nExecStart=/bin/cp {FILE} /root/seen\n[Install]\nWantedBy=multi-user.target\n"
SOON = "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=1ms\n"
OLD_S = 31
INSTALL, OUT = re.findall(r"^```sh\n(.*?)^```", (PACKAGING / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def system(node: Node, tmp_path: Path) -> Iterator[Systemd]:
    """A system that has had pods, with a built clone, a conflist, and a kubelet that notes the conflist with which it starts."""
    made = Systemd(node, tmp_path / "root")
    made.path(f"{HOME}/dist").mkdir(parents=True)
    shutil.copy(node.programs.reaper, made.path(f"{HOME}/dist"))
    made.path(NET_D).mkdir(parents=True)
    made.path("/var/lib/cni/networks").mkdir(parents=True)
    made.path("/etc/systemd/system/kubelet.service").write_text(KUBELET)
    write(made)
    with made:
        yield made


def run(system: Systemd, block: str) -> None:
    """Run a block of the README."""
    system("bash", "-euc", f"cd {HOME}\n{block}").check()


def test_the_units_are_in_order(system: Systemd) -> None:
    """The real one itself finds nothing to say, and little that a break-in could reach."""
    run(system, INSTALL)
    units = [f"/etc/systemd/system/{path.name}" for path in PACKAGING.glob("cni-reaper-*")]
    assert len(units) == 4
    said = system("systemd-analyze", "verify", "--man=no", *units).check()
    assert said.text == ""
    for service, exposure in (("install", 20), ("mend", 40)):
        system("systemd-analyze", "security", "--no-pager", f"--threshold={exposure}", f"cni-reaper-{service}.service").check()


def test_entry_is_put_back_after_each_rewrite(system: Systemd) -> None:
    """In place, by rename, twice in a row, more often than the start limit, in a new directory; then out for good."""
    original = system.path(FILE).read_bytes()
    run(system, INSTALL)
    assert has_us(system)
    rests(system)
    for _ in range(7):
        write(system)
        comes_back(system, "a rewrite")
        write(system)
        comes_back(system, "a rewrite at once behind it")
        rests(system)
    system.path(f"{FILE}.tmp").write_bytes(original)
    system.path(f"{FILE}.tmp").rename(system.path(FILE))
    comes_back(system, "a rename")
    rests(system)
    system.path(NET_D).rename(system.path("/etc/cni/old.d"))
    system.path(NET_D).mkdir()
    write(system)
    comes_back(system, "another directory in its place")
    rests(system)
    run(system, OUT)
    assert system.path(FILE).read_bytes() == original
    assert not system.path("/opt/cni/bin/cni-reaper").exists()
    assert list(system.path("/etc/systemd/system").glob("**/cni-reaper*")) == []


def test_entry_is_back_before_the_kubelet(system: Systemd) -> None:
    """The platform has rewritten its conflist while the system went down."""
    run(system, INSTALL)
    system("systemctl", "enable", "kubelet.service").check()
    system.halt()
    write(system)
    system.boot()
    assert '"type": "cni-reaper"' in system.path("/root/seen").read_text()


def broken_file(system: Systemd) -> Path:
    """Write a broken entry of libcni's cache, as a power cut leaves it."""
    path = system.path(f"/var/lib/cni/results/net-{'d' * 64}-eth0")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


def test_broken_files_are_removed_before_the_kubelet(system: Systemd) -> None:
    """The unit alone, at boot: no pod has started, and no runtime is there to call anything."""
    run(system, INSTALL)
    system.path("/etc/systemd/system/kubelet.service").write_text(
        KUBELET.replace(f"/bin/cp {FILE}", "/bin/cp -r /var/lib/cni/results")
    )
    system("systemctl", "enable", "kubelet.service").check()
    system.halt()
    broken = broken_file(system)
    good = broken.with_name(f"net-{'a' * 64}-eth0")
    good.write_text("{}")
    until(lambda: time.time() - broken.stat().st_ctime > OLD_S, "it is old")
    system.boot()
    assert [path.name for path in system.path("/root/seen").iterdir()] == [good.name]
    assert system.state("cni-reaper-mend.service", "Result") == "success"


def test_broken_files_are_removed_while_no_pod_can_end(system: Systemd) -> None:
    """By the timer, here with a second for its minute, once the file is old enough."""
    run(system, INSTALL)
    drop_in = system.path("/etc/systemd/system/cni-reaper-install.timer.d/soon.conf")
    drop_in.parent.mkdir()
    drop_in.write_text(SOON)
    system("systemctl", "daemon-reload").check()
    system("systemctl", "restart", "cni-reaper-install.timer").check()
    broken = broken_file(system)
    until(lambda: not broken.exists(), "the timer has had it removed", 120)


def test_the_mending_unit_may_look_into_pods(system: Systemd) -> None:
    """What it is confined by leaves it what freeing an address needs: the host's mounts, and all network namespaces."""
    run(system, INSTALL)
    drop_in = system.path("/etc/systemd/system/cni-reaper-mend.service.d/look.conf")
    drop_in.parent.mkdir()
    command = "readlink /proc/self/ns/mnt /proc/1/ns/mnt; nsenter --net=/proc/1/ns/net ls -d /proc/1/root/etc; "
    command += "grep CapEff /proc/self/status"
    drop_in.write_text(f"[Service]\nStandardOutput=file:/root/seen\nExecStart=\nExecStart=/bin/sh -c '{command}'\n")
    system("systemctl", "daemon-reload").check()
    system("systemctl", "start", "cni-reaper-mend.service").check()
    mine, first, there, capabilities = system.path("/root/seen").read_text().splitlines()
    assert mine == first
    assert there == "/proc/1/root/etc"
    assert int(capabilities.split()[1], 16) == 1 << 1 | 1 << 19 | 1 << 21


def test_new_node_is_no_failure(system: Systemd) -> None:
    """No directory, no conflist, no failure; later there is one."""
    run(system, INSTALL)
    system.halt()
    shutil.rmtree(system.path("/etc/cni"))
    system.boot()
    assert system("systemctl", "is-system-running").text.strip() == "running"
    system.path(NET_D).mkdir(parents=True)
    write(system)
    comes_back(system, "the first conflist")


def test_the_timer_finds_what_no_path_tells(system: Systemd) -> None:
    """Here with seconds for its minute, and without the path unit."""
    run(system, INSTALL)
    system("systemctl", "stop", "cni-reaper-install.path").check()
    drop_in = system.path("/etc/systemd/system/cni-reaper-install.timer.d/soon.conf")
    drop_in.parent.mkdir()
    drop_in.write_text(SOON)
    system("systemctl", "daemon-reload").check()
    system("systemctl", "restart", "cni-reaper-install.timer").check()
    for _ in range(2):
        write(system)
        until(lambda: has_us(system), "the timer has looked")


def test_the_sandbox_holds(system: Systemd) -> None:
    """A directory that the unit does not name cannot be written to; and the unit fails, since its work is not done."""
    run(system, INSTALL)
    shutil.copytree(system.path(NET_D), system.path("/srv/net.d"))
    system.path("/srv/net.d/10-net.conflist").write_text(json.dumps(LIST))
    drop_in = system.path("/etc/systemd/system/cni-reaper-install.service.d/elsewhere.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecStart=\nExecStart=/opt/cni/bin/cni-reaper install --settle --conf-dir /srv/net.d\n")
    system("systemctl", "daemon-reload").check()
    assert system("systemctl", "start", "cni-reaper-install.service").rc == 1
    assert "Read-only file system" in system("journalctl", "--no-pager", "-u", "cni-reaper-install.service").text


def test_harvesters_cloudinit_commands_work(system: Systemd) -> None:
    """The commands of the resource, on a node where install was run: its units are at work."""
    system(f"{HOME}/dist/cni-reaper", "install").check()
    resource = yaml.safe_load((PACKAGING / "harvester-cloudinit.yaml").read_text())
    (step,) = yaml.safe_load(resource["spec"]["contents"])["stages"]["boot"]
    script = "\n".join((step["if"], *step["commands"]))
    system("sh", "-ec", script).check()
    until(lambda: system.state("cni-reaper-install.path", "ActiveState") == "active", "the path unit is at work")
    rests(system)
    write(system)
    comes_back(system, "a rewrite")
    for unit in ("path", "timer", "service"):
        assert system.state(f"cni-reaper-install.{unit}", "UnitFileState") == "enabled"
