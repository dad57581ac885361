"""A second opinion on relaxed structures: another potential's energy, above a hull of DFT's.

The potential that relaxed a structure has led it to where its own errors make it look good. Another
one, which has not, judges the geometry that came out. Its energies, with the Materials Project's
corrections, are at the level of the published ones, so the hull that they are compared with is the
published one, without a fit.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from pigen import __version__
from pigen.bundle import Bundle, Column, over_structures, strings
from pigen.bundle.stage import OverStructures, Stage
from pigen.config import RelaxConfig
from pigen.energy.corrections import MP2020, mp2020_corrections
from pigen.energy.hull import Hull, Reference, load_reference
from pigen.energy.hull.stage import check_level, leave_out_holes, source_of
from pigen.energy.potential import Potential, load_potential
from pigen.energy.relax import CONVERGED
from pigen.runtime import resources
from pigen.runtime.errors import UsageError

TIME_LIMIT = 300.0
"""s that a chunk may take, the first included, which has to load the potential."""
E_JUDGE = "e_judge"
"""Column of the judge's energies with corrections, eV/atom."""
E_HULL_JUDGE, E_HULL_JUDGE_REASON = "e_hull_judge", "e_hull_judge_reason"
"""Columns of these energies above the hull, eV/atom, NaN where the second says why."""

_MADE_BY = ", judged by pigen "


@lru_cache(maxsize=1)
def load_judge(settings: RelaxConfig) -> Potential:
    """The potential that ``settings.judge`` names.

    Raises:
        UsageError: it is the one that relaxes, or CHGNet, whose energies hold the corrections
            already; or as `load_potential`.
        PigenError: as `load_potential`.
    """
    if settings.judge in (settings.potential, "chgnet"):
        raise UsageError(
            f"--judge {settings.judge}: a second opinion comes of another potential than "
            f"{settings.potential}, which learned uncorrected energies; for example sevennet-l3i5"
        )
    return load_potential(settings.judge, settings.device, "--judge")


def with_judgement(bundle: Bundle, settings: RelaxConfig) -> Bundle:
    """The bundle with the columns ``e_judge`` and, where it has no value, the reason.

    Args:
        bundle: relaxed crystals with the column ``status``; what has not converged is not judged.
        settings: with the judge. It must have learned energies of the Materials Project without
            the corrections, which are added here.

    Raises:
        UsageError: no column ``status``; or as `load_judge`.
        PigenError: as `load_judge`.
    """
    judge = load_judge(settings)
    if "status" not in bundle.columns:
        raise UsageError("no column status; run `pigen energy` first")
    status = bundle.columns["status"].values
    values = np.full(len(bundle), np.nan)
    reasons = np.array([f"not relaxed: {one}" for one in status], dtype=object)
    rows = np.flatnonzero(status == CONVERGED)
    if len(rows):
        crystals = bundle.crystals[rows]
        found = judge.evaluate(crystals)
        corrections, why = mp2020_corrections(crystals)
        values[rows] = found.energy + corrections
        reasons[rows] = [a or b for a, b in zip(found.problems, why, strict=True)]
    source = said_of(judge)
    return bundle.with_columns(
        {
            E_JUDGE: Column(values, "eV/atom", source),
            E_HULL_JUDGE_REASON: Column(strings(reasons), "", source),
        }
    )


class JudgeStage(Stage[Bundle]):
    """`with_judgement` on every chunk."""

    def __init__(self, settings: RelaxConfig) -> None:
        """By the judge of these settings."""
        super().__init__()
        self.task = judging(settings)


def judging(settings: RelaxConfig) -> OverStructures[Bundle]:
    """`with_judgement` as a task for a worker."""
    return over_structures(partial(with_judgement, settings=settings), time_limit=TIME_LIMIT)


def said_of(potential: Potential) -> str:
    """How ``e_judge`` is made, with the name of the potential and the corrections."""
    return f"{potential.name} with {MP2020}{_MADE_BY}{__version__}"


def level_of_judge(source: str) -> str:
    """Potential and corrections, of what `said_of` begins the source of a column with."""
    return source.partition(_MADE_BY)[0]


def with_e_hull_judge(bundle: Bundle) -> Bundle:
    """The bundle with the column ``e_hull_judge`` and its reasons, if it has ``e_judge``.

    Holes of the potential count as no value, as in `leave_out_holes`.

    Raises:
        UsageError: ``e_judge`` is of another level of theory than the shipped hull.
    """
    column = bundle.columns.get(E_JUDGE)
    if column is None:
        return bundle
    reference, hull = judge_hull()
    check_level(column.source, reference)
    energies = column.values.astype(np.float64)
    values, reasons = hull.above(bundle.crystals.reduced_formulas(), energies)
    without: NDArray[np.bool_] = np.isnan(energies)
    reasons[without] = bundle.columns[E_HULL_JUDGE_REASON].values[without]
    leave_out_holes(values, reasons)
    source = f"{column.source}, {source_of(reference)}"
    return bundle.with_columns(
        {
            E_HULL_JUDGE: Column(values, "eV/atom", source),
            E_HULL_JUDGE_REASON: Column(strings(reasons), "", source),
        }
    )


@lru_cache(maxsize=1)
def judge_hull() -> tuple[Reference, Hull]:
    """The hull of published DFT energies that travels with the package."""
    reference = load_reference(resources.HULL_DFT)
    return reference, Hull(reference)
