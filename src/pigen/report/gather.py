"""One pass over judged structures: counts, the values to draw, and the survivors to list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, Criterion, count_rejects
from pigen.crystal.crystals import Crystals
from pigen.paper.columns import LETTERS
from pigen.screening.criteria import in_paper_order
from pigen.screening.funnel import Funnel

DRAWN = ("spp", "c", "mled", "k")
"""Columns that every report draws and lists; each is the main one of the descriptor so named."""
E_HULL = "e_hull"
N_ATOMS = "n_atoms"
_ABSURD = 1e100
"""No quantity comes near it; sums of such numbers overflow."""

_ORDERED = (*LETTERS.values(), E_HULL, "prototype")


@dataclass(frozen=True, eq=False)
class Survivor:
    """A structure that passed: a batch of one, its values by column (NaN if missing) and texts."""

    id: str
    crystal: Crystals
    values: dict[str, float]
    texts: dict[str, str]

    @property
    def merit(self) -> tuple[float, float]:
        """Sorts what is listed first first: low above the hull, else of diverse environments."""
        e_hull, mled = self.values.get(E_HULL, np.nan), self.values["mled"]
        return (
            float("inf") if np.isnan(e_hull) else e_hull,
            float("inf") if np.isnan(mled) else -mled,
        )


@dataclass
class Gathered:
    """What `gather` found.

    Attributes:
        funnel: the counts.
        provenance: of the first chunk. are_survivors: as of a `Bundle`.
        earlier: why a filter before this one rejected entries → how many.
        judged: column → values of all crystals, NaN where there is none.
        passed: the same of the survivors.
        survivors: those of most merit, in the order of the source.
        sources: column → how it was made.
    """

    funnel: Funnel
    provenance: dict[str, str]
    are_survivors: bool = False
    earlier: Counter[str] = field(default_factory=Counter)
    judged: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    passed: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    survivors: tuple[Survivor, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)


def gather(chunks: Iterable[Bundle], most: int) -> Gathered:
    """Go through judged chunks once.

    Args:
        chunks: with verdicts and the columns `DRAWN`; the first says which criteria there are.
        most: survivors to keep for the list.
    """
    found: Gathered | None = None
    judged: dict[str, list[NDArray[np.float64]]] = {}
    passed: dict[str, list[NDArray[np.float64]]] = {}
    best: list[tuple[int, Survivor]] = []
    n = 0
    for chunk in chunks:
        if found is None:
            funnel = Funnel(criteria_of(chunk))
            found = Gathered(funnel, dict(chunk.provenance), chunk.are_survivors)
        if chunk.are_survivors:
            found.earlier.update(count_rejects(chunk.rejects))
        survivors = found.funnel.add(chunk)
        for store, bundle in ((judged, chunk), (passed, survivors)):
            for name, values in _values(bundle).items():
                store.setdefault(name, []).append(values)
        for name, column in chunk.columns.items():
            if len(chunk):
                found.sources.setdefault(name, column.source)
        best += enumerate(_survivors(survivors), start=n)
        n += len(survivors)
        best = _of_most_merit(best, most)
    if found is None:
        return Gathered(Funnel(()), {})
    found.judged = {name: np.concatenate(parts) for name, parts in judged.items()}
    found.passed = {name: np.concatenate(parts) for name, parts in passed.items()}
    found.survivors = tuple(survivor for _, survivor in best)
    return found


def numbers(column: Column | None) -> NDArray[np.float64] | None:
    """Values (B,) of a column of numbers, absurd ones as NaN; None if it is no such column."""
    if column is None or column.per_atom or column.kind == "str":
        return None
    values = column.values.astype(np.float64)
    return np.where(np.abs(values) < _ABSURD, values, np.nan)


def criteria_of(bundle: Bundle) -> tuple[Criterion, ...]:
    """The criteria behind a bundle's verdicts, in the paper's order."""
    criteria = list(map(_drawable, bundle.criteria.values()))
    known = [criterion for criterion in criteria if criterion.name in _ORDERED]
    others = [criterion for criterion in criteria if criterion.name not in _ORDERED]
    return (*in_paper_order(known), *others)


def _drawable(criterion: Criterion) -> Criterion:
    """A criterion without the ends of a window that are no quantity."""
    ends = (criterion.low, criterion.high)
    if all(end is None or abs(end) < _ABSURD for end in ends):
        return criterion
    return replace(criterion, low=None, high=None, wording=criterion.text)


def _values(bundle: Bundle) -> dict[str, NDArray[np.float64]]:
    found = {N_ATOMS: bundle.crystals.n_atoms.astype(np.float64)}
    for name in (*DRAWN, E_HULL):
        values = numbers(bundle.columns.get(name))
        if values is not None:
            found[name] = values
    return found


def _survivors(bundle: Bundle) -> list[Survivor]:
    values = _values(bundle)
    texts = {
        name: column.values
        for name in ("prototype", "e_hull_reason")
        if (column := bundle.columns.get(name)) and column.kind == "str" and not column.per_atom
    }
    return [
        Survivor(
            id=bundle.ids[i],
            crystal=crystal,
            values={name: float(column[i]) for name, column in values.items()},
            texts={name: column[i] for name, column in texts.items()},
        )
        for i, crystal in enumerate(bundle.crystals)
    ]


def _of_most_merit(best: list[tuple[int, Survivor]], most: int) -> list[tuple[int, Survivor]]:
    kept = sorted(best, key=lambda item: (item[1].merit, item[0]))[:most]
    return sorted(kept, key=lambda item: item[0])
