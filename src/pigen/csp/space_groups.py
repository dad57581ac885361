"""How often known crystals have each space group: what random cells draw theirs by.

Few groups hold most crystals: half of the 14,585 stable and nearly stable structures of the
Materials Project that PIGEN's data set trains on are in eleven. A search that draws all groups
alike spends most of its relaxations on the others. `python benchmarks/space_groups.py` counts anew.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

# fmt: off
COUNTS = (
    132, 323, 6, 74, 73, 43, 19, 144, 54, 39, 149, 751, 48, 348, 333, 0, 1, 8, 28, 10,
    8, 0, 2, 1, 53, 39, 0, 1, 8, 2, 56, 0, 30, 0, 5, 106, 2, 172, 2, 26,
    8, 12, 19, 94, 0, 22, 28, 0, 0, 0, 38, 3, 6, 1, 39, 1, 19, 35, 61, 13,
    2, 823, 628, 51, 156, 12, 9, 2, 26, 55, 276, 76, 0, 101, 1, 2, 0, 0, 9, 0,
    0, 50, 5, 9, 5, 8, 86, 66, 0, 0, 0, 6, 0, 0, 0, 0, 8, 1, 25, 1,
    0, 1, 0, 0, 0, 0, 56, 10, 30, 0, 4, 1, 11, 3, 35, 3, 0, 1, 36, 1,
    42, 77, 346, 5, 14, 0, 178, 6, 367, 2, 7, 5, 0, 0, 0, 94, 20, 1, 758, 222,
    122, 2, 1, 0, 1, 20, 27, 217, 1, 4, 0, 9, 2, 4, 29, 98, 2, 0, 3, 112,
    29, 22, 22, 280, 0, 529, 54, 0, 0, 0, 0, 0, 1, 13, 0, 40, 0, 0, 0, 11,
    3, 7, 1, 0, 1, 121, 201, 0, 315, 13, 206, 0, 149, 644, 0, 0, 0, 44, 11, 10,
    0, 0, 0, 81, 21, 0, 0, 0, 0, 0, 0, 1, 3, 0, 15, 219, 11, 0, 0, 54,
    477, 0, 24, 4, 1749, 0, 172, 0, 43, 0,
)
# fmt: on
"""Structures in the groups 1 … 230 of International Tables, by moyo, symprec 0.1 Å."""


def draw_group(counts: tuple[int, ...], rng: Generator) -> Any:
    """A group of PyXtal's in whose primitive cell so many atoms of each element have orbits.

    Groups 2 … 230, each as often as known crystals have it; one of those that none has, as if one
    had. Any counts fit Pm, whose onefold sites take any number of atoms.

    Args:
        counts: atoms of each element in the primitive cell.
        rng: of the choice.
    """
    weights = group_weights()
    while True:
        number = int(rng.choice(len(weights), p=weights))
        if _fits(number, counts):
            return group_of(number)


@lru_cache(maxsize=1)
def group_weights() -> NDArray[np.float64]:
    """Probability (231,) of each group by its number."""
    weights = np.array([0, 0, *COUNTS[1:]], dtype=float)
    weights[2:] += 1
    weights /= weights.sum()
    return weights


@lru_cache(maxsize=256)
def group_of(number: int) -> Any:
    """The space group of a number, 1 … 230, as PyXtal has it."""
    from pyxtal.symmetry import Group

    return Group(number)


@lru_cache(maxsize=65536)
def _fits(number: int, counts: tuple[int, ...]) -> bool:
    group = group_of(number)
    return bool(group.check_compatible([group.cellsize() * n for n in counts])[0])
