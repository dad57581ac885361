"""The paper's tables of models: what runs measured beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path

from pigen.bundle import Rate
from pigen.paper.cells import ALONE, NOT_RUN, Cell, Line, Table, markdown
from pigen.paper.columns import (
    TITLES,
    Column,
    column_of,
    columns_of,
    columns_of_run,
    figures_of,
)
from pigen.paper.published import (
    EXPECTED_NOTE,
    FOOTNOTE,
    HULL_NOTE,
    MATTERGEN_NOTE,
    difference,
    published,
    published_figures,
    published_rows,
)
from pigen.run.table import RunTable
from pigen.screening.stability import SUN

EXPECTED = "expected of DFT"


def cell_of(
    column: Column,
    table: RunTable,
    folder: Path | None = None,
    optima: Mapping[str, Rate] | None = None,
) -> Cell:
    """What a run measured for a column beside what is published.

    Args:
        column: of any table.
        table: of the run.
        folder: of the run, where the cell shall say which files hold what was counted.
        optima: name of a run → column G.
    """
    figure = figures_of(table, optima or {}).get(column.key)
    cell = _published(column, table.row)
    if folder is not None:
        files = tuple(str(folder / name) for name in column.files)
        cell = replace(cell, files=files, query=column.query_of(table))
    cell, expected = cell.of(figure), table.expected.get(column.key)
    if expected is not None and not isinstance(figure, Rate):
        return replace(cell, expected=expected)
    if not isinstance(figure, Rate) or column.unit != "%":
        return cell
    share, n = figure.fraction, figure.total
    if expected is not None and n:
        share, common = expected, table.systematic.get(column.key, 0.0)
        error = sqrt(share * (1 - share) / n + common**2)
        cell = replace(cell, expected=100 * share, expected_error=100 * error)
    return replace(cell, difference=difference(share, n, published(table.row, column.key)))


def _published(column: Column, row: str) -> Cell:
    """The cell of a row that nobody measured."""
    return Cell(column.key, column.unit, published=published_figures(row, column.key))


# -- one run -------------------------------------------------------------------------------------
def run_cells(table: RunTable) -> list[tuple[Column, str, Cell]]:
    """Column, criterion in words and figures of all that a run measured."""
    return [(column, words, cell_of(column, table)) for column, words in columns_of_run(table)]


def run_notes(table: RunTable) -> list[str]:
    """What a reader of one run's figures must know."""
    plain = SUN in table.rates and not table.expected
    notes = {FOOTNOTE: table.row, HULL_NOTE: plain, EXPECTED_NOTE: table.expected}
    return [*(note for note, holds in notes.items() if holds), *_on_mattergen(table.row)]


def _on_mattergen(row: str) -> list[str]:
    return [MATTERGEN_NOTE] if row == "MatterGen" else []


def published_files(table: RunTable) -> dict[str, str]:
    """Files of a run's folder → their texts: its table as JSON and as Markdown."""
    beside = {
        key: {
            "published_percent": published(table.row, key),
            "difference_in_standard_errors": cell_of(column_of(key), table).difference,
        }
        for key in table.rates
    }
    return {"table.json": table.to_json(beside), "table.md": render(table)}


def render(table: RunTable) -> str:
    """One run as Markdown: each criterion, measured and published, and the funnel."""
    lines = [f"# {table.name}", ""]
    if table.row:
        lines += [f"Row of the paper: {table.row}", ""]
    lines += [f"- {key}: {value}" for key, value in table.provenance.items()]
    rows = []
    for column, words, cell in run_cells(table):
        printed = cell.printed(" %" if cell.unit == "%" else "")
        if cell.expected is None:
            rows.append((column.title, words, cell.whole, printed, cell.apart))
            continue
        rows.append((column.title, f"{words}, {EXPECTED}", cell.foremost, printed, cell.apart))
        rows.append(("", ALONE, cell.whole, "", ""))
    lines += ["", *markdown(("", "criterion", "measured", "published", "difference"), rows)]
    steps = "; ".join(f"{letter} → {rate.passed}" for letter, rate in table.funnel.items())
    lines += ["", f"In sequence, of {table.rates['sequence'].total} structures: {steps}."]
    for note in run_notes(table):
        lines += ["", note]
    return "\n".join(lines) + "\n"


# -- all runs ------------------------------------------------------------------------------------
def joined(
    which: str,
    runs: Mapping[Path, RunTable],
    *,
    optima: Mapping[str, Rate] | None = None,
    head: Mapping[str, str] | None = None,
    not_run: Mapping[str, str] | None = None,
) -> Table:
    """A table of the paper: every published row with the measured ones of it, other runs last.

    Args:
        which: one of `columns.TABLES`.
        runs: folder → table of a finished run, in any order.
        optima: name of a run → column G, compositions whose generated structure stays lowest.
        head: what all figures rest on; as `head_of` finds it by default.
        not_run: published row → why there is no measured one.
    """
    columns = columns_of(which)
    by_row: dict[str, list[tuple[Path, RunTable]]] = {row: [] for row in published_rows()}
    for folder, table in runs.items():
        by_row.setdefault(table.row, []).append((folder, table))
    lines = []
    for row, measured in by_row.items():
        lines += [
            Line(
                (row,),
                tuple(cell_of(column, table, folder, optima) for column in columns),
                (table.name,),
                f"measured, n = {table.rates['sequence'].total}",
            )
            for folder, table in measured
        ]
        if not measured:
            cells = tuple(_published(column, row) for column in columns)
            lines.append(Line((row,), cells, ("",), NOT_RUN if row in (not_run or {}) else ""))
    return Table(
        name=which,
        title=TITLES[which],
        labels=("row", "run"),
        headings=("model", "source", *(column.heading for column in columns)),
        lines=tuple(lines),
        head=head_of(runs.values()) if head is None else head,
        more={"not_run": dict(not_run or {}), "notes": [] if which == "ed1" else [MATTERGEN_NOTE]},
    )


def join(table: Table, runs: Iterable[RunTable]) -> str:
    """A table from `joined` as Markdown, with all that its readers must know."""
    lines = [f"# {table.title}", ""]
    if table.head:
        lines += [*(f"- {key}: {value}" for key, value in table.head.items()), ""]
    lines += [*table.to_markdown(), ""]
    lines += ["Measured: % ± standard error (difference to the published row).", FOOTNOTE]
    if table.more["notes"]:  # every published row is shown, MatterGen's too
        meanings = [f"- {c.meaning}." for c in columns_of(table.name) if c.meaning]
        lines += ["", MATTERGEN_NOTE, "", *meanings]
    listed = list(runs)
    hulls = {run.provenance["hull"] for run in listed if "hull" in run.provenance}
    if table.more["notes"] and hulls:
        if "hull" not in table.head:
            lines += [f"- Measured energies: {hull}." for hull in sorted(hulls)]
        expected = [EXPECTED_NOTE] if any(run.expected for run in listed) else []
        plain = [HULL_NOTE] if any(SUN in run.rates and not run.expected for run in listed) else []
        lines += ["", *plain, *expected]
    if table.more["not_run"]:
        absent = [f"- {row}: {why}." for row, why in table.more["not_run"].items()]
        lines += ["", "Not run here:", "", *absent]
    return "\n".join(lines) + "\n"


# -- what a table rests on -----------------------------------------------------------------------
_HEAD = ("training", "elements", "spp", "novel", "hull", "estimate", "structures", "versions")


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
