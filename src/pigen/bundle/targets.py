"""What samples were asked for, and what they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from pigen.bundle.memory import Bundle

_PREFIX = "target_"


@dataclass
class Comparison:
    """Targets of one label and the values of the same samples, as sums over both.

    Attributes:
        unit: of both. n: samples that have both.
        low, high: least and largest target.
    """

    unit: str = ""
    n: int = 0
    low: float = np.inf
    high: float = -np.inf
    asked: float = 0.0
    found: float = 0.0
    squares: float = 0.0
    away: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.found / self.n

    @property
    def standard_error(self) -> float:
        """Of the mean of the values; NaN of fewer than two."""
        if self.n < 2:
            return float("nan")
        return sqrt(max(self.squares / self.n - self.mean**2, 0.0) / (self.n - 1))

    @property
    def mean_difference(self) -> float:
        """Mean of the distance from value to target."""
        return self.away / self.n

    def to_json(self) -> dict[str, Any]:
        """Figures as plain data."""
        return {
            "unit": self.unit,
            "n": self.n,
            "asked": [self.low, self.asked / self.n, self.high],
            "mean": self.mean,
            "standard_error": None if self.n < 2 else self.standard_error,
            "mean_difference": self.mean_difference,
        }

    def __str__(self) -> str:
        """``asked 5, found 4.8 ± 0.2 g/cm3 (mean ± s.e.), mean |difference| 0.7, n = 30``."""
        asked = f"{self.low:g}"
        if self.high > self.low:
            asked += f" to {self.high:.4g} (mean {self.asked / self.n:.4g})"
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"asked {asked}, found {self.mean:.4g} ± {self.standard_error:.2g}{unit} "
            f"(mean ± s.e.), mean |difference| {self.mean_difference:.3g}, n = {self.n}"
        )


def compare_targets(
    chunks: Iterable[Bundle], found: dict[str, Comparison] | None = None
) -> dict[str, Comparison]:
    """Label → comparison, for each column ``target_<label>`` beside a column ``<label>``.

    Samples without a target, or without a value, are not counted.

    Args:
        chunks: samples.
        found: of earlier chunks, to go on with.
    """
    found = {} if found is None else found
    for chunk in chunks:
        for name, column in chunk.columns.items():
            own = chunk.columns.get(name.removeprefix(_PREFIX))
            if not name.startswith(_PREFIX) or own is None or "str" in (own.kind, column.kind):
                continue
            pairs = np.stack([column.values, own.values]).astype(np.float64)
            asked, values = pairs[:, np.isfinite(pairs).all(axis=0)]
            if not len(asked):
                continue
            one = found.setdefault(name.removeprefix(_PREFIX), Comparison(own.unit))
            one.n += len(asked)
            one.low, one.high = min(one.low, asked.min()), max(one.high, asked.max())
            one.asked += float(asked.sum())
            one.found += float(values.sum())
            one.squares += float((values**2).sum())
            one.away += float(np.abs(values - asked).sum())
    return found
