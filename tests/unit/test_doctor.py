"""The doctor's parts without a node: where runtimes look, the place in a chain; each finding is documented and tested."""

import ast
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import NEEDS_NO_POD
from cni_reaper_plugin.operator.conflists import conflist, runtimes
from cni_reaper_plugin.operator.doctor import catalogue, conflists, host
from cni_reaper_plugin.operator.doctor.catalogue import ERROR, KINDS, WARNING, Kind
from cni_reaper_plugin.options import Settings
from tests import doctor_table
from tests.support.programs import ROOT
from tests.unit.conflists import BRIDGE, of, written

EXAMPLES = sorted((ROOT / "conflist-examples").glob("*.conflist"))
OPERATOR = ROOT / "cni_reaper_plugin" / "operator"
CONTAINERD_1 = '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/b/"\nconf_dir = "/c/"\n'
CONTAINERD_2 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/b', 7, 'x', '/d']\n"
CRIO = '[crio.network]\nnetwork_dir = "/c"\nplugin_dirs = ["/b"]\n'


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_in_place(tmp_path: Path, example: Path) -> None:
    """Of no file of conflist-examples/ the doctor says anything that is a warning."""
    written(tmp_path, example.read_bytes(), example.name)
    found = list(conflists.check(conflist.found([str(tmp_path)])))
    assert [one for one in found if one.level in (WARNING, ERROR)] == []
    assert {"in-place", "same-store"} <= {one.key for one in found}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_without_entry_are_found(tmp_path: Path, example: Path) -> None:
    """And each of them without our entry is one that it wants changed."""
    read = conflist.load(str(example))
    others = [plugin for plugin in read.plugins if plugin["type"] != "cni-reaper"]
    written(tmp_path, of(*others, name=read.name), example.name)
    assert "not-in-chain" in {one.key for one in conflists.check(conflist.found([str(tmp_path)]))}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (CONTAINERD_1, runtimes.Place("/c", [["/b"]])),
        (CONTAINERD_2, runtimes.Place(runtimes.ETC, [["/b", "/d"]])),
        (CRIO, runtimes.Place("/c", [["/b"]])),
    ],
)
def test_directories_come_from_the_runtimes_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: runtimes.Place
) -> None:
    """The directories in a runtime's configuration count; without them its defaults."""
    told(tmp_path, monkeypatch, text)
    ((found,), unread) = runtimes.places([place.conf_dir], [])
    assert (found._replace(defaults=[]), unread) == (place, [])
    assert runtimes.places([place.conf_dir], ["/own"]) == ([runtimes.Place(place.conf_dir, [["/own"]])], [])
    assert runtimes.places(["/elsewhere"], [])[0][0].bin_dirs == ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]


@pytest.mark.parametrize(
    "text",
    ["plugins = 7", "crio = []", "[crio]\nnetwork = 1", "[plugins]\na = 1", "[plugins.a]\ncni = ''", CRIO.replace('"/c"', "{}"),
     'crio.network.network_dir = "/\\u0000"']
)  # fmt: skip
def test_hostile_configurations_get_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Whatever stands in a runtime's configuration, there is an answer."""
    told(tmp_path, monkeypatch, text)
    found, unread = runtimes.places([], [])
    assert unread == []
    assert all(one.bin_dirs for one in found)


@pytest.mark.parametrize("text", ["", "[", "a = 1979-99-99", "\0"])
def test_broken_configuration_is_named_and_defaults_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """It is named, and the defaults count."""
    config = told(tmp_path, monkeypatch, text)
    found, unread = runtimes.places(["/c"], [])
    assert [one.partition(": ")[0] for one in unread] == ([str(config)] if text else [])
    assert found[0].bin_dirs


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """Let there be one runtime with a configuration; return its path."""
    config = tmp_path / "config.toml"
    config.write_text(text)
    runtime = runtimes.RUNTIMES[0]._replace(configs=(str(config),))
    monkeypatch.setattr(runtimes, "RUNTIMES", (runtime, *(one._replace(configs=()) for one in runtimes.RUNTIMES[1:])))
    return config


def test_given_directories_replace_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those given count; else those that exist, each once."""
    told(tmp_path, monkeypatch, f'[crio.network]\nnetwork_dir = "{tmp_path}/"\n')
    assert runtimes.directories(["/a", "/b"]) == ["/a", "/b"]
    assert str(tmp_path) in runtimes.directories([])
    assert [one for one in runtimes.directories([]) if not Path(one).is_dir()] == []


def test_syslog_is_a_socket(tmp_path: Path) -> None:
    """A file at /dev/log is no syslog."""
    path = tmp_path / "log"
    assert not host.has_syslog(str(path))
    path.touch()
    assert not host.has_syslog(str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        assert host.has_syslog(str(path))


def test_file_system_is_that_of_its_mount() -> None:
    """The mount that a path is below of says it, whether the path is there or not."""
    assert host.file_system("/proc/self/nowhere") == "proc"
    assert host.file_system("/processes") == host.file_system("/")


def test_host_before_its_first_add_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own namespaces, which no test has: what an ADD of a boot allows before there was one is no warning."""
    monkeypatch.setattr(proven_views, "own_view", lambda: [1, 2, 3])
    monkeypatch.setattr(proven_views, "proven", lambda _: [])
    monkeypatch.setattr(proven_views, "allowance", lambda *_: NEEDS_NO_POD)
    assert "view-not-yet" in {one.key for one in host.check([("", Settings())])}


