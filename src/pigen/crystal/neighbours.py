"""Neighbours and periodic images, in compiled kernels over plain arrays.

The nearest image of a wrapped separation lies among the 27 neighbouring cells in a Minkowski-
reduced cell, in any other it may not: `minimum_image` wants a reduced one. `images_within` lists
what lies around one atom, nearest first; where a loop over pairs adds up as it goes and a list
would cost more than the sum (`spp.fit`, `energy.graph`), it takes its bounds from `image_span`.

Two loops keep their own way. The model's (`pigen.model.pairs` and its kernel) run in torch or in
the order of torch, for both must give one value. `prototypes.assignment` wants the second nearest
image too, to know when a match hangs on a tie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.lattice import inverse_heights, minkowski_reduce, norm2, reduced_coords
from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@njit()
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


@njit()
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
        best = np.sqrt(norm2(cell[0]))
        for a in range(len(coords)):
            for b in range(a):
                if kinds[start + a] == kinds[start + b]:
                    best = min(best, minimum_image(cell, coords[a], coords[b]))
        shortest[s] = best
    return shortest


@njit(nogil=True)
def image_span(reach: float, offset: float) -> tuple[int, int]:
    """First and last cell along one axis whose image of an atom can be near enough.

    Args:
        reach: a distance times `inverse_heights` of the axis.
        offset: fractional coordinate of the atom less that of the centre.
    """
    return int(np.ceil(-reach - offset)), int(np.floor(reach - offset))


@njit(nogil=True)
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


@njit()
def lattice_points(cell: F64, radius: float) -> tuple[F64, F64, F64]:
    """Integer coordinates, vectors and lengths of the lattice points within a radius, but 0."""
    reach = np.floor(radius * inverse_heights(cell)).astype(np.int64)
    size = 1
    for k in range(3):
        size *= 2 * reach[k] + 1
    steps, vectors, norms = np.empty((size, 3)), np.empty((size, 3)), np.empty(size)
    found = 0
    for i in range(-reach[0], reach[0] + 1):
        for j in range(-reach[1], reach[1] + 1):
            for k in range(-reach[2], reach[2] + 1):
                length = 0.0
                for x in range(3):
                    vectors[found, x] = i * cell[0, x] + j * cell[1, x] + k * cell[2, x]
                    length += vectors[found, x] ** 2
                if 0.0 < length <= radius * radius:
                    steps[found, 0], steps[found, 1], steps[found, 2] = i, j, k
                    norms[found] = np.sqrt(length)
                    found += 1
    return steps[:found], vectors[:found], norms[:found]


def wrapped_shifts(lattice: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Lattice shifts, (S, 3), that hold every image within the radius of a wrapped difference.

    A difference in [-1/2, 1/2] shifted by k cells lies at least (|k| - 1/2) times the distance of
    the lattice planes away.
    """
    spacing = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.floor(radius / spacing + 0.5).astype(int)
    axes = [np.arange(-k, k + 1) for k in reach]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float64)
