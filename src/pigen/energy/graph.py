"""The graph CHGNet computes on: bonds within 6 Å, and angles between bonds within 3 Å.

Every bond is listed once, with its vector; a bond has two directions, and an angle is an ordered
pair of directions that leave the same atom. Lists are rebuilt at every evaluation: compiled, that
takes a few per cent of the network's time, so there is no list with a skin to keep valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import inverse_heights, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import image_span, minimum_image
from pigen.runtime.kernels import njit

MAX_NEIGHBOURS = 300
"""Neighbours within 6 Å, on average over a cell, beyond which a structure is too dense to evaluate.

Solids have about 60, diamond, the densest of them, 160; the work grows with the square.
"""

_OK, _DEGENERATE, _DENSE, _ISOLATED = range(4)


@dataclass(frozen=True)
class Graph:
    """Bonds and angles of a batch of crystals; the S bonds within the angle cutoff come first.

    Attributes:
        first, second: (E,) atoms that a bond joins.
        vectors: (E, 3) Å, from the first atom to (an image of) the second.
        owner: (E,) crystal of each bond.
        n_short: S, bonds that take part in angles.
        centre: (A,) atom at which an angle lies.
        leg: (2, A) directed short bonds, below S for the direction first → second, else that
            plus S for second → first.
        problems: (B,) text for each crystal that can't be evaluated, and has no bonds; else "".
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    vectors: NDArray[np.float64]
    owner: NDArray[np.int64]
    n_short: int
    centre: NDArray[np.int64]
    leg: NDArray[np.int64]
    problems: tuple[str, ...]


