"""The arrows of the house: who may know whom, who may delete a file, and what the start of a pod pays for.

The imports are read from the source, those inside functions and under TYPE_CHECKING too. What the hot path really imports is
then seen in a bare interpreter that runs VERSION, ADD and DEL on a healthy private node.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.support.cni_calls import Pod
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, LOG_FILE
from tests.support.programs import ROOT

sys.path.insert(0, str(ROOT / "packaging"))
import modules

PACKAGE = "cni_reaper_plugin"
FLOORS = (
    ("__main__",),
    ("plugin", "operator"),
    ("reaper",),
    ("published", "mend"),
    ("notices", "metrics"),
    ("evidence",),
    ("memory", "namespaces"),
    ("network_sweep",),
    ("host_local",),
    ("options", "other_nodes"),
    ("scan_model",),
    ("model",),
    ("attachment", "cni_versions", "event_log", "reasons", "system"),
)
"""Top to bottom. Arrows go down, never up nor sideways; within plugin, evidence and operator there are rules of their own."""
OPERATOR_FLOORS = (
    ("cli",),
    ("doctor", "watch"),
    ("inspect",),
    ("mend",),
    ("install",),
    ("executable", "scope"),
    ("conflists",),
    ("advice", "commandline", "interruption", "lock_file", "terminal"),
)
"""The same within operator. Nothing that installs knows what diagnoses."""
NAMES_ONLY = {("model", "scan_model")}
"""model and scan_model are one subject, in two modules since only the first is hot: it names the other's types."""
PUT_TOGETHER = ("evidence.quick_evidence", "evidence.kin", "evidence.full_evidence")
"""What puts the sources of evidence together; all other modules of evidence are sources."""
HOT_STDLIB = {"posix", "fcntl", "orjson", "_kernel"}
FOR_TYPES = {"__future__", "typing"}
"""What the freeze takes out of a hot module: packaging/modules.py."""
HOT_OF_VERSION = {"", "__main__", "cni_versions", "event_log", "plugin", "plugin.call", "plugin.errors", "plugin.version"}
"""All that VERSION imports."""
COLD = (
    "notices.no_reservations",
    "plugin.first_del",
    "plugin.other_owner",
    "system.conntrack",
    "reaper.lifeless_count",
    "notices.store_elsewhere",
    "evidence.full_evidence",
    "namespaces.addresses",
    "namespaces.assigned",
    "evidence.kin",
    "evidence.libcni_cache",
    "evidence.runtime_names",
    "namespaces.user_namespaces",
    "namespaces.peer_addresses",
    "evidence.proof",
    "namespaces.shown_addresses",
    "memory.waiting_owners",
    "namespaces.visible",
    "operator.executable.frozen",
    "reaper.gate",
    "reaper.full_scan",
    "notices.lifeless",
    "mend",
    "metrics",
    "system.network_file_system",
    "notices.said_once",
    "operator",
    "other_nodes",
    "operator.executable.packed",
    "host_local.pool",
    "system.programs",
    "published",
    "reaper.reap_network",
    "reaper.report",
    "system.rtnetlink",
    "scan_model",
    "notices.shared_store",
    "host_local.store_key",
)
MAY_UNLINK = {"host_local.store", "evidence.records", "system.files", "mend.removal"}
INSTALLERS = {
    "operator.conflists.drop_in",
    "operator.executable.plugin_dir",
    "operator.install.installation",
    "operator.install.state_removal",
    "operator.executable.legacy_bundle",
    "operator.conflists.atomic_edit",
}
"""What a person's install and uninstall write and remove: executable, conflists, what is left of ours. No runtime calls them."""


@dataclass(frozen=True)
class Import:
    """One import. module, target: below the package ("" is the package itself), or a foreign top-level name; line: where."""

    module: str
    target: str
    line: int
    foreign: bool
    lazy: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of the package, by module name below it."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text())
    return found


TREES = trees()


