"""Moves of the basin hopper: from the current structure, and others, to one worth relaxing.

Rattling, permutation, strain, and cutting and splicing two structures are ASE's (ase-ga: Vilhelmsen
and Hammer, Phys. Rev. Lett. 108, 126101 (2012)); each keeps atoms apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from typing import Any

import numpy as np
from numpy.random import Generator

from pigen.crystal.crystals import Crystals
from pigen.csp.cells import RATTLE, known_cell, random_cell, sorted_atoms
from pigen.csp.frameworks import Frameworks
from pigen.energy.minimise import rattled

EXPECTED: dict[str, float] = {
    "rattle": 0.3,
    "permute": 0.3,
    "strain": 0.3,
    "splice": 0.4,
    "new": 0.4,
    "known": 0.5,
    "double": 0.2,
}
"""Move → what it is expected to gain, 0 … 1, before a search has learnt what it does."""
APART = 0.7
"""Least distance over the sum of covalent radii after a move."""
RATTLE_WIDTH = 1.0
"""Å: half the range along each axis over which a rattled atom is moved; about 40 % of them are."""
STRAIN = 0.3
"""Standard deviation of the elements of a strain."""
ANGLES = {"phi": [30, 150], "chi": [30, 150], "psi": [30, 150]}
"""Angles of a strained or spliced cell, degrees."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What moves may draw on.

    Attributes:
        elements: atoms in the reduced formula.
        max_atoms: in a cell.
        seeds: generated structures, whose layers are spliced in.
        others: structures met before, the lowest ones.
        frameworks: of known crystals.
        next_framework: number of the one that is to be tried next.
    """

    elements: Mapping[str, int]
    max_atoms: int
    seeds: Sequence[Crystals]
    others: Sequence[Crystals]
    frameworks: Frameworks
    next_framework: int


def move(
    current: Crystals, around: Surroundings, order: Iterable[str], rng: Generator
) -> tuple[str, Crystals]:
    """A move's name and the structure it makes, atoms sorted by number.

    Args:
        current: where moves start from.
        around: what they may draw on.
        order: names of all moves; the first that works is taken, and "new", a random cell, always
            does.
        rng: of every choice.
    """
    for name in order:
        made = _MOVES[name](current, around, rng)
        if made is not None:
            return name, sorted_atoms(made)
    raise AssertionError("the move new always works")


def _rattle(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    from ase_ga.standardmutations import RattleMutation

    mutation = RattleMutation(
        _apart(around), int(current.n_atoms[0]), rattle_strength=RATTLE_WIDTH, rng=_legacy(rng)
    )
    return _mutated(mutation, current)


def _permute(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    from ase_ga.standardmutations import PermutationMutation

    if len(around.elements) == 1:
        return None
    mutation = PermutationMutation(
        int(current.n_atoms[0]), probability=rng.uniform(0.1, 1.0), rng=_legacy(rng)
    )
    return _mutated(mutation, current)


def _strain(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    from ase_ga.standardmutations import StrainMutation
    from ase_ga.utilities import CellBounds

    mutation = StrainMutation(_apart(around), CellBounds(ANGLES), STRAIN, rng=_legacy(rng))
    strained = _mutated(mutation, current)
    # Strain alone relaxes back wherever the atoms keep a symmetry.
    return strained if strained is None else rattled(strained, 2 * RATTLE, rng)


def _splice(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    """Layers of the current structure and of a seed or another one, in a cell between theirs."""
    from ase import Atoms
    from ase_ga.cutandsplicepairing import CutAndSplicePairing
    from ase_ga.utilities import CellBounds

    pool = around.seeds if len(around.seeds) and rng.random() < 0.5 else around.others
    if not len(pool):
        return None
    other = pool[int(rng.integers(len(pool)))]
    n = lcm(int(current.n_atoms[0]), int(other.n_atoms[0]))
    if n > around.max_atoms or n < 2:
        return None
    first, second = (repeated(one, n // int(one.n_atoms[0])) for one in (current, other))
    pairing = CutAndSplicePairing(
        Atoms(pbc=True), n, _apart(around), 3, cellbounds=CellBounds(ANGLES), rng=_legacy(rng)
    )
    child = pairing.cross(_atoms(first), _atoms(second))
    return None if child is None else _crystal(child)


def _double(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    """Twice the cell, off its symmetry, so that it may relax to another structure."""
    if 2 * current.n_atoms[0] > around.max_atoms:
        return None
    return rattled(repeated(current, 2), 4 * RATTLE, rng)


def _new(current: Crystals, around: Surroundings, rng: Generator) -> Crystals:
    return random_cell(around.elements, around.max_atoms, rng)


def _known(current: Crystals, around: Surroundings, rng: Generator) -> Crystals | None:
    if around.next_framework >= len(around.frameworks):
        return None
    made = known_cell(around.frameworks, around.next_framework, rng)
    return _new(current, around, rng) if made is None else made  # no place: it counts as tried


_MOVES: dict[str, Callable[[Crystals, Surroundings, Generator], Crystals | None]] = {
    "rattle": _rattle,
    "permute": _permute,
    "strain": _strain,
    "splice": _splice,
    "new": _new,
    "known": _known,
    "double": _double,
}


def repeated(crystal: Crystals, times: int) -> Crystals:
    """A supercell of so many cells, stacked along the shortest vector; atoms sorted by number."""
    if times == 1:
        return crystal
    axis = int(np.argmin(np.linalg.norm(crystal.lattice[0], axis=1)))
    lattice = crystal.lattice[0].copy()
    lattice[axis] *= times
    frac = np.tile(crystal.frac_coords, (times, 1))
    frac[:, axis] += np.repeat(np.arange(times), len(crystal.frac_coords))
    frac[:, axis] /= times
    return sorted_atoms(Crystals.single(lattice, frac, np.tile(crystal.atomic_numbers, times)))


def _mutated(mutation: Any, crystal: Crystals) -> Crystals | None:
    made = mutation.mutate(_atoms(crystal))
    return None if made is None else _crystal(made)


def _atoms(crystal: Crystals) -> Any:
    return crystal.to_ase()[0]


def _crystal(atoms: Any) -> Crystals:
    return Crystals.single(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)


def _apart(around: Surroundings) -> dict[tuple[int, int], float]:
    from pigen.crystal.elements import Z_OF

    return _least_distances(tuple(sorted(Z_OF[symbol] for symbol in around.elements)))


@lru_cache(maxsize=64)
def _least_distances(numbers: tuple[int, ...]) -> dict[tuple[int, int], float]:
    from ase_ga.utilities import closest_distances_generator

    found: dict[tuple[int, int], float] = closest_distances_generator(list(numbers), APART)
    return found


def _legacy(rng: Generator) -> np.random.RandomState:
    """The kind of generator that ase-ga takes, drawn from ours."""
    return np.random.RandomState(int(rng.integers(2**32)))
