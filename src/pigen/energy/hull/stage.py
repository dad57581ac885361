"""The stage that adds energies above the hull to relaxed crystals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen import __version__
from pigen.bundle import Bundle, Column, strings
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.config import RelaxConfig
from pigen.energy.hull.diagram import Hull
from pigen.energy.hull.reference import Reference, load_reference
from pigen.energy.relax import CONVERGED
from pigen.runtime.errors import UsageError

E_HULL = "e_hull"
"""Column of energies above the hull, eV/atom, NaN where ``e_hull_reason`` says why."""
E_HULL_REASON = "e_hull_reason"
E_RELAXED = "e_relaxed"
IMPLAUSIBLE = 1.5
"""eV/atom below the hull of known compounds, where no crystal is, but where potentials have holes:
CHGNet puts dimers in a cell five times too large up to 15 eV/atom below. A search that falls into
one finds nothing else."""


def with_energies_above_hull(
    bundle: Bundle, reference: Reference, hull: Hull, calibration: Path | None = None
) -> Bundle:
    """The bundle with ``e_hull``, and the estimate of DFT's value where there is a calibration.

    If another potential has judged it, ``e_hull_judge`` goes with it, and into the estimate.

    Args:
        bundle, reference, hull: as of `with_e_hull`.
        calibration: file of a calibration; None for the shipped one, which goes with the shipped
            reference alone: with another there is no estimate.

    Raises:
        UsageError: as of `with_e_hull`; the calibration given is of another potential or reference.
    """
    from pigen.energy.calibration.estimate import calibration_of, with_estimate
    from pigen.energy.judge import with_e_hull_judge

    bundle = with_e_hull_judge(with_e_hull(bundle, reference, hull))
    found = calibration_of(reference, calibration)
    return with_estimate(bundle, reference, found) if found else bundle


def with_e_hull(bundle: Bundle, reference: Reference, hull: Hull) -> Bundle:
    """The bundle with the columns ``e_hull`` and ``e_hull_reason``.

    Args:
        bundle: as `pigen energy` writes it, with columns ``e_relaxed`` (eV/atom) and ``status``.
            What did not converge has no energy above the hull, and neither has what lies more than
            `IMPLAUSIBLE` below it: its status becomes "implausible: …".
        reference: what the hull is made of.
        hull: of the reference; keeps what it works out for the next chunk.

    Raises:
        UsageError: no energies, or of another level of theory than the reference's.
    """
    column = bundle.columns.get(E_RELAXED)
    if column is None or column.kind == "str" or column.per_atom:
        raise UsageError("no column e_relaxed; run `pigen energy` first")
    check_level(column.source, reference)
    energies = column.values.astype(np.float64)
    values, reasons = hull.above(bundle.crystals.reduced_formulas(), energies)
    status = bundle.columns.get("status")
    for i in np.flatnonzero(np.isnan(energies)):
        reasons[i] = "no e_relaxed"
    if status is not None:
        failed = status.values != CONVERGED
        values[failed] = np.nan
        reasons[failed] = [f"not relaxed: {said}" for said in status.values[failed]]
    source = source_of(reference)
    columns = {}
    holes = leave_out_holes(values, reasons)
    if len(holes):
        columns = _failed(bundle, holes, reasons[holes].tolist())
    columns[E_HULL] = Column(values, "eV/atom", source)
    columns[E_HULL_REASON] = Column(strings(reasons), "", source)
    return bundle.with_columns(columns)


def leave_out_holes(values: NDArray[np.float64], reasons: NDArray[np.object_]) -> NDArray[np.int64]:
    """Make values (B,) more than `IMPLAUSIBLE` below a hull NaN, and say why; returns their rows.

    Both arrays are changed in place.
    """
    holes = np.flatnonzero(values < -IMPLAUSIBLE)
    reasons[holes] = [
        f"implausible: {-value:.1f} eV/atom below the hull is no crystal" for value in values[holes]
    ]
    values[holes] = np.nan
    return holes


def _failed(bundle: Bundle, rows: NDArray[np.int64], statuses: Sequence[str]) -> dict[str, Column]:
    """Columns ``status`` and ``converged`` where these rows have not converged after all."""
    found = {}
    for name, value in (("status", list(statuses)), ("converged", False)):
        if name in bundle.columns:
            column = bundle.columns[name]
            values = column.values.copy()
            values[rows] = value
            found[name] = replace(column, values=values)
    return found


class HullStage(Stage[Bundle]):
    """`with_energies_above_hull` on every chunk; counts why there is no value."""

    like: Mapping[str, Any] = {EVERY: 0}

    def __init__(
        self, reference: Reference, calibration: Path | None = None, judge: str = ""
    ) -> None:
        """The hull of this reference; UsageError for a calibration of another.

        ``judge`` is the potential that gives a second opinion; "" for none.
        """
        super().__init__()
        if judge:
            from pigen.energy.judge import judging

            self.task = judging(RelaxConfig(judge=judge))
        self.counts = Counter()
        self._reference, self._hull = reference, Hull(reference)
        self._calibration = checked_calibration(calibration, reference)

    def take(self, result: Bundle) -> Bundle:
        """Count; the chunk with its energies."""
        if len(result):
            result = with_energies_above_hull(
                result, self._reference, self._hull, self._calibration
            )
            self.counts.update(filter(None, result.columns[E_HULL_REASON].values))
        return result


def checked_calibration(path: Path | None, reference: Reference | None) -> Path | None:
    """The path as it came; UsageError if that calibration does not go with the reference."""
    if path is not None:
        from pigen.energy.calibration.estimate import calibration_of

        if reference is None:
            raise UsageError(
                f"--calibration {path}: there is no hull of this potential to calibrate; give its "
                "--reference"
            )
        calibration_of(reference, path)
    return path


def check_level(source: str, reference: Reference) -> None:
    """UsageError if energies come from another level of theory than the reference's."""
    if reference.level and reference.level not in source:
        raise UsageError(
            f"energies from {source!r} and a hull from {reference.level!r} do not mix; make a "
            "reference at their level with `pigen hull build` and give it as --reference"
        )


def reference_for(source: str, path: Path | None = None) -> Reference | None:
    """The reference to take; None if the shipped one is of another potential than ``source``.

    Raises:
        UsageError: no reference at ``path``, or one of another potential.
    """
    reference = load_reference(path)
    try:
        check_level(source, reference)
    except UsageError:
        if path is not None:
            raise
        return None
    return reference


def source_of(reference: Reference) -> str:
    """How ``e_hull`` was made, and what the reference lacks."""
    made = (
        f"pigen {__version__} hull(reference={reference.digest}, {reference.level or 'imported'})"
    )
    return f"{made}, {reference.note}".replace("; ", ", ")  # "; " joins sources
