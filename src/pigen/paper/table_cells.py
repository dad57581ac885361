"""The cells of a table one by one: for CSV and JSON, and to say where each figure comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pigen.bundle import Rate
from pigen.paper.published import (
    COLUMNS,
    LARGEST_MLED,
    LETTERS,
    OPTIMA,
    TITLES,
    difference,
    published,
    published_figures,
    published_rows,
)
from pigen.run.table import RunTable
from pigen.screening.stability import STABLE, SUN

EVALUATED, SURVIVORS, RELAXED = "evaluated.h5", "survivors.h5", "relaxed.h5"


@dataclass(frozen=True)
class Cell:
    """One figure of a table, or its place where nothing was measured.

    Attributes:
        row: of the paper, "" if the run has none.
        run: name of the experiment, "" where none was run.
        column: of `tables.COLUMNS`.
        n: structures (column G: compositions) that the figure is of.
        passed: how many count.
        value: percent; bits in column F, compositions in column G.
        standard_error: percent; None in columns F and G.
        published: what the paper prints, two figures where it disagrees with itself.
        difference: measured minus published in standard errors.
        files: bundles that hold what was counted.
        query: Python expression for ``passed`` (column F: the value), with the files opened by
            h5py as f, and g if there are two; in words where no expression will do.
    """

    row: str
    run: str
    column: str
    n: int | None = None
    passed: int | None = None
    value: float | None = None
    standard_error: float | None = None
    published: tuple[float, ...] = ()
    difference: float | None = None
    files: tuple[str, ...] = ()
    query: str = ""


def cells(
    which: str, runs: Mapping[Path, RunTable], optima: Mapping[str, Rate] | None = None
) -> list[Cell]:
    """All cells of a table, row after row as in the paper, other runs last.

    Args:
        which: one of `tables.TABLES`.
        runs: run folder → its table.
        optima: name of a run → column G.
    """
    by_row: dict[str, list[tuple[Path, RunTable]]] = {row: [] for row in published_rows()}
    for folder, table in runs.items():
        by_row.setdefault(table.row, []).append((folder, table))
    found = []
    for row, measured in by_row.items():
        for column in COLUMNS[which]:
            if not measured:
                printed = published_figures(row, column)
                found += [Cell(row, "", column, published=printed)] if printed else []
            found += [_cell(folder, table, column, optima or {}) for folder, table in measured]
    return found


def _cell(folder: Path, table: RunTable, column: str, optima: Mapping[str, Rate]) -> Cell:
    files, query = _query(folder, table, column)
    empty = Cell(table.row, table.name, column, published=published_figures(table.row, column))
    whence = replace(empty, files=files, query=query)
    if column == LARGEST_MLED:
        largest = table.largest_mled
        return empty if largest is None else replace(whence, value=largest)
    rate = optima.get(table.name) if column == OPTIMA else table.rates.get(column)
    if rate is None:
        return empty
    counted = replace(whence, n=rate.total, passed=rate.passed)
    if column == OPTIMA:
        return replace(counted, value=rate.passed)
    return replace(
        counted,
        value=rate.percent if rate.total else None,
        standard_error=rate.percent_error,
        difference=difference(rate, published(table.row, column)),
    )


def _query(folder: Path, table: RunTable, column: str) -> tuple[tuple[str, ...], str]:
    """Bundles and expression behind a figure."""

    def files(*names: str) -> tuple[str, ...]:
        return tuple(str(folder / name) for name in names)

    if column in LETTERS:
        return files(EVALUATED), f'f["verdicts/{LETTERS[column]}/passed"][:].sum()'
    if column == "sequence":
        verdicts = [f'f["verdicts/{LETTERS[letter]}/passed"][:]' for letter in table.funnel]
        return files(EVALUATED), f"({' & '.join(verdicts)}).sum()"
    if column in STABLE:
        return files(RELAXED), f'(f["columns/e_hull"][:] < {STABLE[column]:g}).sum()'
    if column == LARGEST_MLED:
        near = f'f["parent"][f["columns/e_hull"][:] < {STABLE["E50"]:g}]'
        mled = f'g["columns/mled"][np.isin(g["id"][:], {near})].max()'
        return files(RELAXED, SURVIVORS), mled
    if column == SUN:
        stable = f'f["columns/e_hull"][:] < {STABLE["E100"]:g}'
        return files(
            RELAXED
        ), f"pigen.screening.stability.new_and_unique, of the rows with {stable}"
    return (), "column a of Extended Data Table 3, all its sets: pigen table ed3 --explain"


# -- text ----------------------------------------------------------------------------------------
def explain(found: Iterable[Cell]) -> str:
    """Where every measured figure comes from, a line each."""
    lines = ["f, g: the files named, opened with h5py.File; np: numpy.", ""]
    for cell in found:
        if cell.value is None:
            continue
        files = ", ".join(cell.files) or "-"
        lines.append(f"{cell.run} {cell.column} = {_figure(cell)}: {files}: {cell.query}")
    return "\n".join(lines) + "\n"


def _figure(cell: Cell) -> str:
    assert cell.value is not None
    if cell.n is None:
        return f"{cell.value:.4g} bits"
    counted = f"{cell.passed} of {cell.n}"
    return counted if cell.column == OPTIMA else f"{counted} ({cell.value:.1f} %)"


def to_json(
    which: str,
    found: Iterable[Cell],
    head: Mapping[str, str],
    not_run: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> str:
    """A table for other programs, with everything that its Markdown says."""
    content: dict[str, Any] = {
        "table": which,
        "title": TITLES[which],
        "head": dict(head),
        "cells": [asdict(cell) for cell in found],
        "not_run": dict(not_run or {}),
        "notes": list(notes),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def to_csv(found: Iterable[Cell]) -> str:
    """A line for each cell; two published figures are joined by " or "."""
    text = io.StringIO(newline="")
    names = [field.name for field in fields(Cell)]
    rows = csv.DictWriter(text, names, lineterminator="\n")
    rows.writeheader()
    for cell in found:
        line = {name: getattr(cell, name) for name in names}
        printed = " or ".join(f"{figure:g}" for figure in cell.published)
        rows.writerow(line | {"published": printed, "files": " ".join(cell.files)})
    return text.getvalue()


# -- what a table rests on -----------------------------------------------------------------------
_HEAD = ("training", "elements", "spp", "novel", "hull", "structures", "versions")


def head_of(tables: Iterable[RunTable]) -> dict[str, str]:
    """What the runs of a table rest on, each value once; those that differ name their runs."""
    listed = list(tables)
    head: dict[str, str] = {}
    for key in _HEAD:
        said: dict[str, list[str]] = {}
        for table in listed:
            if key in table.provenance:
                said.setdefault(table.provenance[key], []).append(table.name)
        if len(said) == 1:
            head[key] = next(iter(said))
        for value, names in said.items():
            if len(said) > 1:
                head[f"{key} ({', '.join(names)})"] = value
    return head
