"""What people read: counts, and Markdown with its tables aligned and its headings in bold."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest

import click

_GAP = "  "
_TIE = "\N{NO-BREAK SPACE}"
_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"^\|[-:| ]+\|$")


def show_markdown(text: str) -> None:
    """Print Markdown: into a file or a pipe as it is, on a terminal as a person reads it."""
    if sys.stdout.isatty():
        text = for_terminal(text, shutil.get_terminal_size().columns)
    click.echo(text, nl=False)


def heading(text: str) -> str:
    """A line above a table; click leaves the colours out where stdout is no terminal."""
    return click.style(text, bold=True)


def show_counts(counts: Mapping[str, int]) -> None:
    """Print a line for each reason, the most frequent first."""
    for reason, n in Counter(counts).most_common():
        click.echo(f"  {n:7d}  {reason}")


def for_terminal(text: str, width: int) -> str:
    """Headings in bold, prose wrapped, and tables in columns whose cells are wrapped to fit.

    No line is longer than ``width``, unless a table has more columns than fit.
    """
    lines: list[str] = []
    for is_table, block in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [_cells(line) for line in block if not _RULE.match(line)]
            lines += _table(rows, width)
        else:
            for line in block:
                lines += _prose(line, width)
    return "\n".join(lines) + "\n"


def _prose(line: str, width: int) -> list[str]:
    if line.startswith("#"):
        return [heading(part) for part in textwrap.wrap(line.lstrip("# "), width)]
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _cells(line: str) -> list[str]:
    cells = _CELLS.split(line.strip())[1:-1]
    return [cell.strip().replace("\\|", "|").replace(" %", f"{_TIE}%") for cell in cells]


def _table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    widths = _widths(rows, width - len(_GAP) * (len(rows[0]) - 1))
    for i, row in enumerate(rows):
        cells = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (f"{part:<{w}}" for part, w in zip(parts, widths, strict=True))
            line = _GAP.join(padded).rstrip().replace(_TIE, " ")
            yield heading(line) if i == 0 else line
        if i == 0:
            yield click.style("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), dim=True)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of the columns; where they do not fit, those give way whose cells mostly are short."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for cell in column for word in cell.split(" ")) for column in columns]
    while sum(widths) > room:
        can = [i for i, width in enumerate(widths) if width > least[i]]
        if not can:
            break
        wrapped = {i: sum(len(cell) >= widths[i] for cell in columns[i]) for i in can}
        widths[min(can, key=lambda i: (wrapped[i], -widths[i]))] -= 1
    return widths
