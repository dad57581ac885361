"""The list of periodic images around a site (compiled)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pigen.crystal.geometry import inverse3

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def inverse_heights(lattice: F64) -> F64:
    """1 / distance between the opposite faces of the cell, (3,) in 1/Å."""
    inverse = inverse3(lattice)
    heights = np.empty(3)
    for i in range(3):
        heights[i] = np.sqrt(inverse[0, i] ** 2 + inverse[1, i] ** 2 + inverse[2, i] ** 2)
    return heights


@njit(cache=True, nogil=True)
def images_within(
    lattice: F64, per_height: F64, frac: F64, centre: int, inner: float, radius: float, box: F64
) -> tuple[F64, F64, I64, I64]:
    """Atoms and images around one atom, itself excluded, nearest first.

    Args:
        lattice: (3, 3) Å, reduced.
        per_height: (3,) from `inverse_heights`.
        frac: (n, 3) fractional coordinates.
        centre: index of the central atom.
        inner: Å; only what is further away is listed. Negative: everything.
        radius: Å; only what is not further away is listed.
        box: (3,) Å, half the edges of a box around the centre; only what may share a Voronoi face
            with a cell inside that box is listed. Infinite: everything.

    Returns:
        Distances (m,), vectors from the centre (m, 3), atom indices (m,), lattice shifts (m, 3).
    """
    capacity = 256
    while True:
        distance = np.empty(capacity)
        vector = np.empty((capacity, 3))
        atom = np.empty(capacity, dtype=np.int64)
        shift = np.empty((capacity, 3), dtype=np.int64)
        found = 0
        reach0 = radius * per_height[0]
        reach1 = radius * per_height[1]
        reach2 = radius * per_height[2]
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
                        d = np.sqrt(d2)
                        if not inner < d <= radius:
                            continue
                        if j == centre and n0 == 0 and n1 == 0 and n2 == 0:
                            continue
                        # The plane half-way passes by the box.
                        if abs(dx) * box[0] + abs(dy) * box[1] + abs(dz) * box[2] < 0.5 * d2:
                            continue
                        if found < capacity:
                            distance[found] = d
                            vector[found, 0], vector[found, 1], vector[found, 2] = dx, dy, dz
                            atom[found] = j
                            shift[found, 0], shift[found, 1], shift[found, 2] = n0, n1, n2
                        found += 1
        if found <= capacity:
            order = np.argsort(distance[:found])
            return distance[order], vector[order], atom[order], shift[order]
        capacity = found
