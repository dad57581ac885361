"""Known structures, which of them a structure fits, and which of a stream came before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.descriptors.prototypes.reduce import PREPARE, Prepared, Reduced
from pigen.descriptors.prototypes.screen import ANGLE_TOL, LTOL, STOL, may_fit

if TYPE_CHECKING:  # heavy: imported when something is matched
    from pymatgen.core import Structure
    from pymatgen.core.structure_matcher import StructureMatcher


class KnownStructures:
    """Structures in the order they were added, looked up by what fits them.

    Two tests, each far cheaper than the next and neither losing a fit: equal number of sites (and
    equal composition, if the species count), and `may_fit`. pymatgen's matcher decides the rest.

    The invariants tell which are worth trying first, not which can be left out: at the tolerances
    of the matcher, structures that fit differ by up to 0.42 in their largest component (of 965
    fits between 1,200 real or generated structures and the AFLOW prototypes), and of the pairs
    that don't fit 94 % are that near.
    """

    def __init__(self, known: Iterable[Reduced] = (), *, species: bool = False) -> None:
        """``species``: compare structures with their elements, not frameworks."""
        self._species = species
        self._known: list[Reduced] = []
        self._groups: defaultdict[Hashable, _Group] = defaultdict(_Group)
        for one in known:
            self.add(one)

    def __len__(self) -> int:
        """How many were added."""
        return len(self._known)

    def __getitem__(self, index: int) -> Reduced:
        """The structure that was added as number ``index``."""
        return self._known[index]

    def add(self, one: Reduced) -> None:
        """Add a structure; its number is ``len(self)``."""
        self._groups[self._key(one)].add(len(self._known), one.invariant)
        self._known.append(one)

    def first_fit(self, one: Reduced) -> int | None:
        """Number of the first structure that this one fits, None if there is none.

        Raises:
            ValueError: the matcher fails on a pair.
        """
        return next(self.fits(one), None)

    def fits(self, one: Reduced, *, nearest_first: bool = False) -> Iterator[int]:
        """Numbers of the structures that this one fits, in order or nearest by invariant first.

        Raises:
            ValueError: the matcher fails on a pair.
        """
        group = self._groups.get(self._key(one))
        if group is None:
            return
        for index in group.numbers(one.invariant if nearest_first else None):
            if self._may_fit(one, self._known[index]) and matches(
                one.structure, self._known[index].structure, species=self._species
            ):
                yield index

    def _may_fit(self, one: Reduced, known: Reduced) -> bool:
        a, b = one.crystal, known.crystal
        kinds, known_kinds = a.atomic_numbers, b.atomic_numbers
        if not self._species:
            kinds = known_kinds = np.zeros_like(kinds)
        return bool(
            may_fit(a.lattice[0], a.frac_coords, kinds, b.lattice[0], b.frac_coords, known_kinds)
        )

    def _key(self, one: Reduced) -> Hashable:
        n = int(one.crystal.n_atoms[0])
        return (n, one.crystal.reduced_formulas()[0]) if self._species else n


class _Group:
    """Numbers and invariants of structures that share a key, in arrays that grow."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._invariants: NDArray[np.float64] = np.empty((0, 0))

    def add(self, number: int, invariant: NDArray[np.float64]) -> None:
        n = len(self._numbers)
        if n >= len(self._invariants):
            grown = np.empty((2 * n + 4, len(invariant)))
            grown[:n] = self._invariants[:n].reshape(n, len(invariant))
            self._invariants = grown
        self._invariants[n] = invariant
        self._numbers.append(number)

    def numbers(self, near: NDArray[np.float64] | None) -> list[int]:
        """All numbers, in order, or nearest to an invariant first."""
        if near is None:
            return list(self._numbers)
        difference = self._invariants[: len(self._numbers)] - near
        order = np.argsort(np.abs(difference).max(axis=1), kind="stable")
        return [self._numbers[row] for row in order]


def matches(one: Structure, known: Structure, *, species: bool = False) -> bool:
    """Whether pymatgen's matcher fits two structures that are reduced already.

    Raises:
        ValueError: the matcher fails on them.
    """
    try:
        return bool(structure_matcher(species).fit(one, known, skip_structure_reduction=True))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise ValueError(f"the matcher fails: {error}") from error


@lru_cache(maxsize=2)
def structure_matcher(species: bool = False) -> StructureMatcher:
    """The matcher that the definitions name; of frameworks unless the species count."""
    from pymatgen.core.structure_matcher import (
        FrameworkComparator,
        SpeciesComparator,
        StructureMatcher,
    )

    return StructureMatcher(
        ltol=LTOL,
        stol=STOL,
        angle_tol=ANGLE_TOL,
        primitive_cell=True,
        scale=True,
        comparator=SpeciesComparator() if species else FrameworkComparator(),
    )


SOURCE = "pigen: first of its kind, by pymatgen's StructureMatcher"
"""Source of the column ``unique``."""


class UniqueStage(Stage[Prepared]):
    """Marks every structure that is the first of its kind, in the column ``unique``."""

    like: Mapping[str, Any] = {EVERY: 0}

    def __init__(self) -> None:
        """Start without structures."""
        super().__init__()
        self.counts, self.task, self._distinct = Counter(), PREPARE, Distinct()

    def take(self, result: Prepared) -> Bundle:
        """Count duplicates; return the chunk with the column."""
        first = self._distinct.add(result)
        n = int(first.sum())
        self.counts.update({"unique": n, "duplicates": len(first) - n})
        return result[0].with_columns({"unique": Column(first, "", SOURCE)})


class Distinct:
    """Tells which structures of a stream are no duplicate of an earlier one, elements included."""

    def __init__(self) -> None:
        """Start without structures."""
        self._known = KnownStructures(species=True)
        self._numbers: list[int] = []  # in the stream, of those in `_known`
        self._seen = 0

    def firsts(self, prepared: Prepared) -> NDArray[np.int64]:
        """(B,) the number of the first of its kind of each structure of a chunk.

        Numbers count the structures of the stream from 0. A structure is a duplicate if it fits
        one that was the first of its kind. One that can't be compared is the first of its kind.
        """
        numbers = np.arange(self._seen, self._seen + len(prepared[1]))
        self._seen += len(numbers)
        for i, one in enumerate(prepared[1]):
            if one is None:
                continue
            try:
                fit = self._known.first_fit(one)
            except ValueError:  # the matcher fails on it
                continue
            if fit is not None:
                numbers[i] = self._numbers[fit]
            else:
                self._known.add(one)
                self._numbers.append(int(numbers[i]))
        return numbers

    def add(self, prepared: Prepared) -> NDArray[np.bool_]:
        """(B,) whether each structure of a chunk is the first of its kind, as `firsts` has it."""
        before = self._seen
        return np.asarray(self.firsts(prepared) == np.arange(before, self._seen))
