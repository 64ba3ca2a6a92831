"""The first code that runs in the frozen process, instead of PyInstaller's own bootstrap: orjson, then the hot modules.

orjson is linked in. While its module is made it looks up five names, without checking that it gets them:
datetime.datetime_CAPI, uuid.UUID, enum.EnumMeta, dataclasses._FIELD and json.JSONDecodeError. To import those modules would
cost more than all the rest of a start. So stand-ins take their places meanwhile; they are gone before any other code can see
them, and any other name that a stand-in is asked for comes from the real module. Two things follow: orjson.dumps takes dict,
list, tuple, str, int, float, bool and None (no dataclass, enum or UUID), and orjson.JSONDecodeError is a ValueError but not
json's. Each freeze proves both: gate.py.

The hot modules are code objects, marshalled all in one: the interpreter makes no spec for any of them, looks for no file, and
unmarshals a name that they share only once. VERSION has its own, inside this module's code; those of all other calls are in
PyInstaller's archive behind the executable. So are the cold ones, not packed, each by itself: the finder here is the only one
that finds anything.
"""

import _imp
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType

    Entry = tuple[int, int, int]  # (PyInstaller's kind, place, length)

PACKAGE = 1  # PyInstaller's kind of a package (PyInstaller.loader.pyimod01_archive)
OURS = "cni_reaper_plugin"
_LONGEST_TABLE = 1 << 20

sys.frozen = True  # type: ignore[attr-defined]  # what frozen programs have


def linked_in(name: str) -> "ModuleType":
    """Return a module that is linked in, made without importlib's search, which takes twice as long."""
    spec = ModuleSpec(name, None, origin="built-in")
    module: ModuleType = _imp.create_builtin(spec)
    _imp.exec_builtin(module)
    module.__spec__ = spec
    sys.modules[name] = module
    return module


marshal, posix = linked_in("marshal"), linked_in("posix")


class _DecodeError(ValueError):
    """As json.JSONDecodeError: made from (message, document, position), and has line and column."""

    def __init__(self, msg: str, doc: str, pos: int) -> None:
        self.lineno = doc.count("\n", 0, pos) + 1
        self.colno = pos - doc.rfind("\n", 0, pos)
        super().__init__("%s: line %d column %d (char %d)" % (msg, self.lineno, self.colno, pos))
        self.msg, self.doc, self.pos = msg, doc, pos


_DecodeError.__module__ = "json"
_DecodeError.__name__ = _DecodeError.__qualname__ = "JSONDecodeError"


def _stand_in(name: str, attribute: str, value: object) -> "ModuleType":
    """Put a module with one attribute in the place of a stdlib module; any other attribute comes from the real one."""
    module = type(sys)(name)

    def from_the_real_one(wanted: str) -> object:
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return getattr(__import__(name), wanted)

    setattr(module, attribute, value)
    module.__getattr__ = from_the_real_one  # type: ignore[method-assign]
    sys.modules[name] = module
    return module


def load_orjson() -> None:
    """Make the module that is linked in, and have `import orjson` find it."""
    nobody = type(
        NotImplemented
    )  # no value that is dumped is one, nor has it for its metaclass; a class of its own costs a start
    names = {
        "datetime": ("datetime_CAPI", linked_in("_datetime").datetime_CAPI),  # dereferenced: must be the real one
        "uuid": ("UUID", nobody),
        "enum": ("EnumMeta", nobody),
        "dataclasses": ("_FIELD", object()),
        "json": ("JSONDecodeError", _DecodeError),
    }
    stand_ins = {name: _stand_in(name, *one) for name, one in names.items() if name not in sys.modules}
    try:
        linked_in("orjson")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


archive = [-1, 0]  # PyInstaller's, behind the executable: the descriptor of the file, and where in it the archive begins
own_table: "dict[str, Entry]" = {}  # the part of its table of contents that is of cni-reaper's own modules
table: "dict[str, Entry]" = {}  # all of it


def entry(name: str) -> "Entry | None":
    """Return where in the archive a module is, None for one that is not there."""
    if not own_table:
        own_table.update(marshal.loads(COLD_MODULES))
    if name.partition(".")[0] == OURS:
        return own_table.get(name)
    if not table:
        table.update(marshal.loads(_read(int.from_bytes(_read(8, 4), "big"), _LONGEST_TABLE)))  # its own file
    return table.get(name)


