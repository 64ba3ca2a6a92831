"""What the analysis of imports cannot know: modules that are asked for by name, and those that nothing needs."""

BY_NAME = {
    "rich._unicode_data.unicode17-0-0": "rich: the widths of characters, by the version of Unicode",
    "encodings.aliases": "the interpreter's second half",
    "encodings.ascii": "text of programs",
    "encodings.latin_1": "the same",
    "encodings.utf_8": "the interpreter's second half, and utf-8 mode",
}
"""Modules that code imports by a name that it puts together, and what for."""

LEFT_OUT = {
    # whole parts of the standard library that an import inside some function, or under a condition, would bring along
    **dict.fromkeys(
        (
            *(
                "asyncio",
                "bz2",
                "concurrent",
                "csv",
                "ctypes",
                "email",
                "gzip",
                "html",
                "http",
                "logging",
                "lzma",
                "multiprocessing",
            ),
            *("sqlite3", "ssl", "tarfile", "urllib", "xml", "xmlrpc", "zipfile", "zlib", "curses", "readline", "webbrowser"),
        ),
        "no archive, no network beyond the kernel's, no other process but the executable itself",
    ),
    **dict.fromkeys(
        (
            *(
                "_aix_support",
                "_ios_support",
                "_android_support",
                "_py_abc",
                "_pydatetime",
                "_strptime",
                "_threading_local",
                "calendar",
            ),
            *(
                "doctest",
                "getopt",
                "getpass",
                "importlib.metadata",
                "importlib.readers",
                "importlib.resources",
                "optparse",
                "pdb",
            ),
            *("platform", "pprint", "pty", "pydoc", "quopri", "runpy", "site", "socketserver", "statistics", "stringprep"),
            *("sysconfig", "tracemalloc", "tty", "unittest", "zipimport", "resource", "_hashlib", "_decimal", "_multibytecodec"),
        ),
        "an alternative, a fallback or a debugger",
    ),
    **dict.fromkeys(
        (
            *("rich.__main__", "rich._inspect", "rich._win32_console", "rich._windows", "rich._windows_renderer", "rich.columns"),
            *("rich.json", "rich.markdown", "rich.panel", "rich.pretty", "rich.rule", "rich.scope", "rich.status", "rich.syntax"),
            *("rich.traceback", "rich._timer", "IPython", "attr", "markdown_it", "pygments", "setuptools", "pkg_resources"),
            *(f"rich._unicode_data.unicode{version}" for version in ("10-0-0", "11-0-0", "12-0-0", "12-1-0", "13-0-0", "14-0-0")),
            *(f"rich._unicode_data.unicode{version}" for version in ("15-0-0", "15-1-0", "16-0-0", "4-1-0", "5-0-0", "5-1-0")),
            *(
                f"rich._unicode_data.unicode{version}"
                for version in ("5-2-0", "6-0-0", "6-1-0", "6-2-0", "6-3-0", "7-0-0", "8-0-0")
            ),
            "rich._unicode_data.unicode9-0-0",
        ),
        "parts of rich that no command of cni-reaper uses, and what they would bring along",
    ),
}
"""Modules that the analysis finds and that are left out, and why."""
