"""The arrows of the house: who may know whom, who may delete a file, and what the start of a pod pays for.

The imports are read from the source, those inside functions and under TYPE_CHECKING too. What the hot path really imports is
then seen in a bare interpreter that runs VERSION, ADD and DEL on a healthy private node.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.neighbours import ROOT
from tests.node import DATA_DIR, LOG_FILE, Node, Pod

PACKAGE = "cni_reaper_plugin"
FLOORS = (
    ("__main__",),
    ("chain", "operator"),
    ("sweep",),
    ("reap", "counting"),
    ("judging",),
    ("first_look",),
    ("published",),
    ("report", "expiry", "capacity", "gate", "shared_store", "elsewhere", "absent", "lifeless", "mend"),
    ("once", "metrics"),
    ("judge", "evidence"),
    ("network_sweep",),
    ("store",),
    (
        "conntrack",
        "programs",
        "rtnetlink",
        "options",
        "pool",
        "frozen",
        "network_file_system",
        "other_nodes",
        "store_key",
        "go_json",
    ),
    ("scanned",),
    ("facts",),
    ("attachment", "events", "flock", "files", "clock", "packed", "cni_versions", "reasons"),
)
"""Top to bottom. Arrows go down, never up nor sideways; within chain, evidence and operator there are rules of their own."""
NAMES_ONLY = {("facts", "scanned")}
"""facts and scanned are one subject, in two modules since only the first is hot: it names the other's types."""
PUT_TOGETHER = ("evidence.gather", "evidence.kin", "evidence.closer")
"""What puts the sources of evidence together; all other modules of evidence are sources."""
HOT_STDLIB = {"posix", "fcntl", "orjson", "_kernel"}
HOT_OF_VERSION = {"", "__main__", "chain", "chain.call", "chain.errors", "chain.version", "cni_versions", "events"}
"""All that VERSION imports."""
COLD = (
    "absent",
    "capacity",
    "chain.first_del",
    "chain.foreign",
    "conntrack",
    "counting",
    "elsewhere",
    "evidence.closer",
    "evidence.addresses",
    "evidence.assigned",
    "evidence.kin",
    "evidence.libcni_cache",
    "evidence.named",
    "evidence.owners",
    "evidence.peers",
    "evidence.proof",
    "evidence.shown",
    "evidence.unclaimed",
    "evidence.visible",
    "frozen",
    "gate",
    "go_json",
    "judging",
    "lifeless",
    "mend",
    "metrics",
    "network_file_system",
    "once",
    "operator",
    "other_nodes",
    "packed",
    "pool",
    "programs",
    "published",
    "reap",
    "report",
    "rtnetlink",
    "scanned",
    "shared_store",
    "store_key",
    "told",
)
MAY_UNLINK = {"store", "evidence.records", "files", "mend.removal"}
INSTALLERS = {
    "operator.drop_in",
    "operator.executable",
    "operator.installation",
    "operator.leftovers",
    "operator.legacy_bundle",
    "operator.replacement",
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


def modules() -> dict[str, ast.Module]:
    """Return the syntax trees of the package, by module name below it."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text())
    return found


TREES = modules()


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


def test_the_package_itself_imports_nothing() -> None:
    """Importing any module imports the package first, so it must be empty."""
    assert [str(one) for one in IMPORTS if one.module in ("", "chain", "evidence", "mend", "operator")] == []


def test_there_are_no_circles() -> None:
    """Within a room, too, the imports have a direction."""
    known = {module: {one.target for one in OURS if one.module == module} for module in TREES}
    while leaves := [module for module, knows in known.items() if not knows & set(known) - {module}]:
        for leaf in leaves:
            del known[leaf]
    assert known == {}


def test_who_counts() -> None:
    """What is counted is what came of a sweep, and of a look for broken files; it asks neither store nor judge."""
    assert {one.module for one in OURS if one.target == "metrics"} == {"sweep", "mend.when", "operator.mending"}
    assert {one.target for one in OURS if one.module == "metrics"} == {
        "",
        "events",
        "files",
        "flock",
        "network_sweep",
        "reasons",
    }


def test_judge_imports_facts_only() -> None:
    """The judge reads no file and no clock: it knows facts and reasons, nothing else. `other_nodes` is a part of it."""
    assert {one.target for one in IMPORTS if one.module in ("judge", "other_nodes")} == {
        "facts",
        "other_nodes",
        "reasons",
    }


def test_evidence_knows_neither_judge_nor_store() -> None:
    """Whoever gathers evidence neither judges it nor can remove anything."""
    assert against(lambda one: room(one.module) == "evidence" and room(one.target) in ("sweep", "reap", "judge", "store")) == []


def test_sources_of_evidence_do_not_know_each_other() -> None:
    """One source of evidence a module; only `gather`, `kin` and `closer` put them together, and only `judging` asks for closer.

    One netns, all netns, and whose they are: one subject, in three modules since only the first is hot.
    """

    def crosses(one: Import) -> bool:
        if {one.module, one.target} <= {"evidence.visible", "evidence.owners", "evidence.netns"}:
            return False
        return one.module.startswith("evidence.") and one.module not in PUT_TOGETHER and room(one.target) == "evidence"

    assert against(crosses) == []
    assert {one.module for one in OURS if one.target == "evidence.closer"} == {"judging"}
    assert {one.module for one in OURS if one.target == "evidence.gather"} == {"first_look", "evidence.closer"}


def test_runtime_and_person_do_not_know_each_other() -> None:
    """The rooms chain and operator have nothing of each other; both come in by the one door."""
    assert against(lambda one: {room(one.module), room(one.target)} == {"chain", "operator"}) == []
    assert {one.module for one in OURS if room(one.target) == "operator" and room(one.module) != "operator"} == {"__main__"}


def test_only_the_sweep_judges() -> None:
    """There is one way from evidence to a removed file."""
    assert {one.module for one in OURS if one.target == "judge"} == {"reap", "judging", "first_look"}


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
    """A reservation is unlinked in store, a record in evidence.records, a temporary file in files, a broken cache file in
    mend.removal; the rest is installers'."""
    users = {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, DELETING)}
    assert users == MAY_UNLINK | INSTALLERS


