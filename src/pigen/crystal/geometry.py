"""Cell reduction and minimum-image distances, as compiled kernels over plain arrays.

Everything that needs a nearest image first reduces its cell here: in a Minkowski-reduced cell the
nearest image of a wrapped separation lies among the 27 neighbouring cells, in any other cell it
may not.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MIN_VOLUME = 1e-6
"""Å^3: a cell of less volume has no usable geometry and is refused as degenerate."""


@njit(cache=True)
def minkowski_reduce(
    lattice: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
    """Shortest basis of one lattice, by greedy reduction.

    Args:
        lattice: (3, 3) Å, rows are cell vectors.

    Returns:
        ``reduced`` (3, 3) Å with rows in order of length, the unimodular ``transform`` (3, 3) with
        ``reduced = transform @ lattice``, and whether the lattice could be reduced: False for a
        degenerate one (volume below `MIN_VOLUME`).
    """
    cell = lattice.copy()
    transform = np.eye(3, dtype=np.int64)
    volume = abs(_det(lattice))
    # Written so that a NaN fails too.
    if not MIN_VOLUME < volume < np.inf:
        return cell, transform, False
    for _ in range(500):
        for i in range(2):
            for j in range(2 - i):
                if _norm2(cell[j + 1]) < _norm2(cell[j]):
                    for k in range(3):
                        cell[j, k], cell[j + 1, k] = cell[j + 1, k], cell[j, k]
                        transform[j, k], transform[j + 1, k] = transform[j + 1, k], transform[j, k]
        aa, ab, bb = _norm2(cell[0]), _dot(cell[0], cell[1]), _norm2(cell[1])
        if abs(ab) > 0.5 * aa * (1.0 + 1e-12):
            _subtract(cell, transform, 1, 0, np.rint(ab / aa))
            continue
        # The lattice point of the plane (a, b) closest to c lies within one step of the rounded
        # projection of c, because a, b are reduced.
        ac, bc = _dot(cell[0], cell[2]), _dot(cell[1], cell[2])
        gram = aa * bb - ab * ab
        x0, y0 = np.rint((ac * bb - bc * ab) / gram), np.rint((bc * aa - ac * ab) / gram)
        best, best_x, best_y = _norm2(cell[2]) * (1.0 - 1e-12), 0.0, 0.0
        for x in (x0 - 1.0, x0, x0 + 1.0):
            for y in (y0 - 1.0, y0, y0 + 1.0):
                length = 0.0
                for k in range(3):
                    length += (cell[2, k] - x * cell[0, k] - y * cell[1, k]) ** 2
                if length < best:
                    best, best_x, best_y = length, x, y
        if best_x == 0.0 and best_y == 0.0:
            # Rebuilt from the integers, free of the rounding of the steps.
            exact = np.zeros((3, 3))
            for i in range(3):
                for j in range(3):
                    for k in range(3):
                        exact[i, k] += transform[i, j] * lattice[j, k]
            return exact, transform, abs(abs(_det(exact)) - volume) < 1e-3 * volume
        _subtract(cell, transform, 2, 0, best_x)
        _subtract(cell, transform, 2, 1, best_y)
    return cell, transform, False


@njit(cache=True)
def reduced_coords(
    frac_coords: NDArray[np.float64], transform: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fractional coordinates (n, 3) in the reduced cell ``transform @ lattice``, in [0, 1)."""
    inverse = inverse3(transform.astype(np.float64))
    coords = np.zeros_like(frac_coords)
    for i in range(len(frac_coords)):
        for k in range(3):
            value = 0.0
            for j in range(3):
                value += frac_coords[i, j] * inverse[j, k]
            value -= np.floor(value)
            coords[i, k] = 0.0 if value >= 1.0 else value
    return coords


@njit(cache=True)
def minimum_image(
    cell: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]
) -> float:
    """Å between two fractional positions (3,) and their images, in a *reduced* cell (3, 3)."""
    d0, d1, d2 = stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]
    d0, d1, d2 = d0 - np.rint(d0), d1 - np.rint(d1), d2 - np.rint(d2)
    best = np.inf
    for i in range(-1, 2):
        for j in range(-1, 2):
            for k in range(-1, 2):
                length = 0.0
                for x in range(3):
                    step = (d0 + i) * cell[0, x] + (d1 + j) * cell[1, x] + (d2 + k) * cell[2, x]
                    length += step * step
                best = min(best, length)
    return float(np.sqrt(best))


@njit(cache=True)
def shortest_distances(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    kinds: NDArray[np.uint8],
    ptr: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Shortest distance between atoms of one kind in each crystal, own images included.

    Args:
        lattice: (B, 3, 3) Å.
        frac_coords: (N, 3).
        kinds: (N,), all alike for the distances between any atoms.
        ptr: (B + 1,).

    Returns:
        (B,) Å; NaN where the cell is degenerate.
    """
    shortest = np.full(len(lattice), np.nan)
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if not ok:
            continue
        start = ptr[s]
        coords = reduced_coords(frac_coords[start : ptr[s + 1]], transform)
        best = np.sqrt(_norm2(cell[0]))
        for a in range(len(coords)):
            for b in range(a):
                if kinds[start + a] == kinds[start + b]:
                    best = min(best, minimum_image(cell, coords[a], coords[b]))
        shortest[s] = best
    return shortest


def degenerate_reason(volume: float) -> str:
    """Why a structure whose cell could not be reduced has no value."""
    return f"degenerate cell: volume {volume:.2g} Å^3"


@njit(cache=True)
def _norm2(vector: NDArray[np.float64]) -> float:
    return float(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])


@njit(cache=True)
def _dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    return float(left[0] * right[0] + left[1] * right[1] + left[2] * right[2])


@njit(cache=True)
def _det(m: NDArray[np.float64]) -> float:
    return float(
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        + m[0, 1] * (m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@njit(cache=True)
def inverse3(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a (3, 3) matrix by its adjugate, exact for a unimodular integer matrix."""
    # Written out: numba's LAPACK route takes seconds to compile.
    inverse = np.empty((3, 3))
    det = _det(m)
    for i in range(3):
        for j in range(3):
            r, s, u, v = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
            inverse[i, j] = (m[r, u] * m[s, v] - m[r, v] * m[s, u]) / det
    return inverse


@njit(cache=True)
def _subtract(
    cell: NDArray[np.float64], transform: NDArray[np.int64], row: int, other: int, times: float
) -> None:
    """Subtract a multiple of one row from another, in the cell and in its transform."""
    for k in range(3):
        cell[row, k] -= times * cell[other, k]
        transform[row, k] -= np.int64(times) * transform[other, k]
