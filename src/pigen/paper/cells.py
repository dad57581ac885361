"""A table as lines of cells, and the same cells as Markdown, CSV, JSON and text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from pigen.bundle import Rate

FIELDS = {
    name: name
    for name in (
        *("column", "n", "passed", "value", "standard_error", "expected", "expected_error"),
        *("published", "difference", "files", "query"),
    )
}
"""What CSV and JSON say of a cell: name there → attribute of `Cell`."""

ALONE = "by the potential alone"
"""Of the second line of a figure that is expected of DFT."""
NOT_RUN = "not run here"
"""Source of a line of which only the published figures are known, and that is said."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table, or its place where nothing was measured.

    Attributes:
        column: key of its column.
        unit: "%", "bits" or "meV/atom"; "n / N" for a count shown with what it is of, "" for one
            shown alone.
        n: structures or compositions that the figure is of.
        passed: how many of them count.
        value: the figure, in the unit.
        standard_error: of a percentage.
        expected: what DFT is expected to give in its place, in the unit; None where the figure
            rests on no energy, or on energies without an estimate.
        expected_error: of an expected percentage.
        published: what the paper prints: figures, two where it disagrees with itself, or a text.
        published_of: what a published count is of, where it is shown with it.
        difference: expected, else measured, minus published in standard errors.
        files: bundles that hold what was counted.
        query: Python expression for ``passed``, else for the value, with the files opened by h5py
            as f, and g if there are two; in words where no expression will do.
    """

    column: str
    unit: str = "%"
    n: int | None = None
    passed: int | None = None
    value: float | None = None
    standard_error: float | None = None
    expected: float | None = None
    expected_error: float | None = None
    published: tuple[float, ...] | float | str | None = None
    published_of: int | None = None
    difference: float | None = None
    files: tuple[str, ...] | str = ()
    query: str = ""

    def of(self, figure: Rate | float | None) -> Cell:
        """The cell with a measured figure; without a source where there is none."""
        if figure is None:
            return replace(self, files=() if isinstance(self.files, tuple) else "", query="")
        if not isinstance(figure, Rate):
            return replace(self, value=figure)
        counted = replace(self, n=figure.total, passed=figure.passed)
        if self.unit != "%":
            return replace(counted, value=figure.passed)
        value = figure.percent if figure.total else None
        return replace(counted, value=value, standard_error=figure.percent_error)

    @property
    def figure(self) -> str:
        """What was measured, without its unit, like ``42.0 ± 4.9``, ``10.3`` or ``1/4``."""
        if self.value is None:
            return "–"
        if self.unit == "n / N":
            return f"{self.value:g}/{self.n}"
        return self._text(self.value, self.standard_error)

    @property
    def first(self) -> str:
        """What is expected of DFT, or else what was measured, without its unit."""
        if self.expected is None:
            return self.figure
        return self._text(self.expected, self.expected_error)

    def _text(self, value: float, error: float | None) -> str:
        if self.unit == "%":
            return f"{value:.1f} ± {error:.1f}"
        return f"{value:.1f}" if self.unit else f"{value:g}"

    @property
    def measured(self) -> str:
        """What was measured with its unit."""
        return f"{self.figure} {self.unit}" if self.value is not None else "–"

    @property
    def foremost(self) -> str:
        """What is expected of DFT with its unit, or else what was measured."""
        return self.measured if self.expected is None else f"{self.first} {self.unit}"

    @property
    def counted(self) -> str:
        """Like ``42 / 100``; "" for a figure that is no share."""
        return "" if self.passed is None else f"{self.passed} / {self.n}"

    @property
    def whole(self) -> str:
        """Both, like ``42 / 100 (42.0 ± 4.9 %)``."""
        if not self.counted:
            return self.figure
        return f"{self.counted} ({self.figure}{' %' if self.value is not None else ''})"

    @property
    def apart(self) -> str:
        """The difference, like ``−0.7 s.e.``."""
        if self.difference is None:
            return "–"
        return f"{self.difference:+.1f} s.e.".replace("-", "−")

    def printed(self, unit: str = "") -> str:
        """What the paper prints, like ``16.4 or 17.8``."""
        said = self.published
        if isinstance(said, str):
            return said
        figures = said if isinstance(said, tuple) else () if said is None else (said,)
        return " or ".join(self._number(figure) + unit for figure in figures) or "–"

    def _number(self, figure: float) -> str:
        if self.unit in ("n / N", ""):
            return f"{figure:g}" + (f"/{self.published_of}" if self.published_of else "")
        return f"{figure:.1f}" if figure == round(figure, 1) else f"{figure:g}"

    @property
    def explained(self) -> str:
        """The measured figure and what it is of, like ``9 of 100 (9.0 %)``."""
        if self.n is None:
            return f"{self.value:.4g} {self.unit}"
        if self.unit == "%":
            return f"{self.passed} of {self.n} ({self.value:.1f} %)"
        value = "none" if self.value is None else f"{self.value:g}"
        return f"{value} {'' if self.unit == 'n / N' else self.unit} of {self.n}".replace("  ", " ")


@dataclass(frozen=True)
class Line:
    """Cells of one row.

    Attributes:
        group: labels of the row as the paper has it, ("",) if it has none.
        name: labels of what was measured, where they are others.
        source: what measured it; "" where nothing did.
        cells: one for each column.
        last: last entry of the published line and of the measured one; () without such a column.
    """

    group: tuple[str, ...]
    cells: tuple[Cell, ...]
    name: tuple[str, ...] = ()
    source: str = ""
    last: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What a measured line begins with."""
        return self.name if any(self.name) else self.group

    @property
    def measured(self) -> bool:
        """Whether it holds figures of ours."""
        return self.source not in ("", NOT_RUN)


