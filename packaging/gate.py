"""The gate of every freeze: the same bootloader and archive as cni-reaper has, with this script in the place of entry.py.

    gate everything   imports each module of the archive
    gate asked        prints the names that orjson fetches from other modules while it is made
    gate light        prints what orjson answers, made by bootstrap.py
    gate real         prints what orjson answers, made with the real modules

freeze.py compares: bootstrap.py has to serve just the names that are asked for, and the last two must be equal.
"""

import builtins
import sys

import bootstrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

sys.meta_path.append(bootstrap.finder)
sys._complete()  # type: ignore[attr-defined]  # bootloader/start.c

WATCHED = ("datetime", "uuid", "enum", "dataclasses", "json", "zoneinfo", "typing", "decimal", "collections", "numpy")

DOCUMENTS = [
    *(b"{}", b"[]", b"", b"{", b'{"a":}', b"[1,]", b"\xff", b'{"a":1}x', b"9" * 400, b"null", b" 1 ", b"NaN", b"-", b"1e400"),
    *(
        b'"\xed\xa0\x80"',
        b'{"a":1,"a":2}',
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"[" * 2000,
    ),
    b'{"a":[1,2.5,-3e10,true,false,null,"x\\u00e9\\ud83d\\ude00"]}',
    b'\n\n {"a": tru',
    '{"é": "ü", "b": ]'.encode(),
]
VALUES: list[object] = [
    *({"a": 1}, [1, 2, {"b": None}], ("t", 1), {"z": 1, "a": 2}, float("nan"), "\ud800", 2**63, 2**64, {1: 2}, b"x", object()),
    *({1, 2}, [[[[]]]] * 3, "\x00\x1f\u2028", True, None, 1e-7, {"n": -(2**63)}),
]


def imported(name: str) -> "ModuleType":
    """Import a module and return it."""
    __import__(name)
    return sys.modules[name]


def everything() -> list[str]:
    """Import each module of the archive; return a line for each that cannot be."""
    failed = []
    bootstrap.load_orjson()
    bootstrap.entry("any")  # it reads the table
    for name in sorted(bootstrap.table):
        try:
            imported(name)
        except Exception as e:  # noqa: BLE001  whatever it is, it would happen to a person, too
            failed.append(f"{name}: {e!r}")
    return failed or [f"{len(bootstrap.table)} modules"]


def asked() -> list[str]:
    """Make orjson and return each module attribute that it fetches meanwhile."""
    found: set[str] = set()
    real = {name: imported(name) for name in WATCHED if bootstrap.entry(name)}
    real_import = builtins.__import__

    from types import ModuleType

    class Watched(ModuleType):
        def __getattribute__(self, attribute: str) -> object:
            name = ModuleType.__getattribute__(self, "__name__")
            if not attribute.startswith("__"):
                found.add(f"{name}.{attribute}")
            return getattr(real[name], attribute) if name in real else type(None)

    def watched_import(name: str, *rest: object) -> object:
        if name not in (*WATCHED, "_imp"):
            found.add(name)
        return real_import(name, *rest)  # type: ignore[arg-type]  # passed on as it came

    sys.modules.update({name: Watched(name) for name in WATCHED})
    builtins.__import__ = watched_import  # type: ignore[assignment]  # it takes what __import__ takes
    try:
        bootstrap.linked_in("orjson")
    finally:
        builtins.__import__ = real_import
        for name in WATCHED:
            del sys.modules[name]
        sys.modules.update(real)
    return sorted(found)


def answers() -> list[str]:
    """Return what orjson answers to all the documents and values, with every option that cni-reaper might use."""
    orjson = sys.modules["orjson"]
    told = []
    for document in DOCUMENTS:
        try:
            told.append(repr(orjson.loads(document)))
        except orjson.JSONDecodeError as e:
            told.append(repr((isinstance(e, ValueError), str(e), e.msg, e.doc[:80], e.pos, e.lineno, e.colno)))
    for value in VALUES:
        for option in (None, orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE, orjson.OPT_INDENT_2, orjson.OPT_NON_STR_KEYS):
            try:
                told.append(repr(orjson.dumps(value, option=option)))
            except TypeError as e:
                told.append(str(e))
    told.append(repr(orjson.dumps({"f": orjson.Fragment(b'{"x":1}')})))
    return told


def light() -> list[str]:
    """Make orjson as bootstrap.py does; no stand-in may be left behind."""
    bootstrap.load_orjson()
    left = [
        name for name in ("uuid", "dataclasses", "json") if name in sys.modules and not hasattr(sys.modules[name], "__spec__")
    ]
    return [f"stand-ins left behind: {left}"] if left else answers()


def real() -> list[str]:
    """Make orjson with the real modules; uuid, which the archive has not got, is stood in for as in bootstrap.py."""
    for name in ("datetime", "enum", "dataclasses", "json"):
        imported(name)
    bootstrap.load_orjson()
    return answers()


print("\n".join({"everything": everything, "asked": asked, "light": light, "real": real}[sys.argv[1]]()))