def lazy_nodes(tree: ast.AST) -> set[ast.AST]:
    """Return the nodes that do not run when the module is imported: in functions and under TYPE_CHECKING."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found.update(ast.walk(node))
    return found


def targets(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[str]:
    """Return the full names that a statement imports; `from package import name` is the module `name` where there is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, f"{module}:{node.lineno}: a relative import hides where the arrow goes"
    base = node.module or ""
    below = base.removeprefix(PACKAGE).lstrip(".")
    for alias in node.names:
        inner = f"{below}.{alias.name}".lstrip(".")
        yield f"{PACKAGE}.{inner}" if base.startswith(PACKAGE) and inner in TREES else base


def imports() -> list[Import]:
    """Return every import of the package."""
    found = []
    for module, tree in TREES.items():
        lazy = lazy_nodes(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in targets(node, module):
                    ours = name == PACKAGE or name.startswith(PACKAGE + ".")
                    target = name.removeprefix(PACKAGE).lstrip(".") if ours else name.partition(".")[0]
                    found.append(Import(module, target, node.lineno, not ours, node in lazy))
    return found


IMPORTS = imports()
OURS = [one for one in IMPORTS if not one.foreign and (one.module, one.target) not in NAMES_ONLY]


def room(module: str) -> str:
    """Return the first part of a module's name."""
    return module.partition(".")[0]


def floor(module: str) -> int:
    """Return the number of a module's floor from the top; the package itself, which imports nothing, is below all."""
    if not module:
        return len(FLOORS)
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def against(rule: Any) -> list[str]:
    """Return our own imports that a rule calls forbidden."""
    return [str(one) for one in OURS if rule(one)]


def test_every_module_has_its_floor() -> None:
    """A new module is put on a floor before it is imported by anyone."""
    assert [module for module in TREES if module and room(module) not in sum(FLOORS, ())] == []
    assert [name for rooms in FLOORS for name in rooms if name not in TREES] == []


def test_arrows_go_down() -> None:
    """No module imports one of a floor above, or another room of its own floor."""
    assert against(lambda one: room(one.module) != room(one.target) and floor(one.target) <= floor(one.module)) == []


def test_arrows_go_down_within_operator() -> None:
    """What a person sees has floors of its own: commands above, what they share below."""

    def floor_of(module: str) -> int:
        return next(number for number, rooms in enumerate(OPERATOR_FLOORS) if module.split(".")[1] in rooms)

    inside = [one for one in OURS if one.module.startswith("operator.") and one.target.startswith("operator.")]
    assert [name for rooms in OPERATOR_FLOORS for name in rooms if f"operator.{name}" not in TREES] == []
    up = [one for one in inside if one.module.split(".")[1] != one.target.split(".")[1]]
    assert [str(one) for one in up if floor_of(one.target) <= floor_of(one.module)] == []


def test_the_package_itself_imports_nothing() -> None:
    """Importing any module imports the package first, so it must be empty."""
    rooms = {module.rpartition(".")[0] for module in TREES if module}
    assert [str(one) for one in IMPORTS if one.module in rooms] == []


def test_there_are_no_circles() -> None:
    """Within a room, too, the imports have a direction."""
    known = {module: {one.target for one in OURS if one.module == module} for module in TREES}
    while leaves := [module for module, knows in known.items() if not knows & set(known) - {module}]:
        for leaf in leaves:
            del known[leaf]
    assert known == {}


def test_who_counts() -> None:
    """What is counted is what came of a sweep, and of a look for broken files; it asks neither store nor judge."""
    assert {one.module for one in OURS if one.target == "metrics"} == {"reaper.sweep", "mend.when", "operator.mend.mend"}
    assert {one.target for one in OURS if one.module == "metrics"} == {
        "",
        "event_log",
        "system.files",
        "system.flock",
        "network_sweep",
        "reasons",
    }


def test_decision_imports_the_model_only() -> None:
    """The decision reads no file and no clock: it knows model and reasons only. `other_nodes` is a part of it."""
    assert {one.target for one in IMPORTS if one.module in ("reaper.decision", "other_nodes")} == {
        "model",
        "other_nodes",
        "reasons",
    }


def test_evidence_knows_neither_decision_nor_store() -> None:
    """Whoever gathers evidence neither judges it nor can remove anything."""
    gathers = ("evidence", "memory", "namespaces")
    assert against(lambda one: room(one.module) in gathers and room(one.target) in ("reaper", "host_local")) == []


def test_sources_of_evidence_do_not_know_each_other() -> None:
    """One source of evidence a module; only PUT_TOGETHER knows several, and only the full scan asks for all.

    One netns, all netns, and whose they are: one subject, in three modules since only the first is hot.
    """
    sources = ("evidence", "namespaces")

    def crosses(one: Import) -> bool:
        if {one.module, one.target} <= {"namespaces.visible", "namespaces.user_namespaces", "namespaces.netns"}:
            return False
        return room(one.module) in sources and one.module not in PUT_TOGETHER and room(one.target) in sources

    assert against(crosses) == []
    assert {one.module for one in OURS if one.target == "evidence.full_evidence"} == {"reaper.full_scan"}
    assert {one.module for one in OURS if one.target == "evidence.quick_evidence"} == {
        "reaper.quick_scan",
        "evidence.full_evidence",
    }


def test_runtime_and_person_do_not_know_each_other() -> None:
    """The rooms plugin and operator have nothing of each other; both come in by the one door."""
    assert against(lambda one: {room(one.module), room(one.target)} == {"plugin", "operator"}) == []
    assert {one.module for one in OURS if room(one.target) == "operator" and room(one.module) != "operator"} == {"__main__"}


def test_only_the_sweep_judges() -> None:
    """There is one way from evidence to a removed file."""
    assert {one.module for one in OURS if one.target == "reaper.decision"} == {
        "reaper.reap_network",
        "reaper.full_scan",
        "reaper.quick_scan",
    }


def test_nobody_imports_the_door() -> None:
    """`__main__` ends the process, so it is for the interpreter alone."""
    assert against(lambda one: one.target == "__main__") == []


DELETING = ("unlink", "remove", "rmdir", "removedirs", "rmtree", "truncate", "ftruncate", "O_TRUNC")


def of_system(node: ast.AST, names: tuple[str, ...]) -> bool:
    """Tell whether a node names one of these functions or flags of posix or its like."""
    return (
        isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) in ("posix", "os", "shutil", "pathlib")
    )


