"""What to calculate first: structures in order of a column, without duplicates and known ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column
from pigen.config import MORE_IS_BETTER
from pigen.runtime.errors import UsageError
from pigen.screening.stability import new_and_unique

RANK = "rank"
FACTS = ("n_atoms", "volume", "density")
"""Columns that every crystal can have: atoms in its cell, Å^3 and g/cm^3."""
_GRAMS = 1.66053906660
"""g/cm^3 in one atomic mass unit per Å^3."""
_LOOK = 10
"""Times n: how many of the first are compared with each other before more of them are."""


@dataclass(frozen=True)
class Key:
    """A column to sort by, and which end comes first."""

    column: str
    descending: bool

    @classmethod
    def parse(cls, text: str) -> Key:
        """From ``NAME``, ``NAME:asc`` or ``NAME:desc``; UsageError for another end.

        Without an end, the better one comes first: the most of what a criterion wants at least,
        such as a probability or M_LED, the least of anything else.
        """
        name, _, end = text.strip().partition(":")
        if not name or end not in ("", "asc", "desc"):
            raise UsageError(f"--by {text}: expected NAME, NAME:asc or NAME:desc")
        return cls(name, end == "desc" or (not end and name in MORE_IS_BETTER))

    @property
    def text(self) -> str:
        """In words, e.g. ``mled, greatest first``."""
        return f"{self.column}, {'greatest' if self.descending else 'least'} first"


@dataclass(frozen=True)
class Ranked:
    """The first of a ranking, and what is not among them.

    Attributes:
        bundle: in order, with the column ``rank`` from 1 on.
        keys: what it is sorted by.
        left_out: structures by reason.
    """

    bundle: Bundle
    keys: tuple[Key, ...]
    left_out: Counter[str]


def rank(
    bundle: Bundle,
    n: int,
    keys: Sequence[Key],
    executor: Executor,
    *,
    known_formulas: frozenset[str] = frozenset(),
    known: Iterable[Bundle] = (),
    per_system: int | None = None,
) -> Ranked:
    """The first n structures.

    Args:
        bundle: structures with the columns of the keys.
        n: how many; fewer if there are no more.
        keys: columns to sort by, the first decides.
        executor: where structures are prepared for comparison.
        known_formulas: compositions of known compounds.
        known: structures of known compounds, as far as they are at hand, to be gone through again
            at will. A structure of a known composition of which none is at hand counts as known.
        per_system: most of one chemical system.

    Raises:
        UsageError: no such column, or not one of numbers.
    """
    columns = [_numbers(bundle, key) for key in keys]
    have = np.all([np.isfinite(values) for values in columns], axis=0)
    left_out = Counter({f"no {' or '.join(k.column for k in keys)}": int((~have).sum())})
    rows = np.flatnonzero(have)
    # numpy's last key decides first; a stable order keeps equal ones as they came.
    sorted_by = [-v[rows] if k.descending else v[rows] for k, v in zip(keys, columns, strict=True)]
    ordered = bundle.select(rows[np.lexsort(sorted_by[::-1])])
    looked = max(_LOOK * n, 250)
    while True:
        chosen, why = _choose(
            ordered.select(slice(0, looked)), known_formulas, known, per_system, executor
        )
        if len(chosen) >= n or looked >= len(ordered):
            break
        looked *= 4
    left_out += why
    left_out["lower rank"] = max(len(ordered) - looked, 0) + max(len(chosen) - n, 0)
    chosen = chosen.select(slice(0, n))
    ranks = np.arange(1, len(chosen) + 1)
    said = "; ".join(key.text for key in keys)
    chosen = chosen.with_columns({RANK: Column(ranks, "", f"pigen rank by {said}")})
    return Ranked(chosen, tuple(keys), +left_out)


def _choose(
    ordered: Bundle,
    known_formulas: frozenset[str],
    known: Iterable[Bundle],
    per_system: int | None,
    executor: Executor,
) -> tuple[Bundle, Counter[str]]:
    """Those that are new, the first of their kind and of few enough in their chemical system."""
    left_out: Counter[str] = Counter()
    first = new_and_unique(ordered, frozenset(), (), executor)
    left_out["duplicate of one with a better rank"] = int((~first).sum())
    ordered = ordered.select(first)
    new = new_and_unique(ordered, known_formulas, known, executor)
    left_out["known compound"] = int((~new).sum())
    ordered = ordered.select(new)
    if per_system is not None:
        few = _first_of_each(ordered, per_system)
        left_out[f"more than {per_system} of its chemical system"] = int((~few).sum())
        ordered = ordered.select(few)
    return ordered, left_out


def with_facts(bundle: Bundle) -> Bundle:
    """The bundle with the columns `FACTS`; those that it has stay."""
    from ase.data import atomic_masses

    crystals = bundle.crystals
    mass = np.bincount(
        crystals.batch, np.asarray(atomic_masses)[crystals.atomic_numbers], len(crystals)
    )
    values = (crystals.n_atoms, crystals.volume, _GRAMS * mass / crystals.volume)
    units = ("", "Å^3", "g/cm^3")
    return bundle.with_columns(
        {
            name: Column(one, unit, "pigen rank")
            for name, unit, one in zip(FACTS, units, values, strict=True)
            if name not in bundle.columns
        }
    )


def _numbers(bundle: Bundle, key: Key) -> NDArray[np.float64]:
    column = bundle.columns.get(key.column)
    if column is None or column.kind == "str" or column.per_atom:
        numbers = [n for n, c in bundle.columns.items() if c.kind != "str" and not c.per_atom]
        hint = "; `pigen energy` makes it" if key.column.startswith("p_hull") else ""
        raise UsageError(
            f"no column of numbers {key.column!r} to rank by{hint}; there are "
            f"{', '.join(numbers) or 'none'}"
        )
    return column.values.astype(np.float64)


def _first_of_each(bundle: Bundle, most: int) -> NDArray[np.bool_]:
    seen: Counter[frozenset[int]] = Counter()
    keep = np.zeros(len(bundle), dtype=bool)
    for i, crystal in enumerate(bundle.crystals):
        system = frozenset(crystal.atomic_numbers.tolist())
        seen[system] += 1
        keep[i] = seen[system] <= most
    return keep