@dataclass(frozen=True)
class Table:
    """A table: lines of one group follow each other.

    Attributes:
        name: in file names and on the command line.
        title: above it.
        labels: what CSV and JSON call the group and the name of a line.
        headings: of its columns as Markdown, those of the labels and the source first.
        lines: the rows.
        head: what all figures rest on.
        fields: as `FIELDS`.
        legend: how `explain` reads, in a line.
        more: what else its JSON says.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    headings: tuple[str, ...]
    lines: tuple[Line, ...]
    head: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    legend: str = "f, g: the files named, opened with h5py.File; np: numpy."
    more: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> list[tuple[Line, Cell]]:
        """Every cell with its line, but those in which there is nothing to say."""
        return [
            (line, cell)
            for line in self.lines
            for cell in line.cells
            if line.measured or cell.published not in ((), None)
        ]

    def data(self) -> list[dict[str, Any]]:
        """An object for each cell."""
        return [
            dict(zip(self.labels, (*line.group, *line.name), strict=False))
            | {name: getattr(cell, attribute) for name, attribute in self.fields.items()}
            for line, cell in self.cells()
        ]

    def to_json(self) -> str:
        """For other programs, with everything that the Markdown says."""
        content: dict[str, Any] = {"table": self.name, "title": self.title, "head": dict(self.head)}
        content |= {"cells": self.data(), **self.more}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def to_csv(self) -> str:
        """A line for each cell."""
        names = (*self.labels, *self.fields)
        return csv_text(names, ([row[name] for name in names] for row in self.data()))

    def to_markdown(self) -> list[str]:
        """The lines of the table: what the paper prints of a row, below it what was measured."""
        rows: list[Sequence[str]] = []
        for group, lines in groupby(self.lines, key=lambda line: line.group):
            listed = list(lines)
            printed = [cell.printed() for cell in listed[0].cells]
            if any(text != "–" for text in printed):
                rows.append([*group, "published", *printed, *listed[0].last[:1]])
            for line in listed:
                if line.source:
                    figures = [_beside(cell) for cell in line.cells]
                    rows.append([*line.labels, line.source, *figures, *line.last[1:]])
                if any(cell.expected is not None for cell in line.cells):
                    alone = ["" if c.expected is None else c.figure for c in line.cells]
                    rows.append([*("" for _ in line.labels), ALONE, *alone, *line.last[2:]])
        return markdown(self.headings, rows)

    def explain(self) -> str:
        """Where every measured figure comes from, a line each."""
        lines = [self.legend, ""]
        for line, cell in self.cells():
            if cell.query and (cell.value is not None or cell.n is not None):
                files = cell.files if isinstance(cell.files, str) else ", ".join(cell.files)
                said = f"{', '.join(filter(None, line.labels))} {cell.column} = {cell.explained}"
                lines.append(f"{said}: {files or '-'}: {cell.query}")
        return "\n".join(lines) + "\n"


def _beside(cell: Cell) -> str:
    """What is expected or was measured, and how far it is from what is published."""
    return cell.first if cell.difference is None else f"{cell.first} ({cell.apart})"


# -- text ----------------------------------------------------------------------------------------
def markdown(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table."""
    head = [f" {heading} " if heading else " " for heading in headings]
    body = [[f" {cell} ".replace("|", "\\|") for cell in row] for row in rows]
    return [f"|{'|'.join(cells)}|" for cells in (head, ["---"] * len(head), *body)]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; several values in a place are joined, figures by " or ", texts by spaces."""
    from pandas import DataFrame

    shown = [[_joined(value) if isinstance(value, tuple) else value for value in r] for r in rows]
    frame = DataFrame(shown, columns=list(header), dtype=object)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def _joined(values: tuple[Any, ...]) -> str:
    if values and isinstance(values[0], str):
        return " ".join(values)
    return " or ".join(f"{value:g}" for value in values)
