"""The gate of every freeze: python selftest.py ORJSON_SO. Exit code 0: bootstrap.py serves this orjson on this interpreter.

Two questions. Does the extension ask for just the names that bootstrap.py stands in for? And does orjson, loaded that way,
answer exactly as the one loaded with the real modules?
"""

import _imp
import builtins
import importlib
import os
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

SERVED = {"datetime.datetime_CAPI", "uuid.UUID", "enum.EnumMeta", "dataclasses._FIELD", "json.JSONDecodeError"}
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


def load(so: str) -> ModuleType:
    """Load the extension with whatever modules it finds."""
    module = _imp.create_dynamic(ModuleSpec("orjson", ExtensionFileLoader("orjson", so), origin=so))
    _imp.exec_dynamic(module)
    return module


def asked(so: str) -> set[str]:
    """Load the extension and return each module attribute that it fetches meanwhile."""
    found: set[str] = set()
    real = {name: importlib.import_module(name) for name in WATCHED if name != "numpy"}
    real_import = builtins.__import__

    class Watched(ModuleType):
        def __getattribute__(self, attribute: str) -> object:
            name = ModuleType.__getattribute__(self, "__name__")
            if not attribute.startswith("__"):
                found.add(f"{name}.{attribute}")
            return getattr(real[name], attribute)

    def watched_import(name: str, *rest: object) -> object:
        if name not in real:
            found.add(name)
        return real_import(name, *rest)  # type: ignore[arg-type]  # passed on as it came

    sys.modules.update({name: Watched(name) for name in real})
    builtins.__import__ = watched_import  # type: ignore[assignment]  # it takes what __import__ takes
    try:
        load(so)
    finally:
        builtins.__import__ = real_import
        sys.modules.update(real)
    return found


def behaviour(orjson: ModuleType) -> list[str]:
    """Return what orjson answers to all the documents and values, with every option we might use."""
    answers = []
    for document in DOCUMENTS:
        try:
            answers.append(repr(orjson.loads(document)))
        except orjson.JSONDecodeError as e:
            answers.append(repr((isinstance(e, ValueError), str(e), e.msg, e.doc[:80], e.pos, e.lineno, e.colno)))
    for value in VALUES:
        for option in (None, orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE, orjson.OPT_INDENT_2, orjson.OPT_NON_STR_KEYS):
            try:
                answers.append(repr(orjson.dumps(value, option=option)))
            except TypeError as e:
                answers.append(str(e))
    answers.append(repr(orjson.dumps({"f": orjson.Fragment(b'{"x":1}')})))
    return answers


def main() -> None:
    """Run the gate; in child processes, as a module can be loaded the light way only once."""
    if len(sys.argv) == 3:
        mode, so = sys.argv[1:]
        if mode == "asked":
            sys.stdout.write("\n".join(sorted(asked(so))))
            return
        if mode == "light":
            sys.path.insert(0, str(Path(__file__).parent))
            import bootstrap

            bootstrap.load_orjson(so)
            left = {
                name
                for name in ("uuid", "dataclasses", "json")
                if name in sys.modules and not hasattr(sys.modules[name], "__file__")
            }
            assert not left, f"stand-ins left behind: {left}"
        else:
            sys.modules["orjson"] = load(so)
        sys.stdout.write("\n".join(behaviour(sys.modules["orjson"])))
        import dataclasses
        import datetime
        import json
        import uuid

        assert json.loads("[1]") == [1]
        assert (uuid.UUID(int=1).int, datetime.date.min.year) == (1, 1)
        assert dataclasses.field().init is not None
        return
    so = os.path.abspath(sys.argv[1])

    def child(mode: str) -> str:
        return subprocess.run([sys.executable, "-I", "-S", __file__, mode, so], check=True, capture_output=True, text=True).stdout

    names = set(child("asked").split("\n"))
    if names != SERVED:
        sys.exit(f"this orjson asks for {sorted(names)}, bootstrap.py serves {sorted(SERVED)}: bootstrap.py must be changed")
    light, real = child("light"), child("real")
    if light != real:
        sys.exit("orjson answers differently when it is loaded by bootstrap.py")
    print(f"orjson: {len(SERVED)} names served, {light.count(chr(10)) + 1} answers equal")


if __name__ == "__main__":
    main()
