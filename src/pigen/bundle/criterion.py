"""A criterion, as data: what a value must be for a structure to pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Criterion:
    """A window on a value, a set that its names must come from, or a value that must be true.

    Attributes:
        name: the descriptor or column that has the value; also the verdict's name.
        low: numbers must exceed it; None for no lower end.
        high: numbers must be below it; None for no upper end.
        inclusive: whether the ends belong to the window.
        among: the value is a text of names joined by "-", like "Cl-Na"; each must be one of these.
            None if any may stand there.
        absent: the value is a name, and there must be none.
        unit: of the window, "" for a dimensionless one.
        in_sequence: whether failing it takes a structure out; otherwise it is only counted alone.
        settings: of the descriptor. A file does not keep them: the column's source has them.
        wording: how the criterion reads, where nothing else says it: an older bundle's text.
    """

    name: str
    low: float | None = None
    high: float | None = None
    absent: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    in_sequence: bool = True
    unit: str = ""
    inclusive: bool = False
    among: tuple[str, ...] | None = None
    wording: str = ""

    @property
    def text(self) -> str:
        """Like ``0.55 < c < 0.85``, ``3 ≤ n_elements``, ``novel`` or ``no prototype``."""
        if self.wording:
            return self.wording
        if self.absent:
            return f"no {self.name}"
        if self.among is not None:
            return f"{self.name} among {', '.join(self.among)}"
        less, more = ("≤", "≥") if self.inclusive else ("<", ">")
        if self.low is not None and self.high is None:
            return f"{self.name} {more} {self.low:g}"
        low = f"{self.low:g} {less} " if self.low is not None else ""
        return low + self.name + (f" {less} {self.high:g}" if self.high is not None else "")

    @property
    def has_window(self) -> bool:
        """Whether the value is a number that must lie between ends."""
        return self.low is not None or self.high is not None
