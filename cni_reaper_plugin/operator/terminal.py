"""How the operator's commands print: tables, colours and progress by rich, which knows terminals and NO_COLOR.

Into a pipe or a file everything goes uncoloured and unfolded, one row a line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions
from rich.progress import Progress
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN

COLOURS = {LIVE: "green", STALE: "bold red", UNKNOWN: "yellow", "L": "green", "S": "bold red", "?": "yellow"}
_UNFOLDED = 1 << 16
LONG = 1000  # rows


def console(errors: bool = False) -> Console:
    """Return the console of stdout, or of stderr."""
    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() else _UNFOLDED
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """Return a text that others have written without anything that could move a cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def printable_json(value: object) -> object:
    """Return a value whose texts can be JSON: a path need not be UTF-8."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_json(one) for one in value]
    return {key: printable_json(one) for key, one in value.items()} if isinstance(value, dict) else value


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], coloured: int) -> RenderableType:
    """Return a table without lines. coloured: the number of the column that holds a verdict.

    A long one, which nobody reads on a terminal, is plain text: rich takes half a millisecond for a row.
    """
    return _plain(columns, rows) if len(rows) > LONG else _rich(columns, rows, coloured)


def _plain(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> _Plain:
    lines = [columns, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return _Plain("\n".join(shown) + "\n")


class _Plain:
    """A text that rich passes on as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)


def _rich(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], coloured: int) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold", no_wrap=name in ("VERDICT", "AGE"))
    for row in rows:
        made.add_row(*(Text(printable(text), COLOURS.get(text, "") if at == coloured else "") for at, text in enumerate(row)))
    return made


def letters(text: str) -> Text:
    """Return the letters of a picture, each in its colour."""
    made = Text()
    for letter in text:
        made.append(letter, COLOURS.get(letter, "dim"))
    return made


def progress() -> Progress:
    """Return a progress bar on stderr, which shows nothing where that is no terminal and goes when it is done."""
    return Progress(console=console(errors=True), transient=True, disable=not sys.stderr.isatty())


def age(seconds: int) -> str:
    """Return an age in its two largest units: 3d4h, 2h05m, 7m, 12s."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return "%dd%dh" % (days, hours % 24)
    if hours:
        return "%dh%02dm" % (hours, minutes % 60)
    return "%dm" % minutes if minutes else "%ds" % seconds


if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType, RenderResult
