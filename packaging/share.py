"""Write cni_reaper_plugin/operator/executable/packed.py for a freeze: python3 share.py ROOT OUT, in the build root.

BUILD: the JSON on stdin. FILES: the man page and the shells' completions, from the parser that answers the commands, and the
systemd units. SOURCE_DATE_EPOCH is the date of the man page.
"""

import json
import sys
from pathlib import Path


def files(root: Path) -> dict[str, bytes]:
    """Return the content of the files by their names. root: of the source tree."""
    sys.path.insert(0, str(root))
    import shtab
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]  # it has no stubs

    from cni_reaper_plugin import __version__
    from cni_reaper_plugin.operator import commandline

    found = {f"completion.{shell}": shtab.complete(commandline.parser(), shell) for shell in commandline.SHELLS}
    about = {
        "project_name": "cni-reaper",
        "version": __version__,
        "manual_title": "CNI plugins",
        "manual_section": "8",
        "description": "free host-local reservations whose container is gone",
    }
    found["cni-reaper.8"] = str(Manpage(commandline.parser(), about))
    units = {
        f"systemd/{unit.name}": unit.read_bytes()
        for unit in sorted((root / "packaging" / "systemd").iterdir())
        if unit.suffix != ".md"
    }
    return {name: text.encode() for name, text in found.items()} | units


def main() -> None:
    """Write the module."""
    root, out = (Path(argument) for argument in sys.argv[1:3])
    build = json.load(sys.stdin) | {"python": sys.version.replace("\n", "")}
    text = "".join(f"{name} = {value!r}\n" for name, value in (("FILES", files(root)), ("BUILD", build)))
    out.write_text(f'"""Made by packaging/share.py."""\n{text}')


if __name__ == "__main__":
    main()
