"""Lattice reduction and the list of periodic images around a site (compiled)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def reduce_lattice(lattice: F64) -> tuple[F64, I64]:
    """Minkowski-reduced cell of a lattice (Semaev's greedy reduction in three dimensions).

    Args:
        lattice: (3, 3) Å, rows are the cell vectors, linearly independent.

    Returns:
        The reduced rows, and the unimodular integer matrix T with ``reduced = T @ lattice``.
        No image search in the reduced cell needs more cells than its radius asks for.
    """
    vectors = lattice.copy()
    steps = np.eye(3, dtype=np.int64)
    for _ in range(1000):  # a cap for cells at the edge of rounding; a handful of turns suffices
        order = np.argsort((vectors**2).sum(axis=1), kind="mergesort")
        vectors = vectors[order]
        steps = steps[order]
        v0, v1, v2 = vectors[0], vectors[1], vectors[2]
        n0 = v0 @ v0
        n1 = v1 @ v1
        shift = np.rint((v0 @ v1) / n0)
        if shift != 0.0:
            shorter = v1 - shift * v0
            if shorter @ shorter < n1 * (1.0 - 1e-12):
                vectors[1] = shorter
                steps[1] -= np.int64(shift) * steps[0]
                continue
        # The third vector, less the lattice vector of the first two that lies closest to it.
        d01 = v0 @ v1
        det = n0 * n1 - d01 * d01
        x0 = np.floor(((v2 @ v0) * n1 - (v2 @ v1) * d01) / det)
        x1 = np.floor(((v2 @ v1) * n0 - (v2 @ v0) * d01) / det)
        best = (v2 @ v2) * (1.0 - 1e-12)
        best0, best1 = 0.0, 0.0
        for i in range(-1, 3):
            for j in range(-1, 3):
                shorter = v2 - (x0 + i) * v0 - (x1 + j) * v1
                length = shorter @ shorter
                if length < best:
                    best, best0, best1 = length, x0 + i, x1 + j
        if best0 == 0.0 and best1 == 0.0:
            break
        vectors[2] = v2 - best0 * v0 - best1 * v1
        steps[2] -= np.int64(best0) * steps[0] + np.int64(best1) * steps[1]
    return vectors, steps


@njit(cache=True, nogil=True)
def inverse_heights(lattice: F64) -> F64:
    """1 / distance between the opposite faces of the cell, (3,) in 1/Å."""
    reciprocal = np.linalg.inv(lattice)
    return np.sqrt((reciprocal**2).sum(axis=0))


@njit(cache=True, nogil=True)
def images_within(
    lattice: F64, per_height: F64, frac: F64, centre: int, radius: float
) -> tuple[F64, F64, I64, I64]:
    """Every atom and image within a radius of one atom, itself excluded, nearest first.

    Args:
        lattice: (3, 3) Å, reduced.
        per_height: (3,) from `inverse_heights`.
        frac: (n, 3) fractional coordinates.
        centre: index of the central atom.
        radius: Å.

    Returns:
        Distances (m,), vectors from the centre (m, 3), atom indices (m,), lattice shifts (m, 3).
    """
    capacity = 256
    while True:
        distance = np.empty(capacity)
        vector = np.empty((capacity, 3))
        atom = np.empty(capacity, dtype=np.int64)
        shift = np.empty((capacity, 3), dtype=np.int64)
        found = _fill(
            lattice, per_height, frac, centre, radius, distance, vector, atom, shift
        )
        if found <= capacity:
            break
        capacity = found
    order = np.argsort(distance[:found])
    return distance[order], vector[order], atom[order], shift[order]


@njit(cache=True, nogil=True)
def _fill(
    lattice: F64,
    per_height: F64,
    frac: F64,
    centre: int,
    radius: float,
    distance: F64,
    vector: F64,
    atom: I64,
    shift: I64,
) -> int:
    """Write the images that fit into the buffers; return how many there are."""
    found = 0
    capacity = len(distance)
    reach0 = radius * per_height[0]
    reach1 = radius * per_height[1]
    reach2 = radius * per_height[2]
    square = radius * radius
    for j in range(len(frac)):
        f0 = frac[j, 0] - frac[centre, 0]
        f1 = frac[j, 1] - frac[centre, 1]
        f2 = frac[j, 2] - frac[centre, 2]
        for n0 in range(int(np.ceil(-reach0 - f0)), int(np.floor(reach0 - f0)) + 1):
            for n1 in range(int(np.ceil(-reach1 - f1)), int(np.floor(reach1 - f1)) + 1):
                x = (f0 + n0) * lattice[0, 0] + (f1 + n1) * lattice[1, 0]
                y = (f0 + n0) * lattice[0, 1] + (f1 + n1) * lattice[1, 1]
                z = (f0 + n0) * lattice[0, 2] + (f1 + n1) * lattice[1, 2]
                for n2 in range(int(np.ceil(-reach2 - f2)), int(np.floor(reach2 - f2)) + 1):
                    dx = x + (f2 + n2) * lattice[2, 0]
                    dy = y + (f2 + n2) * lattice[2, 1]
                    dz = z + (f2 + n2) * lattice[2, 2]
                    d2 = dx * dx + dy * dy + dz * dz
                    if d2 > square or (j == centre and n0 == 0 and n1 == 0 and n2 == 0):
                        continue
                    if found < capacity:
                        distance[found] = np.sqrt(d2)
                        vector[found, 0] = dx
                        vector[found, 1] = dy
                        vector[found, 2] = dz
                        atom[found] = j
                        shift[found, 0] = n0
                        shift[found, 1] = n1
                        shift[found, 2] = n2
                    found += 1
    return found
