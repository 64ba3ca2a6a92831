r"""What is where in an executable: the sections of the ELF file, and the modules in PyInstaller's archive.

The archive (PyInstaller.loader.pyimod01_archive), in which places count from its beginning:

    "PYZ\0", CPython's magic number, place of the table (4 bytes); the modules' code; the table, [(name, (kind, place, length))];
    the hot modules of all calls but VERSION, marshalled in one
"""

import marshal
import struct
from pathlib import Path

SECTION = "pydata"
"""All of PyInstaller's: bootstrap.py with the hot modules of VERSION in it, the archive, its table of contents."""
PYZ = b"PYZ\0\xf3\x0d\x0d\x0a"
"""Of CPython 3.13."""


def sections(data: bytes) -> dict[str, tuple[int, int]]:
    """Return the sections of a 64-bit little-endian ELF file: name -> (place, length). Source: elf(5)."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, of_names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + size * number) for number in range(count)]
    names = headers[of_names][4]
    found = {}
    for name, _, _, _, place, length in headers:
        begin = names + name
        found[data[begin : data.index(b"\0", begin)].decode()] = (place, length)
    return found


def segments(data: bytes) -> set[int]:
    """Return the types of the segments of an ELF file, PT_LOAD and so on. Source: elf(5)."""
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    return {struct.unpack_from("<I", data, table + size * number)[0] for number in range(count)}


def packed(data: bytes) -> bytes:
    """Return PyInstaller's section of an executable."""
    place, length = sections(data)[SECTION]
    return data[place : place + length]


def modules(data: bytes) -> dict[str, tuple[int, int]]:
    """Return the modules in an executable: name -> (place in the file, length)."""
    start = data.index(PYZ)
    table = start + int.from_bytes(data[start + 8 : start + 12], "big")
    return {name: (start + place, length) for name, (_, place, length) in marshal.loads(data[table:])}


def overwrite(executable: Path, module: str, byte: bytes) -> None:
    """Write one byte over all of a module's code in an executable."""
    place, length = modules(executable.read_bytes())[module]
    with executable.open("r+b") as file:
        file.seek(place)
        file.write(byte * length)
