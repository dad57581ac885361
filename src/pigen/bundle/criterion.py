"""A criterion, as data: what a value must be for a structure to pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        holding: one or more of each of these groups must be among the names.
        without: none of these may be among the names.
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
    holding: tuple[tuple[str, ...], ...] = ()
    without: tuple[str, ...] = ()
    wording: str = ""

    @property
    def text(self) -> str:
        """Like ``0.55 < c < 0.85``, ``3 ≤ n_elements``, ``novel`` or ``no prototype``."""
        if self.wording:
            return self.wording
        if self.absent:
            return f"no {self.name}"
        if self.is_on_names:
            said = [f"among {', '.join(self.among)}"] if self.among is not None else []
            said += [f"with {', '.join(map(' or '.join, self.holding))}"] if self.holding else []
            said += [f"without {', '.join(self.without)}"] if self.without else []
            return f"{self.name} {'; '.join(said)}"
        less, more = ("≤", "≥") if self.inclusive else ("<", ">")
        if self.low is not None and self.high is None:
            return f"{self.name} {more} {self.low:g}"
        low = f"{self.low:g} {less} " if self.low is not None else ""
        return low + self.name + (f" {less} {self.high:g}" if self.high is not None else "")

    @property
    def is_on_names(self) -> bool:
        """Whether the value is a text of names joined by "-"."""
        return self.among is not None or bool(self.holding or self.without)

    def names_wrong(self, names: Iterable[str]) -> tuple[str, ...]:
        """What is wrong with some names, like ``("Pb not allowed", "no O or S")``."""
        held = set(names)
        odd = held - {*(held if self.among is None else self.among)} | held & {*self.without}
        lacking = [" or ".join(group) for group in self.holding if not held & {*group}]
        said = [f"{', '.join(sorted(odd))} not allowed"] if odd else []
        return (*said, *(f"no {group}" for group in lacking))

    @property
    def has_window(self) -> bool:
        """Whether the value is a number that must lie between ends."""
        return self.low is not None or self.high is not None