def _read(place: int, length: int) -> bytes:
    """Return a part of the archive. Raises OSError."""
    if archive[0] < 0:
        # PyInstaller's bootloader sets it; link.sh makes it /proc/self/exe, the file that runs, whatever has its path by then
        path, _, start = sys._pyinstaller_pyz.rpartition("?")  # type: ignore[attr-defined]
        archive[:] = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC), int(start)
    found: bytes = posix.pread(archive[0], length, archive[1] + place)
    return found


def _code(where: "Entry") -> "CodeType":
    code: CodeType = marshal.loads(_read(where[1], where[2]))  # its own file, about to be run
    return code


def find_spec(name: str, _path: object = None, _target: object = None) -> "ModuleSpec | None":
    """Find a module in the archive (importlib.abc.MetaPathFinder); one that is not its own may want the whole interpreter."""
    if name.partition(".")[0] != OURS:
        sys._complete()  # type: ignore[attr-defined]  # bootloader/start.c
    where = entry(name)
    return None if where is None else ModuleSpec(name, finder, origin=name, is_package=where[0] == PACKAGE)  # type: ignore[arg-type]  # it has a loader's functions


def exec_module(module: "ModuleType") -> None:
    """Run a module that find_spec has found (importlib.abc.Loader)."""
    where = entry(module.__name__)
    assert where is not None
    exec(_code(where), module.__dict__)  # noqa: S102  its own code


def create_module(_spec: ModuleSpec) -> None:
    """Leave the making to importlib (importlib.abc.Loader)."""


def finds_cold(package: "ModuleType") -> "Callable[[str], ModuleType]":
    """Return a package's __getattr__, which `from package import module` asks first for a module that is not loaded.

    importlib's search takes 0.1 ms of the first cold module. It is asked where the archive has no such module, and says so.
    """

    def find(own_name: str) -> "ModuleType":
        name = "%s.%s" % (package.__name__, own_name)
        where = entry(name) if own_name[0] != "_" else None
        if where is None:
            raise AttributeError(own_name)
        module = made(name, package.__name__, where[0] == PACKAGE)
        try:
            exec(_code(where), module.__dict__)  # noqa: S102  its own code
        except BaseException:
            del sys.modules[name]
            raise
        setattr(package, own_name, module)
        return module

    return find


def made(name: str, parent: str, is_package: bool) -> "ModuleType":
    """Return a new module of cni-reaper's, among those that are imported. parent: the package that it is in."""
    module = type(sys)(name)
    module.__package__ = name if is_package else parent
    if is_package:
        module.__path__ = []  # no directory is searched
        module.__getattr__ = finds_cold(module)  # type: ignore[method-assign]
    sys.modules[name] = module
    return module


def run_modules(marshalled: bytes) -> None:
    """Make modules of (name, its package, its name in that, is it a package?, code or None for none), in that order."""
    for name, parent, own_name, is_package, code in marshal.loads(marshalled):  # its own file, about to be run
        module = made(name, parent, is_package)
        if code is not None:
            exec(code, module.__dict__)  # noqa: S102  its own code
        if parent:
            setattr(sys.modules[parent], own_name, module)


VERSION_MODULES = b"the freeze puts here the hot modules of VERSION"  # see bootstrap_with in modules.py
VERBS_MODULES = ("the freeze puts here where in the archive the hot modules of all other calls are, and their length",)
COLD_MODULES = b"the freeze puts here where the cold ones are"  # a part of the table, by marshal: to read the whole takes longer

finder = type(sys)("cni_reaper_archive")  # a finder and loader is whatever has its functions; a class would cost a start
finder.find_spec, finder.exec_module, finder.create_module = find_spec, exec_module, create_module  # type: ignore[attr-defined]


def start() -> None:
    """Make what is linked in, and the hot modules of this call. Raises SystemExit where the executable is damaged."""
    sys.meta_path.append(finder)
    try:
        for linked in ("_kernel", "fcntl"):
            linked_in(linked)
        load_orjson()
        if posix.environ.get(b"CNI_COMMAND") == b"VERSION":  # as plugin/call.py asks
            run_modules(VERSION_MODULES)
        else:
            run_modules(_read(*VERBS_MODULES))  # type: ignore[call-arg,arg-type]  # by then they are numbers
    except Exception as e:  # noqa: BLE001  whatever it is, the executable is damaged; last_words.c answers on stdout
        posix.write(2, ("cni-reaper: its executable is damaged, install it again: %r\n" % e).encode())
        raise SystemExit(1) from None
