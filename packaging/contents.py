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
    "signal": "a person's sweep goes to its end",
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
    "string": "tomllib",
    "tomllib": "cni-reaper doctor: the configurations of containerd and CRI-O",
    "tomllib._parser": "tomllib",
    "tomllib._re": "tomllib",
    "tomllib._types": "tomllib",
    "ipaddress": "how many addresses a network has",
    "hashlib": "a cnitool-… ID is mapped to its netns by SHA-512",
    "ctypes": "a closer look: setns(2)",
    "ctypes._endian": "ctypes",
    "struct": "ctypes",
}

MODULES |= {
    "inotify_simple": "install --watch",
    "ctypes.util": "inotify_simple",
    "tempfile": "ctypes.util",
    "subprocess": "install: a copy of the bundle is run before it is linked",
    "selectors": "subprocess",
    "json": "install: where in a conflist's text a plugin stands",
    "json.decoder": "json",
    "json.encoder": "json",
    "json.scanner": "json",
    "difflib": "install --dry-run",
    "heapq": "difflib",
    "filecmp": "install: is this very bundle there already?",
}

_OF_RICH = (
    "_emoji_codes", "_emoji_replace", "_export_format", "_extension", "_fileno", "_log_render", "_loop", "_null_file",
    "_palettes", "_pick", "_ratio", "_spinners", "_unicode_data", "_unicode_data._versions", "_unicode_data.unicode17-0-0",
    "_wrap", "align", "ansi", "box", "cells", "color", "color_triplet", "console", "constrain", "containers", "control",
    "default_styles", "emoji", "errors", "file_proxy", "filesize", "highlighter", "jupyter", "live", "live_render", "markup",
    "measure", "padding", "pager", "palette", "progress", "progress_bar", "prompt", "protocol", "region", "repr", "screen",
    "segment", "spinner", "style", "styled", "table", "terminal_theme", "text", "theme", "themes",
)  # fmt: skip
_UNDER_RICH = (
    "__future__", "_compat_pickle", "_weakrefset", "ast", "bisect", "colorsys", "contextlib", "copy", "dataclasses", "datetime",
    "decimal", "dis", "fractions", "importlib", "importlib.machinery", "inspect", "linecache", "numbers", "opcode", "pickle",
    "random", "threading", "token", "tokenize", "typing", "weakref",
)  # fmt: skip
MODULES |= {
    "rich": "the operator's tables, colours, progress and questions",
    **dict.fromkeys((f"rich.{name}" for name in _OF_RICH), "rich, as far as these need it"),
    **dict.fromkeys(_UNDER_RICH, "rich"),
}

EXTENSIONS = {
    "_datetime": "every start: orjson asks for it",
    "fcntl": "every start: flock(2)",
    "_socket": "syslog, addresses, netlink",
    "select": "a stdin that is late",
    "_ctypes": "ctypes",
    "_struct": "ctypes",
    "_bisect": "rich",
    "_decimal": "rich: the fractions of its columns",
    "_opcode": "rich",
    "_pickle": "rich",
    "_random": "rich",
    "_posixsubprocess": "subprocess",
    "_typing": "rich",
    "math": "rich",
    "mmap": "rich",
    "termios": "a question on the terminal",
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
    "completion.bash": "cni-reaper completion bash",
    "completion.zsh": "cni-reaper completion zsh",
    "completion.fish": "cni-reaper completion fish",
    "cni-reaper.8": "the man page",
    "cni-reaper-install.service": "install under systemd",
    "cni-reaper-install.path": "the same, on every rewrite",
    "cni-reaper-install.timer": "the same, every five minutes",
    "harvester-cloudinit.yaml": "the units on a Harvester node",
}
