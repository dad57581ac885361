"""Filters: the verdict of each criterion on structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import (
    EVERY_ONE,
    KEEPS,
    SURVIVORS,
    Bundle,
    Criterion,
    KeepingAll,
    Verdict,
    strings,
)
from pigen.bundle.stage import Stage
from pigen.crystal.elements import usual_formula
from pigen.descriptors import (
    descriptor_names,
    evaluate,
    get_descriptor,
    load_descriptors,
    loaded_files,
)
from pigen.runtime.errors import UsageError
from pigen.screening.criteria import MADE_BEFORE, is_made_before, provenance_of
from pigen.screening.funnel import Funnel

_ENDS = {
    False: ((np.greater, "not above"), (np.less, "not below")),
    True: ((np.greater_equal, "below"), (np.less_equal, "above")),
}
"""For windows without and with their ends: how a value passes each, and the words if not."""


def apply_filters(bundle: Bundle, criteria: Sequence[Criterion]) -> Bundle:
    """The bundle with a verdict for each criterion, in place of any it had.

    Columns that the criteria need are computed, unless the bundle has them, made the same way. A
    structure that has no value fails with the reason for that. A reason's part before a colon says
    what kind it is; what follows is particular to the structure.

    Raises:
        UsageError: a column is missing that no descriptor makes.
    """
    settings = {c.name: c.settings for c in criteria if not is_made_before(c)}
    bundle, reasons = evaluate(bundle, settings, settings)
    verdicts = {}
    for criterion in criteria:
        if is_made_before(criterion):
            values, reasons[criterion.name] = _made_before(bundle, criterion.name)
        else:
            values = bundle.columns[get_descriptor(criterion.name).columns[0].name].values
        passed, why = _judge(criterion, values, bundle)
        for i in np.flatnonzero(reasons[criterion.name] != ""):
            passed[i], why[i] = False, f"no {criterion.name}, {reasons[criterion.name][i]}"
        shown = strings("" if ok else reason for ok, reason in zip(passed, why, strict=True))
        verdicts[criterion.name] = Verdict(passed, shown, criterion)
    return replace(bundle, verdicts=verdicts)


def _judge(
    criterion: Criterion, values: NDArray[Any], bundle: Bundle
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which values (B,) pass, and what to say of those that do not."""
    name, low, high = criterion.name, criterion.low, criterion.high
    if criterion.absent:
        return values == "", [f"known {name}: {value}" for value in values]
    if criterion.is_on_names:
        wrong = [criterion.names_wrong(str(value).split("-")) for value in values]
        passed = np.array([not found for found in wrong], dtype=bool)
        return passed, [f"{name} not as asked: {'; '.join(found)}" for found in wrong]
    if not criterion.has_window:
        formulas = map(usual_formula, bundle.crystals.reduced_formulas())
        return values.astype(bool), [f"not {name}: {formula}" for formula in formulas]
    passed, why = np.ones(len(values), dtype=bool), [""] * len(values)
    for end, (compare, words) in zip((low, high), _ENDS[criterion.inclusive], strict=True):
        if end is not None:
            inside = compare(values, end)
            why = [
                old if ok else f"{name} {words} {end:g}: {value:.4g}"
                for old, ok, value in zip(why, inside, values, strict=True)
            ]
            passed &= inside
    return passed, why


def _made_before(bundle: Bundle, name: str) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Values of a column that the bundle has already, and why one is missing."""
    column = bundle.columns.get(name)
    if not len(bundle):
        return np.zeros(0), np.zeros(0, dtype=object)
    if column is None or column.kind == "str" or column.per_atom:
        if name in MADE_BEFORE:
            raise UsageError(f"no column {name}; run `{MADE_BEFORE[name][1]}` first")
        numbers = [n for n, c in bundle.columns.items() if c.kind != "str" and not c.per_atom]
        raise UsageError(
            f"no column of numbers {name!r}; there are {', '.join(numbers) or 'none'}, and the "
            f"descriptors {', '.join(descriptor_names())}"
        )
    values = column.values.astype(np.float64)
    said = bundle.columns.get(f"{name}_reason")
    reasons = np.array([""] * len(bundle), dtype=object)
    for i in np.flatnonzero(np.isnan(values)):
        reasons[i] = (said.values[i] if said else "") or "not known"
    return values, reasons


class FilterStage(Stage[Bundle]):
    """`apply_filters` on every chunk; counts how many pass each criterion.

    A structure that hangs or kills a worker fails every criterion.

    Attributes:
        funnel: the counts.
    """

    like: Mapping[str, Any] = Funnel.LIKE

    def __init__(self, criteria: Sequence[Criterion], *, keep_all: bool = False) -> None:
        """``keep_all``: write every structure with its verdicts, not the survivors alone."""
        super().__init__()
        self.funnel, self._keep_all = Funnel(tuple(criteria)), keep_all
        task = partial(_apply, criteria=tuple(criteria), own=loaded_files())
        self.task = KeepingAll(task, Bundle.concatenate)

    @property
    def provenance(self) -> dict[str, str]:
        """All that the output depends on, but for the source."""
        return {
            **provenance_of(self.funnel.criteria),
            KEEPS: EVERY_ONE if self._keep_all else SURVIVORS,
        }

    def take(self, result: Bundle) -> Bundle:
        """Count the verdicts; return what is kept."""
        survivors = self.funnel.add(result)
        self.counts = self.funnel.counts()
        return result if self._keep_all else survivors

    def note(self) -> str:
        """The funnel so far."""
        return self.funnel.running()

    def resume(self, counts: Mapping[str, Any]) -> None:
        """Go on with the counts of an earlier process."""
        self.funnel = Funnel.resumed(self.funnel.criteria, counts)


def _apply(bundle: Bundle, criteria: tuple[Criterion, ...], own: tuple[Path, ...]) -> Bundle:
    load_descriptors(own)  # this may be a worker
    return apply_filters(bundle, criteria)