def test_who_can_delete_a_file() -> None:
    """Reservations are unlinked in host_local.store, records in evidence.records, temporary ones in system.files, broken ones in
    mend.removal; the rest is installers'."""
    users = {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, DELETING)}
    assert users == MAY_UNLINK | INSTALLERS


def test_who_can_ask_for_it() -> None:
    """Only `reap_network` has reservations removed; records are dropped when they are over."""
    asking = {
        (module, node.attr)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in (*DELETING, "drop") and not of_system(node, DELETING)
    }
    assert {one for one in asking if not one[0].startswith("operator.")} == {
        ("reaper.reap_network", "remove"),
        ("plugin.attachment_records", "remove"),
        ("reaper.record_expiry", "drop"),
    }
    assert {one for one in asking if one[0].startswith("operator.")} == {
        ("operator.conflists.converted", "remove"),
        ("operator.conflists.drop_in", "remove"),
        ("operator.install.changes", "remove"),
        ("operator.install.register", "remove"),
        ("operator.install.state_removal", "drop"),
        ("operator.install.uninstall", "remove"),
    }


def test_who_can_rename_a_file() -> None:
    """Only files replaces a file by another, and installers conflists and our executable; host-local's are never replaced.

    mend.removal moves a broken file aside before it unlinks it.
    """
    renaming = ("rename", "replace", "renames", "link", "symlink")
    assert {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, renaming)} == {
        "system.files",
        "mend.removal",
        "operator.executable.plugin_dir",
        "operator.install.register",
        "operator.executable.legacy_bundle",
        "operator.conflists.atomic_edit",
    }


