"""One lattice in compiled kernels: Minkowski reduction, determinant, inverse, heights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pigen.runtime.kernels import njit

MIN_VOLUME = 1e-6
"""Å^3: a cell of less volume has no usable geometry and is refused as degenerate."""


@njit()
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
    volume = abs(determinant(lattice))
    # Written so that a NaN fails too.
    if not MIN_VOLUME < volume < np.inf:
        return cell, transform, False
    for _ in range(500):
        for i in range(2):
            for j in range(2 - i):
                if norm2(cell[j + 1]) < norm2(cell[j]):
                    for k in range(3):
                        cell[j, k], cell[j + 1, k] = cell[j + 1, k], cell[j, k]
                        transform[j, k], transform[j + 1, k] = transform[j + 1, k], transform[j, k]
        aa, ab, bb = norm2(cell[0]), _dot(cell[0], cell[1]), norm2(cell[1])
        if abs(ab) > 0.5 * aa * (1.0 + 1e-12):
            _subtract(cell, transform, 1, 0, np.rint(ab / aa))
            continue
        # The lattice point of the plane (a, b) closest to c lies within one step of the rounded
        # projection of c, because a, b are reduced.
        ac, bc = _dot(cell[0], cell[2]), _dot(cell[1], cell[2])
        gram = aa * bb - ab * ab
        x0, y0 = np.rint((ac * bb - bc * ab) / gram), np.rint((bc * aa - ac * ab) / gram)
        best, best_x, best_y = norm2(cell[2]) * (1.0 - 1e-12), 0.0, 0.0
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
            return exact, transform, abs(abs(determinant(exact)) - volume) < 1e-3 * volume
        _subtract(cell, transform, 2, 0, best_x)
        _subtract(cell, transform, 2, 1, best_y)
    return cell, transform, False


@njit()
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


def degenerate_reason(volume: float) -> str:
    """Why a structure whose cell could not be reduced has no value."""
    return f"degenerate cell: volume {volume:.2g} Å^3"


@njit()
def norm2(vector: NDArray[np.float64]) -> float:
    """Square of the length of a vector (3,)."""
    return float(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])


@njit()
def _dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    return float(left[0] * right[0] + left[1] * right[1] + left[2] * right[2])


@njit()
def determinant(m: NDArray[np.float64]) -> float:
    """Determinant of a (3, 3) matrix; negative for a left-handed cell."""
    return float(
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        + m[0, 1] * (m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@njit()
def inverse3(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a (3, 3) matrix by its adjugate, exact for a unimodular integer matrix."""
    # Written out: numba's LAPACK route takes seconds to compile.
    inverse = np.empty((3, 3))
    det = determinant(m)
    for i in range(3):
        for j in range(3):
            r, s, u, v = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
            inverse[i, j] = (m[r, u] * m[s, v] - m[r, v] * m[s, u]) / det
    return inverse


@njit(nogil=True)
def inverse_heights(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / distance between the opposite faces of the cell, (3,) in 1/Å."""
    inverse = inverse3(lattice)
    heights = np.empty(3)
    for i in range(3):
        heights[i] = np.sqrt(inverse[0, i] ** 2 + inverse[1, i] ** 2 + inverse[2, i] ** 2)
    return heights


@njit()
def _subtract(
    cell: NDArray[np.float64], transform: NDArray[np.int64], row: int, other: int, times: float
) -> None:
    """Subtract a multiple of one row from another, in the cell and in its transform."""
    for k in range(3):
        cell[row, k] -= times * cell[other, k]
        transform[row, k] -= np.int64(times) * transform[other, k]
