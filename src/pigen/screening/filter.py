"""Filters: the verdict of each criterion on structures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, KeepingAll, Verdict, strings
from pigen.descriptors import (
    descriptor_names,
    evaluate,
    get_descriptor,
    load_descriptors,
    loaded_files,
)
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import map_ordered
from pigen.screening.criteria import MADE_BEFORE, Criterion


def apply_filters(bundle: Bundle, criteria: Sequence[Criterion]) -> Bundle:
    """The bundle with a verdict for each criterion, in place of any it had.

    Columns that the criteria need are computed unless they are there, made the same way. A
    structure that has no value fails with the reason for that. A reason's part before a colon says
    what kind it is; what follows is particular to the structure.

    Raises:
        UsageError: a column is missing that no descriptor makes.
    """
    settings = {c.name: c.settings for c in criteria if not c.made_before}
    bundle, reasons = evaluate(bundle, settings, settings)
    verdicts = {}
    for criterion in criteria:
        if criterion.made_before:
            values, reasons[criterion.name] = _made_before(bundle, criterion.name)
        else:
            values = bundle.columns[get_descriptor(criterion.name).columns[0].name].values
        inside, why = np.ones(len(bundle), dtype=bool), [""] * len(bundle)
        if criterion.absent:
            inside = values == ""
            why = [f"known {criterion.name}: {value}" for value in values]
        elif criterion.low is None and criterion.high is None:
            inside = values.astype(bool)
            why = [f"not {criterion.name}: {f}" for f in bundle.crystals.reduced_formulas()]
        if criterion.low is not None:
            above = values > criterion.low
            why = _name_failed(why, above, f"{criterion.name} not above {criterion.low:g}", values)
            inside = inside & above
        if criterion.high is not None:
            below = values < criterion.high
            text = f"{criterion.name} not below {criterion.high:g}"
            why = _name_failed(why, below, text, values)
            inside = inside & below
        for i in np.flatnonzero(reasons[criterion.name] != ""):
            inside[i], why[i] = False, f"no {criterion.name}, {reasons[criterion.name][i]}"
        shown = strings("" if ok else reason for ok, reason in zip(inside, why, strict=True))
        verdicts[criterion.name] = Verdict(inside, shown, criterion.text)
    return replace(bundle, verdicts=verdicts)


def _made_before(bundle: Bundle, name: str) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Values of a column that is there before, and why one is missing."""
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


def _name_failed(why: list[str], passed: Any, text: str, values: Any) -> list[str]:
    return [
        old if ok else f"{text}: {value:.4g}"
        for old, ok, value in zip(why, passed, values, strict=True)
    ]


def judge(
    chunks: Iterable[Bundle], criteria: Sequence[Criterion], executor: Executor
) -> Iterator[Bundle]:
    """`apply_filters` on every chunk of a stream, in order, a few at a time in the executor.

    A structure that hangs or kills a worker fails every criterion.
    """
    task = partial(_apply, criteria=tuple(criteria), own=loaded_files())
    return map_ordered(executor, KeepingAll(task, Bundle.concatenate), chunks)


def _apply(bundle: Bundle, criteria: tuple[Criterion, ...], own: tuple[Path, ...]) -> Bundle:
    load_descriptors(own)  # this may be a worker
    return apply_filters(bundle, criteria)