def is_hot(module: str) -> bool:
    """Tell whether a module is on the path of every pod."""
    return not module.startswith(COLD)


def test_hot_modules_import_next_to_nothing() -> None:
    """A hot module imports posix, fcntl, orjson, _kernel and other hot modules; all else comes when it is needed."""
    eager = [one for one in IMPORTS if is_hot(one.module) and not one.lazy]
    assert [str(one) for one in eager if one.foreign and one.target not in HOT_STDLIB | FOR_TYPES] == []
    hot = [node for module, tree in TREES.items() if is_hot(module) for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {ast.unparse(node) for node in hot if node.module == "typing"} == {"from typing import TYPE_CHECKING"}
    assert [str(one) for one in eager if not one.foreign and not is_hot(one.target)] == []


def test_nothing_starts_a_program_or_opens_a_network() -> None:
    """The plugin runs only what takes back what a dead pod leaves, a person's look what shows it, and an installer its copy.

    Nobody runs anything by a shell. Sockets are syslog's and netlink's.
    """
    foreign = {(one.target, one.module) for one in IMPORTS if one.foreign}
    assert {module for name, module in foreign if name in ("multiprocessing", "asyncio", "urllib", "http")} == set()
    assert {module for name, module in foreign if name == "subprocess"} == {"operator.executable.plugin_dir"}
    assert {module for name, module in foreign if name == "os" and not module.startswith("operator.")} == set()
    assert {module for name, module in foreign if "socket" in name} == {
        "system.conntrack",
        "event_log",
        "namespaces.addresses",
        "system.rtnetlink",
    }
    starts = ("posix_spawn", "posix_spawnp", "execv", "execve", "fork", "forkpty", "system", "popen")
    assert {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, starts)} == {"system.programs"}
    assert {one.module for one in OURS if one.target == "system.programs"} == {
        "published.devices",
        "published.ports",
        "published.withdraw",
        "published.written",
    }
    assert {one.module for one in OURS if one.target == "published.ports"} == {"operator.inspect.published_ports"}
    assert {one.module for one in OURS if one.target in ("published.devices", "published.withdraw")} == {"reaper.reap_network"}


WATCH = """
import sys
sys.path[:0] = {path}
import builtins, fcntl, posix, orjson
before, asked, bare = set(sys.modules), set(), builtins.__import__

def watch(name, globals=None, *rest):
    if globals is not None and globals.get("__name__", "").startswith("{package}"):
        asked.add(name)
    return bare(name, globals, *rest)

def done(code):
    loaded = set(sys.modules) - before
    posix.write(2, orjson.dumps([code, sorted(asked), sorted(loaded)]))
    ended(code)

builtins.__import__, ended, posix._exit = watch, posix._exit, done
from {package}.__main__ import main
main()
"""
LIVING, DEAD, OWN = "a" * 64, "b" * 64, "c" * 64


@dataclass(frozen=True)
class Watched:
    """What a call imported. asked: the names in our modules' import statements that ran; loaded: modules that came with them."""

    out: bytes
    asked: set[str]
    loaded: set[str]


def watched(node: Node, command: str, container_id: str = "", pod: Pod | None = None, **options: Any) -> Watched:
    """Run a command in a bare interpreter (-I -S) of the node, on the sources as they are frozen; return what it imported."""
    frozen = node.path("/run/frozen")
    for file in modules.sources(ROOT).values():
        to = frozen / file.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(modules.untyped(file.read_bytes()))
    script = WATCH.format(path=["/run/frozen", str(Path(orjson.__file__).parent.parent)], package=PACKAGE)
    conf = {"cniVersion": "1.1.0", "name": "net", "logLevel": "debug", "logFile": LOG_FILE, **options}
    command_of = node.plugin_command(command, conf, container_id=container_id, netns=pod)
    command_of["argv"] = [sys.executable, "-I", "-S", "-c", script]
    ran = node.together([command_of])[0].check()
    code, asked, loaded = orjson.loads(ran.err)
    assert code == 0, str(ran)
    return Watched(ran.out, set(asked), set(loaded))


