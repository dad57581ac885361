"""The last stages: tables as Markdown, CSV and JSON, and the figures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pigen.bundle import Rate
from pigen.csp.outcome import Outcome, read_outcomes
from pigen.energy.hull.lookup import hull_energies
from pigen.paper import ed3, ed3_cells
from pigen.paper.figures import distributions, filters, traces
from pigen.paper.figures.data import Measured
from pigen.paper.figures.novelty import TOP, draw_novelty, published_unmatched, unmatched
from pigen.paper.published import MATTERGEN_NOTE, TABLES, difference
from pigen.paper.reproduce.head import head
from pigen.paper.reproduce.rows import LIBRARY, Row
from pigen.paper.reproduce.scales import Scale
from pigen.paper.reproduce.searches import SearchSet
from pigen.paper.table_cells import cells, to_csv, to_json
from pigen.paper.tables import join
from pigen.run.table import RunTable
from pigen.runtime.files import write_atomically

FIGURES = tuple(
    f"{name}.png"
    for name in (
        *("figure_3a", "figure_3b", "figure_3c", "figure_3d", "figure_5"),
        *(f"extended_data_figure_{n}" for n in (1, 2, 3)),
    )
)
"""Of which figure_5 is left out where nothing was searched."""
TABLE_NAMES = (*(f"table_{which}" for which in (*TABLES, "ed3")), "prototype_novelty")
_TRACED = ("pigen_mled_c", "pigen_mled", "pigen_c", "pigen_ehull")
"""Rows whose searches are drawn, the first that have any; then the others."""
_PANELS = 2


def write_tables(
    folder: Path,
    scale: Scale,
    rows: Sequence[Row],
    sets: Sequence[SearchSet],
    not_run: Mapping[str, str],
) -> None:
    """Write every table three times, ``.md``, ``.csv`` and ``.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {row.folder: RunTable.read(row.folder) for row in rows}
    said = head(scale, rows, tables.values())
    searched = ed3_cells.read_rows(one.folder for one in sets if one.seeded)
    optima = ed3_cells.optima_of(searched, tables.values())
    for which in TABLES:
        found = cells(which, tables, optima)
        text = join(which, tables.values(), optima=optima, head=said, not_run=not_run)
        notes = [] if which == "ed1" else [MATTERGEN_NOTE]
        as_json = to_json(which, found, said, not_run, notes)
        _write(folder / f"table_{which}", text, to_csv(found), as_json)
    none = {one.name: one.why_none for one in sets if one.why_none}
    lines = [f"- {key}: {value}" for key, value in said.items()]
    text = "\n".join([ed3.table_of(searched), "", "What this rests on:", "", *lines, ""])
    if none:
        text += "\n".join(["", "Not searched:", "", *(f"- {k}: {v}" for k, v in none.items()), ""])
    _write(
        folder / "table_ed3", text, ed3_cells.to_csv(searched), ed3_cells.to_json(searched, said)
    )
    _write_novelty(folder / "prototype_novelty", rows, said)


def _write(stem: Path, text: str, as_csv: str, as_json: str) -> None:
    for suffix, content in ((".md", text), (".csv", as_csv), (".json", as_json)):
        write_atomically(stem.with_suffix(suffix), content)


def _write_novelty(stem: Path, rows: Sequence[Row], said: Mapping[str, str]) -> None:
    """Fig. 3d at its right end: what matches none of the 100 most frequent frameworks."""
    printed = published_unmatched()
    title = f"Fig. 3d: of what passes A, B and C, % that match none of the first {TOP} frameworks"
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in said.items()), ""]
    lines += ["| model | n | measured | published | difference |", "|---|---|---|---|---|"]
    found: list[dict[str, Any]] = []
    for row in rows:
        measured = Measured.read(row.folder, row.prototypes)
        assert measured.ranks is not None
        rate = Rate(unmatched(measured, TOP), len(measured.ranks))
        figure = printed.get(measured.table.row)
        apart = difference(rate, figure)
        percent = f"{rate.percent:.1f} ± {rate.percent_error:.1f}"
        shown = (
            percent if rate.total else "–",
            "–" if figure is None else f"{figure:.1f}",
            "–" if apart is None else f"{apart:+.1f} s.e.".replace("-", "−"),
        )
        name = measured.label.replace("|", "\\|")
        lines.append(f"| {name} | {rate.total} | {' | '.join(shown)} |")
        found.append(
            {
                "row": measured.table.row,
                "run": row.name,
                "n": rate.total,
                "unmatched": rate.passed,
                "percent": rate.percent if rate.total else None,
                "standard_error": rate.percent_error,
                "published": figure,
                "difference": apart,
                "files": str(row.prototypes),
                "query": _QUERY,
            }
        )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _NOVELTY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    content = {"table": stem.name, "title": title, "head": dict(said), "cells": found}
    as_json = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    _write(stem, "\n".join([*lines, ""]), text.getvalue(), as_json)


_NOVELTY_COLUMNS = (
    *("row", "run", "n", "unmatched", "percent", "standard_error", "published", "difference"),
    *("files", "query"),
)
_QUERY = f'np.isin(f["columns/prototype_rank"][:], [0, *range({TOP + 1}, 10**6)]).sum()'


def draw_figures(folder: Path, rows: Sequence[Row], sets: Sequence[SearchSet]) -> None:
    """Draw every figure into a folder, each as PNG with CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = [Measured.read(row.folder, row.prototypes) for row in rows]
    distributions.draw_mled(folder, measured)
    distributions.draw_compactness(folder)
    distributions.draw_complexity(folder, measured)
    filters.draw_overlap(folder, measured)
    filters.draw_funnel(folder, measured)
    filters.draw_thresholds(folder, measured)
    draw_novelty(folder, measured, LIBRARY)
    outcomes = _traced(sets)
    if outcomes:
        traces.draw_traces(folder, outcomes, _hull_of(outcomes))


def _traced(sets: Sequence[SearchSet]) -> list[Outcome]:
    """A composition of each of the first sets, the filtered ones first, no composition twice."""

    def place(one: SearchSet) -> tuple[bool, int]:
        known = one.row.name in _TRACED
        return one.chosen != "filtered", _TRACED.index(one.row.name) if known else len(_TRACED)

    found: dict[str, Outcome] = {}
    for one in sorted((one for one in sets if one.seeded), key=place):
        for outcome in read_outcomes(one.folder)[1]:
            formula, energies = outcome.composition.formula, (outcome.seeded, outcome.unseeded)
            if formula not in found and any(math.isfinite(s.lowest) for s in energies):
                found[formula] = outcome
                break
    return list(found.values())[:_PANELS]


def _hull_of(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Energies of the hull, where the searches' potential is that of the reference."""
    energy = hull_energies(outcomes[0].seeded.potential)
    return {o.composition.formula: energy(o.composition.formula) for o in outcomes}
