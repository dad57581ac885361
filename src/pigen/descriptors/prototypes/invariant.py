"""A continuous, species-blind isometry invariant: average distances to the nearest neighbours.

The mean over the atoms of a cell of the sorted distances to their k nearest neighbours, after
Widdowson et al., MATCH 87, 529 (2022), here at unit volume per atom. It does not depend on the
choice of cell, and changes little when atoms move a little.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import inverse_heights, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import images_within

N_NEIGHBOURS = 32
"""Distances in the invariant: two or three shells."""

F64 = NDArray[np.float64]


def average_distances(crystals: Crystals, k: int = N_NEIGHBOURS) -> F64:
    """Mean distance to the 1st … k-th nearest neighbour, (B, k), in (volume per atom)^(1/3).

    NaN for a degenerate or empty cell.
    """
    return np.asarray(
        _batch(crystals.lattice, crystals.frac_coords, crystals.ptr, crystals.volume, k)
    )


@njit(cache=True)
def _batch(lattice: F64, frac_coords: F64, ptr: NDArray[np.int64], volume: F64, k: int) -> F64:
    averages = np.full((len(lattice), k), np.nan)
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if ok and ptr[s + 1] > ptr[s]:
            coords = reduced_coords(frac_coords[ptr[s] : ptr[s + 1]], transform)
            averages[s] = _average(cell, coords, volume[s], k)
    return averages


@njit(cache=True)
def _average(cell: F64, coords: F64, volume: float, k: int) -> F64:
    n = len(coords)
    unit = (volume / n) ** (1 / 3)
    per_height = inverse_heights(cell)
    everything = np.full(3, np.inf)
    # A ball of this radius holds 1.5 k atoms on average; the few that need more get it.
    start = unit * (1.5 * k * 3 / (4 * np.pi)) ** (1 / 3)
    total = np.zeros(k)
    for i in range(n):
        radius = start
        while True:
            found = images_within(cell, per_height, coords, i, -1.0, radius, everything)[0]
            if len(found) >= k:
                break
            radius *= 1.3
        total += found[:k]
    return np.asarray(total / (n * unit))