def assert_hot(seen: Watched) -> None:
    """Nothing but the hot path's own was asked for, and nothing of ours that is cold was loaded."""
    assert seen.asked, "nothing was watched"
    assert {name for name in seen.asked if room(name) != PACKAGE} <= HOT_STDLIB | {"__future__"}
    assert [name for name in seen.loaded if room(name) not in (PACKAGE, "__future__")] == []
    ours = {name.removeprefix(PACKAGE).lstrip(".") for name in seen.loaded}
    assert [name for name in ours if not is_hot(name)] == []


def test_version_is_hot(node: Node) -> None:
    """VERSION imports only what it needs, which is little: nothing that reads the node, or that judges."""
    seen = watched(node, "VERSION")
    assert b"supportedVersions" in seen.out
    assert_hot(seen)
    assert {name.removeprefix(PACKAGE).lstrip(".") for name in seen.loaded} == HOT_OF_VERSION


def test_add_and_del_of_a_healthy_node_are_hot(node: Node) -> None:
    """ADD and DEL beside a live pod, with nothing to reap, import only what the hot path may, and log nothing."""
    living, own = node.pod(), node.pod()
    node.path(f"{DATA_DIR}/net").mkdir(parents=True)
    first = watched(node, "ADD", LIVING, living)  # of a boot: it proves this process's view of the node
    assert f"{PACKAGE}.namespaces.visible" in first.loaded
    for pod, container_id, address in ((living, LIVING, "10.9.0.2"), (own, OWN, "10.9.0.3")):
        node.reserve("other", "10.8.0.1", DEAD)  # of a network that is none of this call's business
        seen = watched(node, "ADD", container_id, pod)
        assert seen.out == b'{"cniVersion":"1.1.0"}'
        assert_hot(seen)
        node.reserve("net", address, container_id)
    node.path(f"{DATA_DIR}/net/10.9.0.3").unlink()
    assert_hot(watched(node, "DEL", OWN, own, prevResult={"cniVersion": "1.1.0"}))  # without one, its ADD has failed
    assert node.reservations("net") == {"10.9.0.2": (LIVING, "eth0")}
    assert node.log() == []


def test_metrics_are_cold(node: Node) -> None:
    """With metricsFile an ADD loads one module more, and the clock."""
    living = node.pod()
    node.path(f"{DATA_DIR}/net").mkdir(parents=True)
    watched(node, "ADD", LIVING, living)
    bare, counted = (watched(node, "ADD", LIVING, living, **more) for more in ({}, {"metricsFile": "/run/own.prom"}))
    assert_hot(bare)
    assert {name for name in counted.loaded - bare.loaded if room(name) == PACKAGE} == {f"{PACKAGE}.metrics"}
    assert {name for name in counted.asked if room(name) != PACKAGE} <= HOT_STDLIB | {"__future__", "time"}
    assert node.path("/run/own.prom").exists()


def test_the_watch_sees_a_cold_path(node: Node) -> None:
    """What is looked for here would be seen: a leak makes ADD import what is cold, and the standard library with it."""
    node.reserve("net", "10.9.0.4", DEAD)
    seen = watched(node, "ADD", OWN, node.pod())
    assert node.reservations("net") == {}
    assert {f"{PACKAGE}.evidence.libcni_cache", f"{PACKAGE}.evidence.full_evidence"} <= seen.loaded
    assert "time" in seen.asked


def test_no_test_module_imports_another() -> None:
    """What several of them use is in tests/support, or in a module or a conftest.py beside them."""
    found = [
        f"{file.relative_to(ROOT)}: {line}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for line in file.read_text().splitlines()
        if re.match(r"\s*(from|import) tests\b.*\btest_\w+", line)
    ]
    assert found == []
