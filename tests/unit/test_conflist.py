"""Conflists as the doctor reads them: as libcni loads them, whatever JSON stands in them."""

import os
from pathlib import Path
from typing import Any

import pytest

from cni_reaper_plugin.operator.conflists import conflist
from cni_reaper_plugin.operator.conflists.conflist import Conflist, ConflistError
from tests.unit.conflists import BRIDGE, HOST_LOCAL, of, written

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e300,
    "",
    "a",
    "../x",
    "a\0b",
    [],
    [None],
    [[]],
    [{}],
    {},
    {"": 1},
    {"type": 7},
    [[{"subnet": []}]],
)


def test_loads_a_list(tmp_path: Path) -> None:
    """Name, version and plugins are as they are in the file."""
    path = written(tmp_path, of({"type": "cni-reaper", "dryRun": True}, BRIDGE))
    read = conflist.load(path)
    assert read == Conflist(path, "net", "1.0.0", [{"type": "cni-reaper", "dryRun": True}, BRIDGE])
    assert read.types == ["cni-reaper", "bridge"]
    assert read.ours == [{"type": "cni-reaper", "dryRun": True}]


def test_wraps_a_single_plugin(tmp_path: Path) -> None:
    """A .conf is one plugin."""
    read = conflist.load(written(tmp_path, {"name": "net", **BRIDGE}, "10-net.conf"))
    assert (read.types, read.single, read.version) == (["bridge"], True, "0.1.0")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (b"", "parsed as JSON"),
        (b"{", "parsed as JSON"),
        (b'"\xff"', "parsed as JSON"),
        (b"[" * 100_000, "parsed as JSON"),
        ([], "no JSON object"),
        ({"plugins": [BRIDGE]}, "`name`"),
        (of(BRIDGE, name="../../etc"), "`name`"),
        (of(BRIDGE, name=7), "`name`"),
        (of(BRIDGE, cniVersion=1), "`cniVersion`"),
        (of(), "`plugins`"),
        ({"name": "net", "type": "bridge"}, "`plugins`"),
        (of(BRIDGE, 7), "entry 2"),
        (of({"type": ""}), "entry 1"),
        (of({"type": ["bridge"]}), "entry 1"),
    ],
)
def test_refuses_what_the_runtime_refuses(tmp_path: Path, told: object, says: str) -> None:
    """One sentence says what is wrong and what to do."""
    with pytest.raises(ConflistError) as refused:
        conflist.load(written(tmp_path, told))
    assert says in str(refused.value)
    assert ": " in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_list_in_a_conf_is_refused(tmp_path: Path) -> None:
    """The runtimes decide by the name of the file."""
    with pytest.raises(ConflistError, match=r"\.conflist"):
        conflist.load(written(tmp_path, of(BRIDGE), "10-net.conf"))


def test_refuses_files_that_are_none(tmp_path: Path) -> None:
    """A FIFO does not block, a device is not opened, a directory and a dangling link are named."""
    os.mkfifo(tmp_path / "a.conflist")
    (tmp_path / "b.conflist").symlink_to("/dev/zero")
    (tmp_path / "c.conflist").symlink_to("nowhere")
    (tmp_path / "d.conflist").mkdir()
    (tmp_path / "e.conflist").write_bytes(b" " * (1 << 21))
    (tmp_path / "f.conflist").symlink_to("/proc/self/mem")
    found = conflist.found([str(tmp_path)])
    assert [Path(path).name for path, _ in found] == ["a.conflist", "b.conflist", "c.conflist", "e.conflist", "f.conflist"]
    says = ["no regular file", "no regular file", "leads to no file", "more than", "cannot be read"]
    assert [text in str(error) for text, (_, error) in zip(says, found, strict=True)] == [True] * 5