def count_bonds(
    crystals: Crystals, cutoff: float, angle_cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Bonds (B,) and angles (B,) of each crystal, and why there are none, as in `Graph`."""
    n_bonds, n_angles, state = _count(
        crystals.lattice, crystals.frac_coords, crystals.ptr, cutoff, angle_cutoff
    )
    return n_bonds, n_angles, tuple(_PROBLEMS[s] for s in state)


def build_graph(crystals: Crystals, cutoff: float, angle_cutoff: float) -> Graph:
    """All bonds shorter than ``cutoff`` Å, and the angles between those below ``angle_cutoff``."""
    n_bonds, _, problems = count_bonds(crystals, cutoff, angle_cutoff)
    first, second, owner, vectors, length = _bonds(
        crystals.lattice, crystals.frac_coords, crystals.ptr, cutoff, n_bonds
    )
    short = length < angle_cutoff
    order = np.argsort(~short, kind="stable")
    n_short = int(short.sum())
    first, second, owner, vectors = first[order], second[order], owner[order], vectors[order]
    centre, leg = _angles(first[:n_short], second[:n_short], len(crystals.atomic_numbers))
    return Graph(first, second, vectors, owner, n_short, centre, leg, problems)


_PROBLEMS = {
    _OK: "",
    _DEGENERATE: "degenerate cell",
    _DENSE: "too many neighbours",
    _ISOLATED: "isolated atom",
}


@njit()
def _pairs(
    cell: NDArray[np.float64],
    coords: NDArray[np.float64],
    cutoff: float,
    angle_cutoff: float,
    degree: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    vectors: NDArray[np.float64],
    length: NDArray[np.float64],
    limit: int,
) -> int:
    """Every pair of atoms within the cutoff once; returns how many, or limit + 1 for too many.

    Fills the arrays as far as they reach, so that empty ones only count. ``degree`` (2, n) counts
    the bonds of each atom, and those among them below the angle cutoff.
    """
    found = 0
    reaches = cutoff * inverse_heights(cell)
    n = len(coords)
    for a in range(n):
        for b in range(a, n):
            delta = coords[b] - coords[a]
            first0, last0 = image_span(reaches[0], delta[0])
            first1, last1 = image_span(reaches[1], delta[1])
            first2, last2 = image_span(reaches[2], delta[2])
            for i in range(first0, last0 + 1):
                for j in range(first1, last1 + 1):
                    for k in range(first2, last2 + 1):
                        # Of an atom's own images, each and its opposite are one bond.
                        if a == b and (i < 0 or (i == 0 and (j < 0 or (j == 0 and k <= 0)))):
                            continue
                        d0, d1, d2 = delta[0] + i, delta[1] + j, delta[2] + k
                        x = d0 * cell[0, 0] + d1 * cell[1, 0] + d2 * cell[2, 0]
                        y = d0 * cell[0, 1] + d1 * cell[1, 1] + d2 * cell[2, 1]
                        z = d0 * cell[0, 2] + d1 * cell[1, 2] + d2 * cell[2, 2]
                        r = np.sqrt(x * x + y * y + z * z)
                        if r >= cutoff:
                            continue
                        if found < len(first):
                            first[found], second[found], length[found] = a, b, r
                            vectors[found, 0], vectors[found, 1], vectors[found, 2] = x, y, z
                        degree[0, a] += 1
                        degree[0, b] += 1
                        if r < angle_cutoff:
                            degree[1, a] += 1
                            degree[1, b] += 1
                        found += 1
                        if found > limit:
                            return found
    return found


@njit()
def _count(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    ptr: NDArray[np.int64],
    cutoff: float,
    angle_cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Bonds and angles of each crystal (B,), 0 for one with a problem, and the problem (B,)."""
    n_bonds = np.zeros(len(lattice), dtype=np.int64)
    n_angles = np.zeros(len(lattice), dtype=np.int64)
    state = np.zeros(len(lattice), dtype=np.int64)
    nothing, nowhere = np.empty(0, dtype=np.int64), np.empty((0, 3))
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if not ok:
            state[s] = _DEGENERATE
            continue
        coords = reduced_coords(frac_coords[ptr[s] : ptr[s + 1]], transform)
        degree = np.zeros((2, len(coords)), dtype=np.int64)
        limit = MAX_NEIGHBOURS * len(coords) // 2
        found = _pairs(
            cell,
            coords,
            cutoff,
            angle_cutoff,
            degree,
            nothing,
            nothing,
            nowhere,
            np.empty(0),
            limit,
        )
        if found > limit:
            state[s] = _DENSE
        elif np.any(degree[0] == 0):
            state[s] = _ISOLATED
        else:
            n_bonds[s] = found
            n_angles[s] = np.sum(degree[1] * (degree[1] - 1))
    return n_bonds, n_angles, state


@njit()
def _bonds(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    ptr: NDArray[np.int64],
    cutoff: float,
    n_bonds: NDArray[np.int64],
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
]:
    """First and second atom, crystal, vector and length of every bond."""
    total = n_bonds.sum()
    first, second = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    owner = np.empty(total, dtype=np.int64)
    vectors, length = np.empty((total, 3)), np.empty(total)
    start = 0
    for s in range(len(lattice)):
        stop = start + n_bonds[s]
        if stop == start:
            continue
        cell, transform, _ = minkowski_reduce(lattice[s])
        coords = reduced_coords(frac_coords[ptr[s] : ptr[s + 1]], transform)
        _pairs(
            cell,
            coords,
            cutoff,
            0.0,
            np.zeros((2, len(coords)), dtype=np.int64),
            first[start:stop],
            second[start:stop],
            vectors[start:stop],
            length[start:stop],
            stop - start,
        )
        first[start:stop] += ptr[s]
        second[start:stop] += ptr[s]
        owner[start:stop] = s
        start = stop
    return first, second, owner, vectors, length


@njit()
def _angles(
    first: NDArray[np.int64], second: NDArray[np.int64], n_atoms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Centre and legs of every ordered pair of different directed bonds that leave one atom."""
    n = len(first)
    start = np.zeros(n_atoms + 1, dtype=np.int64)
    for e in range(n):
        start[first[e] + 1] += 1
        start[second[e] + 1] += 1
    start = np.cumsum(start)
    leaving, filled = np.empty(2 * n, dtype=np.int64), start[:-1].copy()
    total = 0
    for c in range(n_atoms):
        degree = start[c + 1] - start[c]
        total += degree * (degree - 1)
    for e in range(2 * n):
        atom = first[e] if e < n else second[e - n]
        leaving[filled[atom]] = e
        filled[atom] += 1
    centre, leg = np.empty(total, dtype=np.int64), np.empty((2, total), dtype=np.int64)
    a = 0
    for e in range(2 * n):
        atom = first[e] if e < n else second[e - n]
        for f in leaving[start[atom] : start[atom + 1]]:
            if f != e:
                centre[a], leg[0, a], leg[1, a] = atom, e, f
                a += 1
    return centre, leg


@njit()
def closest_approach(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], radii: NDArray[np.float64]
) -> float:
    """Least distance of two atoms of a crystal, over the sum of their radii; NaN if degenerate.

    Args:
        lattice: (3, 3) Å.
        frac_coords: (n, 3).
        radii: (n,) Å.
    """
    cell, transform, ok = minkowski_reduce(lattice)
    if not ok:
        return np.nan
    coords = reduced_coords(frac_coords, transform)
    own = np.sqrt(cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2)
    best = np.inf
    for a in range(len(coords)):
        best = min(best, own / (2.0 * radii[a]))
        for b in range(a):
            best = min(best, minimum_image(cell, coords[a], coords[b]) / (radii[a] + radii[b]))
    return best
