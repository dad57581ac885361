"""From a run folder, or a stream of structures, to a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pigen import __version__
from pigen.bundle import Bundle, bundle_info, iter_bundle, read_bundle
from pigen.descriptors import evaluate
from pigen.paper.cells import Cell
from pigen.paper.columns import Column, column_of
from pigen.paper.tables import EXPECTED, run_cells, run_notes
from pigen.report.content import Distribution, Report, Step, cards_of, listing_of
from pigen.report.gather import (
    E_HULL,
    ENERGIES,
    ESTIMATE,
    N_ATOMS,
    QUANTITIES,
    Gathered,
    gather,
    numbers,
)
from pigen.run.folder import RunFolder
from pigen.run.table import RunTable
from pigen.runtime.errors import PigenError, UsageError
from pigen.screening.criteria import letter_of, paper_criteria
from pigen.screening.filter import apply_filters
from pigen.screening.stability import STABLE

_EXPERIMENT = "experiment"
"""Provenance key of a text of many lines, shown apart."""
_ERROR_NOTE = "± is the standard error of a share."


def prepare(bundle: Bundle) -> Bundle:
    """The bundle with verdicts and with the columns that a report shows.

    One with verdicts keeps them and its columns, and lacking columns are computed; any other is
    judged by the paper's criteria, as `pigen filter` does.
    """
    if not bundle.verdicts:
        bundle = apply_filters(bundle, paper_criteria())
    drawn = [quantity.name for quantity in QUANTITIES if quantity.computed]
    lacking = [name for name in drawn if numbers(bundle.columns.get(name)) is None]
    return evaluate(bundle, lacking)[0]


def report_of_chunks(
    chunks: Iterable[Bundle], title: str, most: int, *, complete: bool = True
) -> Report:
    """The report of a stream of structures.

    Args:
        chunks: from `prepare`.
        title: name of the source.
        most: survivors to list.
        complete: whether the source was written to its end.
    """
    found = gather(chunks, most)
    funnel = found.funnel
    remarks = []
    if not complete:
        remarks.append("The bundle is incomplete: its writer is still at work, or was stopped.")
    if found.are_survivors:
        remarks.append(
            "The bundle holds the survivors of an earlier filter: "
            "rates and distributions are of these. The reasons count what it took out, too."
        )
    named = [*(one.name for one in QUANTITIES), *(one.name for one in funnel.criteria)]
    made = {name: found.sources[name] for name in named if name in found.sources}
    return _report(
        found,
        title=title,
        row="",
        remarks=tuple(remarks),
        rates=tuple(
            (letter_of(one), one.words, Cell(one.name).of(funnel.alone(one)))
            for one in funnel.criteria
        ),
        footnotes=(_ERROR_NOTE,),
        funnel=tuple(
            Step(letter_of(one), one.words, rate.passed)
            for one in funnel.criteria
            if (rate := funnel.sequence(one)) is not None
        ),
        provenance={**found.provenance, **made},
    )


def report_of_run(path: Path, most: int) -> Report:
    """The report of a finished run; its rates are those of the run's table.

    Args:
        path: folder of `pigen run`.
        most: survivors to list.

    Raises:
        UsageError: the run is not finished.
        PigenError: its files do not belong together.
    """
    folder, table = RunFolder(path), RunTable.read(path)
    with_energies = STABLE.keys() <= table.rates.keys()
    for stage in (folder.evaluated, *([folder.relaxed] if with_energies else [])):
        if not stage.exists() or not bundle_info(stage).complete:
            raise UsageError(f"{stage} is not there or not whole; `pigen run --resume` finishes it")
    relaxed = read_bundle(folder.relaxed) if with_energies else None
    found = gather(map(prepare, iter_bundle(folder.evaluated)), most, relaxed)
    passed = table.rates["sequence"]
    if (found.funnel.kept, found.funnel.read) != (passed.passed, passed.total):
        raise PigenError(f"{path}: table.json and evaluated.h5 are not of the same run")
    provenance = {_EXPERIMENT: found.provenance.get(_EXPERIMENT, ""), **table.provenance}
    if relaxed is not None:
        provenance["relaxation"] = relaxed.provenance.get("relaxed_by", "")
    cells = run_cells(table)
    return _report(
        found,
        title=table.name,
        row=table.row,
        remarks=(),
        rates=tuple((column.title, words, cell) for column, words, cell in cells),
        footnotes=(_ERROR_NOTE, *run_notes(table)),
        funnel=(
            *(
                Step(column_of(key).heading, table.criteria[key], rate.passed)
                for key, rate in table.funnel.items()
            ),
            *(_near(column, cell) for column, _, cell in cells if column.joint),
        ),
        provenance=provenance,
    )


def _report(found: Gathered, provenance: dict[str, str], **said: Any) -> Report:
    """What both kinds of report have in common."""
    experiment = provenance.pop(_EXPERIMENT, "")
    return Report(
        read=found.funnel.read,
        kept=found.funnel.kept,
        reasons=tuple((found.funnel.reasons + found.earlier).most_common()),
        distributions=tuple(_distributions(found)),
        cards=tuple(cards_of(found.survivors)),
        listing=listing_of(found.survivors, found.funnel.kept),
        provenance={**provenance, "report": f"pigen {__version__}"},
        experiment=experiment,
        **said,
    )


def _near(column: Column, cell: Cell) -> Step:
    """What is near the hull: as many as DFT is expected to find there, where that is known."""
    if cell.expected is None or cell.n is None:
        return Step(column.title, column.words, cell.passed or 0)
    words = f"{column.words}, {EXPECTED}"
    return Step(column.title, words, round(cell.expected * cell.n / 100, 1))


def _distributions(found: Gathered) -> Iterator[Distribution]:
    windows = {criterion.name: criterion for criterion in found.funnel.criteria}
    relaxed = any(one.relaxed for one in found.survivors)
    for one in QUANTITIES:
        if one.name not in found.judged:
            continue
        judged, passed = one.scale * found.judged[one.name], one.scale * found.passed[one.name]
        window = windows.get(one.name)
        ends = (window.low, window.high) if window else (None, None)
        low, high = (None if end is None else one.scale * end for end in ends)
        remark = "relaxed survivors" if relaxed and one in ENERGIES else ""
        if window and not window.in_sequence:
            remark = "takes nothing out"
        near = one in (E_HULL, ESTIMATE)
        yield Distribution(
            title=one.title,
            symbol=one.symbol,
            unit=one.unit,
            judged=judged[~np.isnan(judged)],
            passed=passed[~np.isnan(passed)],
            missing=int(np.isnan(judged).sum()),
            low=low,
            high=high,
            marks=tuple(one.scale * threshold for threshold in STABLE.values()) if near else (),
            whole=one is N_ATOMS,
            remark=remark,
        )
