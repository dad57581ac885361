"""A share of a number of structures, with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Rate:
    """How many of a number of structures passed."""

    passed: int
    total: int

    def __post_init__(self) -> None:
        """ValueError for more that passed than there are."""
        if not 0 <= self.passed <= self.total:
            raise ValueError(f"expected 0 <= passed <= total, got {self.passed} of {self.total}")

    @property
    def fraction(self) -> float:
        """Share that passed, NaN of none."""
        return self.passed / self.total if self.total else float("nan")

    @property
    def percent(self) -> float:
        """The same share in percent."""
        return 100 * self.fraction

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the fraction."""
        return sqrt(self.fraction * (1 - self.fraction) / self.total) if self.total else 0.0

    @property
    def percent_error(self) -> float:
        """The same error in percent."""
        return 100 * self.standard_error

    def __str__(self) -> str:
        """``n / N (x.x ± s.e. %)``, with – for the share of none."""
        if not self.total:
            return f"{self.passed} / 0 (–)"
        return f"{self.passed} / {self.total} ({self.percent:.1f} ± {self.percent_error:.1f} %)"
