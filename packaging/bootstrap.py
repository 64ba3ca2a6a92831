"""The first code that runs in the frozen process, instead of PyInstaller's own bootstrap: orjson, then our hot modules.

orjson comes without its stdlib tail. When its extension is loaded it looks up five names, without checking that it gets them:
datetime.datetime_CAPI, uuid.UUID, enum.EnumMeta, dataclasses._FIELD and json.JSONDecodeError. Importing those five modules
would cost more than all the rest of a start. So they are stood in for while the extension loads, and the stand-ins are gone
before anybody else can see them. Any other name a stand-in is asked for comes from the real module.

What follows from it: orjson.dumps takes dict, list, tuple, str, int, float, bool, None (no dataclass, enum or UUID), and
orjson.JSONDecodeError is a ValueError but not json's. selftest.py, run by every freeze, proves both halves.

The hot modules are code objects inside this module's own code, all in one: the interpreter makes no spec and looks for no
file for any of them, and unmarshals a name that they share only once.
"""

import gc
import marshal
import posix
import sys
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, ModuleType

gc.disable()  # the process ends before collecting could pay
sys.frozen = True  # type: ignore[attr-defined]  # what frozen programs have


class _DecodeError(ValueError):
    """As json.JSONDecodeError: made from (message, document, position), and tells line and column."""

    def __init__(self, msg: str, doc: str, pos: int) -> None:
        self.lineno = doc.count("\n", 0, pos) + 1
        self.colno = pos - doc.rfind("\n", 0, pos)
        super().__init__(f"{msg}: line {self.lineno} column {self.colno} (char {pos})")
        self.msg, self.doc, self.pos = msg, doc, pos


_DecodeError.__module__ = "json"
_DecodeError.__name__ = _DecodeError.__qualname__ = "JSONDecodeError"


def _stand_in(name: str, attribute: str, value: object) -> object:
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


def load_orjson(path: str) -> None:
    """Load orjson's extension from a file and make it `import orjson`."""
    import _datetime  # type: ignore[import-not-found]  # typeshed does not know it
    import _imp
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import ExtensionFileLoader

    nobody = type(NotImplemented)  # no value that we dump is one, nor has it for its metaclass; a class of our own costs a start
    names = {
        "datetime": ("datetime_CAPI", _datetime.datetime_CAPI),  # dereferenced: must be the real one
        "uuid": ("UUID", nobody),
        "enum": ("EnumMeta", nobody),
        "dataclasses": ("_FIELD", object()),
        "json": ("JSONDecodeError", _DecodeError),
    }
    stand_ins = {name: _stand_in(name, *one) for name, one in names.items() if name not in sys.modules}
    try:
        spec = ModuleSpec("orjson", ExtensionFileLoader("orjson", path), origin=path)
        module = _imp.create_dynamic(spec)
        _imp.exec_dynamic(module)
        sys.modules["orjson"] = module
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def finds_cold(package: "ModuleType", directory: str) -> "Callable[[str], ModuleType]":
    """Return a package's __getattr__, which is what `from package import module` asks first for a module that is not loaded.

    It reads the module's file. importlib would search for it, which takes 0.1 ms of the first cold module; it still does, and
    says what is wrong, when there is no such file or it cannot be understood.
    """

    def find(own_name: str) -> "ModuleType":
        if own_name[0] == "_":
            raise AttributeError(own_name)
        try:
            file = posix.open("%s/%s.pyc" % (directory, own_name), posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                data = posix.read(file, posix.fstat(file).st_size)
            finally:
                posix.close(file)
            if data[:4] != MAGIC_NUMBER:
                raise ValueError(own_name)
            code = marshal.loads(data[16:])  # noqa: S302  our own file, which is about to be run
        except (OSError, EOFError, ValueError, TypeError):
            raise AttributeError(own_name) from None
        module = type(sys)(package.__name__ + "." + own_name)
        module.__package__ = package.__name__
        sys.modules[module.__name__] = module
        try:
            exec(code, module.__dict__)  # noqa: S102  our own code, from our own bundle
        except BaseException:
            del sys.modules[module.__name__]
            raise
        setattr(package, own_name, module)
        return module

    return find


def run_modules(modules: "Iterable[tuple[str, bool, CodeType]]", directory: str) -> None:
    """Make modules of (name, is it a package?, code), in that order; cold modules of a package are found below `directory`."""
    for name, is_package, code in modules:
        module = type(sys)(name)
        parent, _, own_name = name.rpartition(".")
        module.__package__ = name if is_package else parent
        if is_package:
            module.__path__ = [directory + "/" + name.replace(".", "/")]
            module.__getattr__ = finds_cold(module, module.__path__[0])  # type: ignore[method-assign]
        sys.modules[name] = module
        exec(code, module.__dict__)  # noqa: S102  our own code, from our own executable
        if parent:
            setattr(sys.modules[parent], own_name, module)


HOT_MODULES = ("the freeze puts the hot modules here",)  # see bootstrap_with in modules.py

if hasattr(sys, "_MEIPASS"):
    try:
        load_orjson(sys._MEIPASS + "/orjson.so")
        run_modules(HOT_MODULES, sys._MEIPASS)  # type: ignore[arg-type]  # by then they are there
    except Exception as e:  # noqa: BLE001  whatever it is, the bundle is damaged; what stdout gets is said by last_words.c
        import posix

        posix.write(2, ("cni-reaper: its bundle is damaged, install it again: %r\n" % e).encode())
        raise SystemExit(1) from None