def test_who_can_ask_for_it() -> None:
    """Only `reap` has reservations removed; records are dropped when they are over, late counts when they have been added."""
    asking = {
        (module, node.attr)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in (*DELETING, "drop") and not of_system(node, DELETING)
    }
    assert {one for one in asking if not one[0].startswith("operator.")} == {
        ("reap", "remove"),
        ("chain.recording", "remove"),
        ("expiry", "drop"),
        ("metrics", "drop"),
    }
    assert {one for one in asking if one[0].startswith("operator.")} == {
        ("operator.converted", "remove"),
        ("operator.drop_in", "remove"),
        ("operator.installation", "remove"),
        ("operator.leftovers", "drop"),
        ("operator.uninstall", "remove"),
    }


def test_who_can_rename_a_file() -> None:
    """Only files replaces a file by another, and installers conflists and our executable; host-local's are never replaced.

    mend.removal moves a broken file aside before it unlinks it.
    """
    renaming = ("rename", "replace", "renames", "link", "symlink")
    assert {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, renaming)} == {
        "files",
        "mend.removal",
        "operator.executable",
        "operator.installation",
        "operator.legacy_bundle",
        "operator.replacement",
    }


def is_hot(module: str) -> bool:
    """Tell whether a module is on the path of every pod."""
    return not module.startswith(COLD)


def test_hot_modules_import_next_to_nothing() -> None:
    """A hot module imports posix, fcntl, orjson, _kernel and other hot modules; all else comes when it is needed."""
    eager = [one for one in IMPORTS if is_hot(one.module) and not one.lazy]
    assert [str(one) for one in eager if one.foreign and one.target not in HOT_STDLIB] == []
    assert [str(one) for one in eager if not one.foreign and not is_hot(one.target)] == []


def test_nothing_starts_a_program_or_opens_a_network() -> None:
    """The plugin runs only what takes back what a dead pod leaves, a person's look what shows it, and an installer its copy.

    Nobody runs anything by a shell. Sockets are syslog's and netlink's.
    """
    foreign = {(one.target, one.module) for one in IMPORTS if one.foreign}
    assert {module for name, module in foreign if name in ("multiprocessing", "asyncio", "urllib", "http")} == set()
    assert {module for name, module in foreign if name == "subprocess"} == {"operator.executable"}
    assert {module for name, module in foreign if name == "os" and not module.startswith("operator.")} == set()
    assert {module for name, module in foreign if "socket" in name} == {"conntrack", "events", "evidence.addresses", "rtnetlink"}
    starts = ("posix_spawn", "posix_spawnp", "execv", "execve", "fork", "forkpty", "system", "popen")
    assert {module for module, tree in TREES.items() for node in ast.walk(tree) if of_system(node, starts)} == {"programs"}
    assert {one.module for one in OURS if one.target == "programs"} == {
        "published.devices",
        "published.ports",
        "published.withdraw",
        "published.written",
    }
    assert {one.module for one in OURS if one.target == "published.ports"} == {"operator.ports"}
    assert {one.module for one in OURS if one.target in ("published.devices", "published.withdraw")} == {"reap"}


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
    """Run a command in a bare interpreter (-I -S) of the node, and return what it imported."""
    script = WATCH.format(path=[str(ROOT), str(Path(orjson.__file__).parent.parent)], package=PACKAGE)
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
    assert {name for name in seen.asked if room(name) != PACKAGE} <= HOT_STDLIB
    assert [name for name in seen.loaded if room(name) != PACKAGE] == []
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
    assert f"{PACKAGE}.evidence.visible" in first.loaded
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
    assert {name for name in counted.asked if room(name) != PACKAGE} <= HOT_STDLIB | {"time"}
    assert node.path("/run/own.prom").exists()


def test_the_watch_sees_a_cold_path(node: Node) -> None:
    """What is looked for here would be seen: a leak makes ADD import what is cold, and the standard library with it."""
    node.reserve("net", "10.9.0.4", DEAD)
    seen = watched(node, "ADD", OWN, node.pod())
    assert node.reservations("net") == {}
    assert {f"{PACKAGE}.evidence.libcni_cache", f"{PACKAGE}.evidence.closer"} <= seen.loaded
    assert "time" in seen.asked
