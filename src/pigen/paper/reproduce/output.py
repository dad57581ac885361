"""The last stages: tables as Markdown, CSV and JSON, and the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pigen.csp.outcome import Outcome, read_outcomes
from pigen.energy.hull.diagram import hull_energies
from pigen.paper import ed3
from pigen.paper.cells import Table
from pigen.paper.columns import TABLES
from pigen.paper.figures import distributions, filters, traces
from pigen.paper.figures.data import Measured
from pigen.paper.figures.novelty import draw_novelty, novelty_table, render_novelty
from pigen.paper.reproduce.head import head
from pigen.paper.reproduce.rows import LIBRARY, Row
from pigen.paper.reproduce.scales import Scale
from pigen.paper.reproduce.searches import SearchSet
from pigen.paper.tables import join, joined
from pigen.run.table import RunTable
from pigen.runtime.files import write_atomically

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
    runs = {row.folder: RunTable.read(row.folder) for row in rows}
    said = head(scale, rows, runs.values())
    searched = ed3.read_rows(one.folder for one in sets if one.seeded)
    optima = ed3.optima_of(searched, runs.values())
    for which in TABLES:
        table = joined(which, runs, optima=optima, head=said, not_run=not_run)
        _write(folder / f"table_{which}", join(table, runs.values()), table)
    text = [ed3.render(searched), ed3.new_frameworks(searched), "What this rests on:", ""]
    text += [*(f"- {key}: {value}" for key, value in said.items()), ""]
    none = [f"- {one.name}: {one.why_none}" for one in sets if one.why_none]
    if none:
        text += ["Not searched:", "", *none, ""]
    _write(folder / "table_ed3", "\n".join(text), ed3.table_of(searched, said))
    measured = [(r.name, r.prototypes, Measured.read(r.folder, r.prototypes)) for r in rows]
    found = novelty_table(measured, said)
    _write(folder / found.name, render_novelty(found), found)


def _write(stem: Path, text: str, table: Table) -> None:
    for suffix, content in ((".md", text), (".csv", table.to_csv()), (".json", table.to_json())):
        write_atomically(stem.with_suffix(suffix), content)


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