@pytest.mark.parametrize(
    ("profile", "confined"), [("snap.microk8s.daemon-containerd (enforce)", True), ("unconfined", False), ("", False)]
)
def test_strict_snap_is_told_by_its_profile(monkeypatch: pytest.MonkeyPatch, profile: str, confined: bool) -> None:
    """The runtime's AppArmor profile, which the kernel of the tests has not, tells a strict snap."""
    own_name = Path("/proc/self/comm").read_text().strip()
    monkeypatch.setattr(host, "RUNTIMES", (own_name,))
    monkeypatch.setattr(host, "_confinement", lambda _: profile)
    assert ("strict-snap" in {one.key for one in host.check([("", Settings())])}) is confined


@pytest.mark.parametrize(
    ("plugins", "key"),
    [
        ([{"type": "ipvlan", "ipam": BRIDGE["ipam"]}, {"type": "cni-reaper"}], "in-place"),
        ([{"type": "ipvlan", "master": "eth0", "ipam": BRIDGE["ipam"]}, {"type": "cni-reaper"}], "in-place"),
        ([{"type": "cni-reaper"}, {"type": "ipvlan", "master": "eth0", "ipam": BRIDGE["ipam"]}], "in-place"),
        ([{"type": "cni-reaper"}, {"type": "ipvlan", "ipam": BRIDGE["ipam"]}], "must-be-second"),
        ([{"type": "ipvlan", "ipam": BRIDGE["ipam"]}, {"type": "tuning"}, {"type": "cni-reaper"}], "must-be-second"),
        ([{"type": "cni-reaper"}, {"type": "cilium-cni", "ipam": BRIDGE["ipam"]}], "must-be-second"),
        ([{"type": "cni-reaper"}, {"type": "cilium-cni", "chaining-mode": "x", "ipam": BRIDGE["ipam"]}], "in-place"),
        ([{"type": "cni-reaper"}, {"type": "loopback"}], "must-be-second"),
        ([{"type": "cni-reaper"}], "in-place"),
        ([BRIDGE, {"type": "cni-reaper"}], "not-first"),
        ([{"type": "tuning"}, {"type": "cni-reaper"}, BRIDGE], "not-first"),
    ],
)  # fmt: skip
def test_place_is_the_head_or_second(tmp_path: Path, plugins: list[Any], key: str) -> None:
    """The head, but second behind what takes a head's answer for more than it is."""
    written(tmp_path, of(*plugins))
    keys = [one.key for one in conflists.check(conflist.found([str(tmp_path)]))]
    assert [one for one in keys if one in ("in-place", "must-be-second", "not-first")] == [key]


def test_every_finding_is_documented() -> None:
    """The tables of docs/doctor.md are those of the catalogue: `python -m tests.doctor_table` writes them."""
    text = doctor_table.DOCUMENT.read_text()
    assert doctor_table.written(text) == text


def kinds_in(node: ast.AST) -> list[Kind]:
    """Return the kinds that an expression of the doctor names, as `catalogue.NAME`."""
    names = [
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "catalogue"
    ]
    return [one for one in (getattr(catalogue, name) for name in names) if isinstance(one, Kind)]


def test_every_finding_is_found_somewhere() -> None:
    """Each kind is told by the code, with the values that its sentences name and no other; and a test waits for each key."""
    told = []
    for file in (OPERATOR / "doctor").glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "at":
                kinds = kinds_in(call.func.value)
                told += kinds
                for kind in kinds:
                    named = set(re.findall(r"{([a-z_]+)}", kind.what + kind.advice)) - {"entry"}
                    assert {one.arg for one in call.keywords} == named, ast.unparse(call)
    assert set(told) == set(KINDS)
    tests = "".join(
        (ROOT / "tests/e2e" / name).read_text()
        for name in ("test_stray_ports.py", "test_doctor.py", "test_stores.py", "test_mend_command.py")
    )
    tests += Path(__file__).read_text()
    assert [one.key for one in KINDS if f'"{one.key}"' not in tests] == []


def test_levels_are_known() -> None:
    """A key has one of four levels, wherever it is told; what is more than a note says what to do."""
    levels = {one.key: one.level for one in KINDS}
    assert set(levels.values()) == set(catalogue.LEVELS)
    assert [one for one in KINDS if one.level != levels[one.key] or one.section not in catalogue.SECTIONS] == []
    assert [one.key for one in KINDS if one.level in (WARNING, ERROR) and not one.advice] == []