@pytest.mark.parametrize("key", ["plugins", "name", "cniVersion", "loadOnlyInlinedPlugins"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_any_value_in_a_list_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    """A hostile value is refused or read, and nothing else comes of it."""
    written(tmp_path, of({"type": "cni-reaper"}, BRIDGE, **{key: value}))
    look_at(conflist.found([str(tmp_path)]))


@pytest.mark.parametrize(
    "key", ["type", "ipam", "delegate", "delegates", "clusterNetwork", "master", "dataDir", "ranges", "subnet"]
)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_any_value_in_a_plugin_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    """The same below `plugins`, in each kind of plugin that is looked into, and in its ipam section."""
    kinds = ("bridge", "flannel", "multus", "multus-shim", "ipvlan", "cilium-cni", "cni-reaper")
    for number, kind in enumerate(kinds):
        written(tmp_path, of({"type": kind, key: value}), f"{number}0.conflist")
        written(tmp_path, of({"type": kind, "ipam": {**HOST_LOCAL, key: value}}), f"{number}1.conflist")
        written(tmp_path, of({"type": kind, "delegate": {"ipam": {key: value}}}), f"{number}2.conflist")
        written(tmp_path, {"name": "net", "type": kind, key: value}, f"{number}3.conf")
    look_at(conflist.found([str(tmp_path)]))


def look_at(found: Any) -> None:
    """Ask all that can be asked of what was found."""
    from cni_reaper_plugin.operator.conflists import entry
    from cni_reaper_plugin.operator.doctor import conflists

    for _, one in found:
        if isinstance(one, Conflist):
            conflist.ipams(one), conflist.delegates(one), conflist.cluster_network(one), conflist.drop_ins(one)
            list(conflists.check([(one.path, one)]))
    for finding in conflists.check(found):
        assert finding.level
    entry.settings_of(found)


def test_finds_in_the_order_of_the_runtime(tmp_path: Path) -> None:
    """Three kinds of names, sorted; others are not looked at."""
    for name in ("b.conf", "a.json", "c.conflist", "A.conflist", "d.conflist.new", "e", ".z.conflist"):
        written(tmp_path, of(BRIDGE) if name.endswith(".conflist") else {"name": "net", "type": "bridge"}, name)
    assert [Path(path).name for path, _ in conflist.found([str(tmp_path)])] == [
        ".z.conflist",
        "A.conflist",
        "a.json",
        "b.conf",
        "c.conflist",
    ]
    assert conflist.found([str(tmp_path / "nowhere")]) == []


@pytest.mark.parametrize(
    ("plugin", "sections"),
    [
        (BRIDGE, [("bridge", "host-local", "/var/lib/cni/networks")]),
        (
            {"type": "ptp", "ipam": {**HOST_LOCAL, "dataDir": "/run/x/", "ranges": 7, "subnet": "10.1.0.0/24"}},
            [("ptp", "host-local", "/run/x")],
        ),
        ({"type": "flannel", "delegate": {"isDefaultGateway": True}}, [("flannel", "host-local", "/var/lib/cni/networks")]),
        ({"type": "flannel", "delegate": {"ipam": {"dataDir": "/x"}}}, [("flannel", "host-local", "/x")]),
        ({"type": "flannel", "dataDir": "/scratch"}, [("flannel", "host-local", "/var/lib/cni/networks")]),
        ({"type": "calico", "ipam": {"type": "calico-ipam"}}, [("calico", "calico-ipam", "/var/lib/cni/networks")]),
        ({"type": "portmap"}, []),
        ({"type": "macvlan", "ipam": {}}, []),
    ],
)  # fmt: skip
def test_finds_each_siblings_ipam_section(tmp_path: Path, plugin: Any, sections: list[Any]) -> None:
    """Each sibling's section is found, also where a plugin delegates, with host-local's own defaults."""
    read = conflist.load(written(tmp_path, of({"type": "cni-reaper"}, plugin)))
    assert [one[:4] for one in conflist.ipams(read)] == [(kind, own, data_dir, "net") for kind, own, data_dir in sections]
    assert conflist.host_local(read) == [one for one in conflist.ipams(read) if one.kind == "host-local"]


def test_finds_what_multus_holds(tmp_path: Path) -> None:
    """The copies of other configurations that are in multus' own file, a list or one plugin; a path where it has that."""
    inlined = {"type": "multus", "name": "multus", "delegates": [of(BRIDGE), {"name": "one", "type": "ptp"}, 7, {}]}
    read = conflist.load(written(tmp_path, inlined, "00-multus.conf"))
    assert [(one.name, one.types) for one in conflist.delegates(read)] == [("net", ["bridge"]), ("one", ["ptp"])]
    assert read.is_multus
    shim = {"type": "multus-shim", "name": "multus", "clusterNetwork": "/etc/cni/net.d/10-net.conflist"}
    assert conflist.cluster_network(conflist.load(written(tmp_path, shim, "00-multus.conf"))) == shim["clusterNetwork"]


def test_finds_drop_ins_unless_the_list_says_no(tmp_path: Path) -> None:
    """What libcni 1.3 appends: `<name>/*.conf`, unless the list says no."""
    (tmp_path / "net").mkdir()
    written(tmp_path / "net", {"type": "cni-reaper"}, "10.conf")
    written(tmp_path / "net", {"type": "tuning"}, "20.conflist")
    written(tmp_path / "net", b"{", "30.conf")
    assert conflist.drop_ins(conflist.load(written(tmp_path, of(BRIDGE)))) == [{"type": "cni-reaper"}]
    assert conflist.drop_ins(conflist.load(written(tmp_path, of(BRIDGE, loadOnlyInlinedPlugins=True)))) == []
