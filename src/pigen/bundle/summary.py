"""What a bundle file holds, in figures, without having it all in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.memory import Bundle, count_rejects
from pigen.bundle.reading import BundleInfo, bundle_info, iter_bundle
from pigen.bundle.targets import Comparison, compare_targets

_MOST_TEXTS = 10_000
"""Distinct texts of a column that are told apart; more are "many"."""


@dataclass
class ColumnSummary:
    """Range of one column, as far as it has been gone through.

    `low`, `high` and `total` are over the values present: numbers, and bools as 0 and 1. `distinct`
    is the number of texts, None for numbers and for too many to count.
    """

    kind: str
    unit: str
    source: str
    per_atom: bool
    n: int = 0
    n_missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    distinct: int | None = None

    @property
    def mean(self) -> float:
        """Mean of the values present, NaN if there is none."""
        present = self.n - self.n_missing
        return self.total / present if present else float("nan")


@dataclass(frozen=True)
class Summary:
    """A bundle in figures.

    Attributes:
        info: counts, provenance, criteria.
        columns: ranges by column name.
        passed: crystals passing, by verdict name.
        rejects: count by reason, the most frequent first.
        elements: crystals holding each element, by atomic number.
        atoms: (fewest, most) atoms in a crystal; (0, 0) if there is none.
        targets: what samples were asked for beside what they are, by label.
    """

    info: BundleInfo
    columns: Mapping[str, ColumnSummary]
    passed: Mapping[str, int]
    rejects: Mapping[str, int]
    elements: Mapping[int, int]
    atoms: tuple[int, int]
    targets: Mapping[str, Comparison]


def summarise(
    path: str | PathLike[str],
    progress: Callable[[Iterator[Bundle]], Iterable[Bundle]] = iter,
) -> Summary:
    """Go through a bundle file once. Raises as `bundle_info`."""
    info = bundle_info(path)
    columns = {
        name: ColumnSummary(c.kind, c.unit, c.source, c.per_atom)
        for name, c in info.columns.items()
    }
    texts: dict[str, set[str]] = {n: set() for n, c in info.columns.items() if c.kind == "str"}
    passed: Counter[str] = Counter(dict.fromkeys(info.verdicts, 0))
    elements: Counter[int] = Counter()
    rejects: dict[str, int] = {}
    sizes: list[int] = []
    targets: dict[str, Comparison] = {}
    for chunk in progress(iter_bundle(path)):
        if chunk.rejects:  # all in the first chunk
            rejects = count_rejects(chunk.rejects)
        compare_targets([chunk], targets)
        for name, summary in columns.items():
            if name in texts:
                _add_texts(summary, texts[name], chunk.columns[name].values)
            else:
                _add_numbers(summary, chunk.columns[name].values.astype(np.float64))
        for name in passed:
            passed[name] += int(chunk.verdicts[name].passed.sum())
        pairs = np.stack([chunk.crystals.batch, chunk.crystals.atomic_numbers.astype(np.int64)])
        elements.update(np.unique(pairs, axis=1)[1].tolist())
        if len(chunk):
            sizes += [int(chunk.crystals.n_atoms.min()), int(chunk.crystals.n_atoms.max())]
    for name, found in texts.items():
        columns[name].distinct = len(found) if len(found) <= _MOST_TEXTS else None
    extent = (min(sizes), max(sizes)) if sizes else (0, 0)
    return Summary(
        info, columns, dict(passed), rejects, dict(sorted(elements.items())), extent, targets
    )


def _add_numbers(summary: ColumnSummary, values: NDArray[np.float64]) -> None:
    present = values[~np.isnan(values)]
    summary.n += len(values)
    summary.n_missing += len(values) - len(present)
    if len(present):
        summary.low = min(summary.low, float(present.min()))
        summary.high = max(summary.high, float(present.max()))
        summary.total += float(present.sum())


def _add_texts(summary: ColumnSummary, found: set[str], values: NDArray[Any]) -> None:
    summary.n += len(values)
    summary.n_missing += int((values == "").sum())
    if len(found) <= _MOST_TEXTS:
        found.update(value for value in values if value)
