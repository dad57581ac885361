"""A criterion, as data: what a value must be for a structure to pass.

In the file of a bundle its parts are attributes of the verdict; an older file has texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np

from pigen.bundle.checking import MAX_SOURCE, said

MAX_NAMES = 1000
"""In ``among``: there are no more elements, and no longer list is read from a file."""
_LISTS = ("kept_by", "judged_by")
"""Keys of provenance in version 1."""


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
    def words(self) -> str:
        """The text with its unit, as people read it: what is kept in eV/atom, in meV/atom."""
        if self.unit != "eV/atom" or self.wording:
            return f"{self.text} {self.unit}".strip()
        low, high = (None if end is None else 1000 * end for end in (self.low, self.high))
        return f"{replace(self, low=low, high=high).text} meV/atom"

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


def attributes_of(criterion: Criterion) -> dict[str, Any]:
    """What a file says of a criterion, by attribute; ``source`` puts it in words for people."""
    given: dict[str, Any] = {
        "source": criterion.text,
        "unit": criterion.unit,
        "in_sequence": criterion.in_sequence,
        "inclusive": criterion.inclusive,
        "absent": criterion.absent,
    }
    optional = {"low": criterion.low, "high": criterion.high, "among": criterion.among}
    given |= {key: value for key, value in optional.items() if value is not None}
    listed = {"holding": tuple(map("|".join, criterion.holding)), "without": criterion.without}
    given |= {key: value for key, value in listed.items() if value}
    return given | ({"wording": criterion.wording} if criterion.wording else {})


def criteria_in(file: h5py.File) -> dict[str, Criterion]:
    """Verdict → criterion, of an open file; ValueError or KeyError if one is no criterion."""
    if int(file.attrs["version"]) == 1:
        return _criteria_of_texts(file)
    return {name: _read(name, file[f"verdicts/{name}"].attrs) for name in file["verdicts"]}


def _read(name: str, attributes: Any) -> Criterion:
    """The criterion that `attributes_of` wrote. ValueError or KeyError if it is no such thing."""
    return Criterion(
        name,
        low=_end(name, attributes, "low"),
        high=_end(name, attributes, "high"),
        absent=bool(attributes["absent"]),
        in_sequence=bool(attributes["in_sequence"]),
        unit=said(attributes, "unit"),
        inclusive=bool(attributes["inclusive"]),
        among=_names(name, attributes, "among") if "among" in attributes else None,
        holding=tuple(tuple(one.split("|")) for one in _names(name, attributes, "holding")),
        without=_names(name, attributes, "without"),
        wording=said(attributes, "wording") if "wording" in attributes else "",
    )


def _names(name: str, attributes: Any, key: str) -> tuple[str, ...]:
    """A list of names; empty where there is none."""
    names = np.atleast_1d(attributes.get(key, ()))
    if names.ndim > 1 or len(names) > MAX_NAMES or sum(map(len, names)) > MAX_SOURCE:
        raise ValueError(f"the criterion {name!r} lists too much")
    return tuple(map(str, names))


def _end(name: str, attributes: Any, which: str) -> float | None:
    if which not in attributes:
        return None
    value = float(attributes[which])
    if not math.isfinite(value):
        raise ValueError(f"the criterion {name!r} has the {which} end {value}")
    return value


def _criteria_of_texts(file: h5py.File) -> dict[str, Criterion]:
    """Verdict → criterion in a bundle of version 1, which has texts like ``0.55 < c < 0.85``.

    Its provenance lists those in sequence, as ``kept_by`` or ``judged_by``; if it lists none of
    them, all are. A text of another form is kept as it is.
    """
    listed = [said(file["provenance"].attrs, k) for k in _LISTS if k in file["provenance"].attrs]
    texts = {name: said(file[f"verdicts/{name}"].attrs, "source") for name in file["verdicts"]}
    named = {name for name, text in texts.items() if text in "; ".join(listed).split("; ")}
    found = {}
    for name, text in texts.items():
        number = r"([-+.\deE]{1,30})"
        match = re.fullmatch(rf"(?:{number} < )?{re.escape(name)}(?: ([<>]) {number})?", text)
        low, sign, high = match.groups() if match else (None, None, None)
        low, high = (high, None) if sign == ">" else (low, high)
        column = file.get(f"columns/{name}")
        plain = Criterion(
            name,
            in_sequence=name in (named or texts),
            unit="" if column is None else said(column.attrs, "unit"),
        )
        absent = text == f"no {name}"
        read = replace(plain, low=_finite(low), high=_finite(high), absent=absent)
        found[name] = read if read.text == text else replace(plain, wording=text)
    return found


def _finite(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
