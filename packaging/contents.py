"""All that the bundle holds besides our own modules, and what each is there for. The freeze takes nothing else.

What the interpreter has inside it (os, io, abc, posixpath, …) needs no file. A name that a newer or an older Python does not
have is passed over.
"""

MODULES = {
    "encodings": "every start: utf-8 mode (inside the release's interpreter)",
    "encodings.aliases": "every start: utf-8 mode",
    "encodings.utf_8": "every start: utf-8 mode",
    "argparse": "the operator's command line",
    "gettext": "argparse",
    "locale": "gettext",
    "shutil": "argparse: the width of the terminal",
    "fnmatch": "shutil",
    "textwrap": "argparse: --help",
    "re": "argparse, textwrap, fnmatch",
    "re._casefix": "re",
    "re._compiler": "re",
    "re._constants": "re",
    "re._parser": "re",
    "copyreg": "re",
    "enum": "re",
    "functools": "re, fnmatch",
    "types": "enum, functools",
    "operator": "enum, collections",
    "keyword": "collections",
    "reprlib": "collections",
    "collections": "functools",
    "collections.abc": "type checks of the library",
    "warnings": "the interpreter, when it has something to warn of",
    "hashlib": "a cnitool-… ID is mapped to its netns by SHA-512",
    "ctypes": "a closer look: setns(2)",
    "ctypes._endian": "ctypes",
    "struct": "ctypes",
}

EXTENSIONS = {
    "_datetime": "every start: orjson asks for it",
    "fcntl": "every start: flock(2)",
    "_socket": "syslog, addresses, netlink",
    "select": "a stdin that is late",
    "_ctypes": "ctypes",
    "_struct": "ctypes",
    "_blake2": "hashlib wants all of its kind",
    "_md5": "the same",
    "_sha1": "the same",
    "_sha2": "the same, Python 3.12 on",
    "_sha256": "the same",
    "_sha3": "the same",
    "_sha512": "SHA-512 itself",
}

LIBRARIES = {
    "libpython": "the interpreter",
    "libffi": "_ctypes",
    "orjson.so": "JSON",
}

DATA = {
    "build.json": "cni-reaper version --verbose",
}
