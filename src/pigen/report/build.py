"""From a run folder, or a stream of structures, to a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pigen import __version__
from pigen.bundle import (
    Bundle,
    Criterion,
    Rate,
    bundle_info,
    iter_bundle,
    read_bundle,
)
from pigen.descriptors import evaluate
from pigen.paper.columns import LARGEST_MLED
from pigen.paper.published import (
    MATTERGEN_NOTE,
    PUBLISHED_BATCH,
    difference,
    published,
    published_figures,
)
from pigen.report.content import Distribution, RateRow, Report, Step
from pigen.report.gather import (
    DRAWN,
    E_HULL,
    N_ATOMS,
    Gathered,
    gather,
    numbers,
)
from pigen.report.listing import listing_of
from pigen.run.folder import RunFolder
from pigen.run.table import RunTable
from pigen.runtime.errors import PigenError, UsageError
from pigen.screening.criteria import letter_of, paper_criteria
from pigen.screening.filter import apply_filters
from pigen.screening.stability import STABLE, SUN

_EXPERIMENT = "experiment"
"""Provenance key of a text of many lines, shown apart."""
_QUANTITIES = {
    "c": ("Compactness", "C", ""),
    "mled": ("Local environment diversity", "M_LED", "bits"),
    "spp": ("Statistical proxy potential", "SPP", ""),
    "k": ("Crystallographic complexity", "K", "bits/atom"),
    E_HULL: ("Energy above the hull", "E_hull", "meV/atom"),
    N_ATOMS: ("Atoms in the cell", "N", "atoms"),
}


def prepare(bundle: Bundle) -> Bundle:
    """The bundle with verdicts and with the columns that a report shows.

    One with verdicts keeps them and its columns, and lacking columns are computed; any other is
    judged by the paper's criteria, as `pigen filter` does.
    """
    if not bundle.verdicts:
        bundle = apply_filters(bundle, paper_criteria())
    lacking = [name for name in DRAWN if numbers(bundle.columns.get(name)) is None]
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
    remarks = []
    if not complete:
        remarks.append("The bundle is incomplete: its writer is still at work, or was stopped.")
    if found.are_survivors:
        sequence = "; ".join(c.text for c in found.funnel.criteria if c.in_sequence)
        remarks.append(
            f"The bundle holds the survivors of an earlier filter ({sequence}): "
            "rates and distributions are of these. The reasons count what it took out, too."
        )
    rates = tuple(
        RateRow(
            letter_of(criterion),
            _words(criterion),
            _count(found.funnel.alone(criterion)),
            _percent(found.funnel.alone(criterion)),
        )
        for criterion in found.funnel.criteria
    )
    said = {key: text for key, text in found.provenance.items() if key != _EXPERIMENT}
    judged = [criterion.name for criterion in found.funnel.criteria]
    made = {name: found.sources[name] for name in (*_QUANTITIES, *judged) if name in found.sources}
    return Report(
        title=title,
        row="",
        read=found.funnel.read,
        kept=found.funnel.kept,
        remarks=tuple(remarks),
        provenance={**said, **made, "report": f"pigen {__version__}"},
        experiment=found.provenance.get(_EXPERIMENT, ""),
        rates=rates,
        footnotes=("± is the standard error of a share.",),
        funnel=tuple(_steps(found)),
        reasons=tuple((found.funnel.reasons + found.earlier).most_common()),
        distributions=tuple(_distributions(found)),
        listing=listing_of(found.survivors, found.funnel.kept),
    )


def report_of_run(path: Path, most: int) -> Report:
    """The report of a finished run.

    Args:
        path: folder of `pigen run`.
        most: survivors to list.

    Raises:
        UsageError: the run is not finished.
        PigenError: its files do not belong together.
    """
    folder, table = RunFolder(path), RunTable.read(path)
    relaxed = STABLE.keys() <= table.rates.keys()
    for stage in (folder.evaluated, *([folder.relaxed] if relaxed else [])):
        if not stage.exists() or not bundle_info(stage).complete:
            raise UsageError(f"{stage} is not there or not whole; `pigen run --resume` finishes it")
    found = gather(map(prepare, iter_bundle(folder.evaluated)), most)
    counted = {
        letter_of(criterion) or criterion.name: found.funnel.left[criterion.name]
        for criterion in found.funnel.criteria
        if criterion.in_sequence
    }
    if counted != {letter: rate.passed for letter, rate in table.funnel.items()}:
        raise PigenError(f"{path}: table.json and evaluated.h5 are not of the same run")
    structures = read_bundle(folder.relaxed) if relaxed else None
    provenance = {**table.provenance}
    if structures is not None:
        provenance["relaxation"] = structures.provenance.get("relaxed_by", "")
        energies = numbers(structures.columns.get(E_HULL))
        if energies is not None:
            found.judged[E_HULL] = found.passed[E_HULL] = energies
    return Report(
        title=table.name,
        row=table.row,
        read=found.funnel.read,
        kept=found.funnel.kept,
        remarks=(),
        provenance={**provenance, "report": f"pigen {__version__}"},
        experiment=found.provenance.get(_EXPERIMENT, ""),
        rates=tuple(_rates(table)),
        footnotes=tuple(_footnotes(table)),
        funnel=(*_steps(found), *_stable_steps(table)),
        reasons=tuple(found.funnel.reasons.most_common()),
        distributions=tuple(_distributions(found, "relaxed survivors" if relaxed else "")),
        listing=listing_of(found.survivors, found.funnel.kept, structures),
    )


# -- counts --------------------------------------------------------------------------------------
def _steps(found: Gathered) -> Iterator[Step]:
    for criterion in found.funnel.criteria:
        rate = found.funnel.sequence(criterion)
        if rate is not None:
            yield Step(letter_of(criterion), _words(criterion), rate)


def _stable_steps(table: RunTable) -> Iterator[Step]:
    for column, threshold in STABLE.items():
        if column in table.rates:
            yield Step("E", f"e_hull < {1000 * threshold:g} meV/atom", table.rates[column])
    if SUN in table.rates:
        yield Step("S.U.N.", "stable, unique, novel structure", table.rates[SUN])


def _words(criterion: Criterion) -> str:
    return f"{criterion.text} {criterion.unit}".strip()


# -- the table -----------------------------------------------------------------------------------
def _rates(table: RunTable) -> Iterator[RateRow]:
    """Rows as `tables.render` has them."""
    sequence = ", ".join(table.funnel)
    for letter, words in table.criteria.items():
        yield _rate(table, letter, letter.replace("_prime", "′"), words)
    yield _rate(table, "sequence", "in sequence", sequence)
    for column, threshold in STABLE.items():
        if column in table.rates:
            words = f"{sequence} and e_hull < {1000 * threshold:g} meV/atom"
            yield _rate(table, column, "E", words)
    if table.rates.keys() & STABLE.keys():
        largest = "–" if table.largest_mled is None else f"{table.largest_mled:.1f} bits"
        printed = _printed(published_figures(table.row, LARGEST_MLED), " bits")
        yield RateRow("F", "largest mled, e_hull < 50 meV/atom", "", largest, printed)
    if SUN in table.rates:
        words = f"{sequence}, stable, unique, novel structure"
        yield _rate(table, SUN, "S.U.N.", words)


def _rate(table: RunTable, column: str, heading: str, words: str) -> RateRow:
    rate = table.rates[column]
    figures = published_figures(table.row, column)
    apart = difference(rate, published(table.row, column))
    said = "–" if apart is None else f"{apart:+.1f} s.e.".replace("-", "−")
    return RateRow(heading, words, _count(rate), _percent(rate), _printed(figures, " %"), said)


def _footnotes(table: RunTable) -> Iterator[str]:
    yield "± is the standard error of a share."
    if table.row:
        yield (
            f"Published: {table.row}, {PUBLISHED_BATCH} structures, another training set "
            "(Alex-MP-20) and potentials from ICSD. The difference is in standard errors of two "
            "proportions."
        )
    if table.row == "MatterGen":
        yield MATTERGEN_NOTE


def _count(rate: Rate) -> str:
    return f"{rate.passed} / {rate.total}"


def _percent(rate: Rate) -> str:
    if not rate.total:
        return "–"
    return f"{rate.percent:.1f} ± {rate.percent_error:.1f} %"


def _printed(figures: tuple[float, ...], unit: str) -> str:
    return " or ".join(f"{figure:.1f}{unit}" for figure in figures) or "–"


# -- distributions -------------------------------------------------------------------------------
def _distributions(found: Gathered, e_hull_of: str = "") -> Iterator[Distribution]:
    windows = {criterion.name: criterion for criterion in found.funnel.criteria}
    for name, (title, symbol, unit) in _QUANTITIES.items():
        if name not in found.judged:
            continue
        scale = 1000.0 if name == E_HULL else 1.0
        judged, passed = scale * found.judged[name], scale * found.passed[name]
        window = windows.get(name)
        ends = (window.low, window.high) if window else (None, None)
        low, high = (None if end is None else scale * end for end in ends)
        remark = e_hull_of if name == E_HULL else ""
        if window and not window.in_sequence:
            remark = "takes nothing out"
        yield Distribution(
            title=title,
            symbol=symbol,
            unit=unit,
            judged=judged[~np.isnan(judged)],
            passed=passed[~np.isnan(passed)],
            missing=int(np.isnan(judged).sum()),
            low=low,
            high=high,
            marks=tuple(scale * t for t in STABLE.values()) if name == E_HULL else (),
            whole=name == N_ATOMS,
            remark=remark,
        )
