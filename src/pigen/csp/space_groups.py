"""How often known crystals have each space group: what random cells draw theirs by.

Few groups hold most crystals with so many atoms in the primitive cell: with 13 or 14, one in 15 is
Fd-3m, the spinels' group. A search that draws all 229 groups alike spends most of its relaxations
on the others. `python benchmarks/space_groups.py` counts them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pigen.runtime.resources import SPACE_GROUPS

ALIKE = 0.25
"""Share of the draws in which all groups are alike: what is searched for may be of a rare one."""


def draw_group(counts: tuple[int, ...], rng: Generator) -> Any:
    """A group of PyXtal's in whose primitive cell so many atoms of each element have orbits.

    Groups 2 … 230. Any counts fit Pm, whose onefold sites take any number of atoms.

    Args:
        counts: atoms of each element in the primitive cell.
        rng: of the choice.
    """
    weights = group_weights(sum(counts))
    while True:
        number = int(rng.choice(len(weights), p=weights))
        if _fits(number, counts):
            return group_of(number)


@lru_cache(maxsize=64)
def group_weights(n_atoms: int) -> NDArray[np.float64]:
    """Probability (231,) of each group, by its number, for so many atoms in the primitive cell.

    That of known crystals with as many atoms, or one more or less; beyond the largest counted, of
    the largest.
    """
    table = _counts()
    known = np.zeros(231)
    known[2:] = table[min((n_atoms - 1) // 2, len(table) - 1), 1:]
    weights = np.zeros(231)
    weights[2:] = ALIKE / 229
    weights += (1 - ALIKE) * known / known.sum()
    return weights


@lru_cache(maxsize=1)
def _counts() -> NDArray[np.float64]:
    """(sizes, 230): structures with 1 or 2, 3 or 4 … atoms in the primitive cell in each group."""
    return np.array(json.loads(SPACE_GROUPS.read_text("utf-8"))["counts"], dtype=float)


@lru_cache(maxsize=256)
def group_of(number: int) -> Any:
    """The space group of a number, 1 … 230, as PyXtal has it."""
    from pyxtal.symmetry import Group

    return Group(number)


@lru_cache(maxsize=65536)
def _fits(number: int, counts: tuple[int, ...]) -> bool:
    group = group_of(number)
    return bool(group.check_compatible([group.cellsize() * n for n in counts])[0])
