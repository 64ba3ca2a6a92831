"""The tables of docs/doctor.md, from the doctor's catalogue: `python -m tests.doctor_table` writes them."""

import re

from cni_reaper_plugin.operator.conflists.position import ENTRY
from cni_reaper_plugin.operator.doctor import catalogue
from cni_reaper_plugin.operator.doctor.catalogue import Kind
from tests.support.programs import ROOT

DOCUMENT = ROOT / "docs/doctor.md"
_HEAD = "| key | level | what it says | what to do |\n|---|---|---|---|\n"
_TABLE = r"(?<=^## %s\n\n)(?:\|.*\n)+"


def written(text: str) -> str:
    """Return the text of docs/doctor.md with its tables as the catalogue has them."""
    for section in catalogue.SECTIONS:
        rows = "".join(map(_row, (one for one in catalogue.KINDS if one.section == section)))
        text, times = re.subn(_TABLE % section, lambda _, rows=rows: _HEAD + rows, text, flags=re.MULTILINE)  # type: ignore[misc]
        assert times == 1, section
    return text


def _row(kind: Kind) -> str:
    what = f"{_shown(kind.what)} {kind.more}".strip()
    return f"| `{kind.key}` | {kind.level} | {what} | {_shown(kind.advice)} |\n".replace("|  |", "| |")


def _shown(template: str) -> str:
    """Return a sentence with the names of its values in italics."""
    entry = template.replace("{entry}", f"`{ENTRY}`")
    return re.sub(r"{([a-z_]+)}", lambda name: f"*{name[1].replace('_', ' ')}*", entry)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
