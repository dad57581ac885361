"""Every site of a batch: one search for images feeds the order parameters and the Voronoi cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.lattice import inverse_heights, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import images_within
from pigen.descriptors.local_env.crystal_nn import chosen
from pigen.descriptors.local_env.order_parameters import (
    MAX_NEIGHBOURS,
    N_PARAMETERS,
    order_parameters,
)
from pigen.descriptors.local_env.voronoi import (
    MAX_FACES,
    MISSED,
    OVERFLOW,
    cut,
    extent,
    is_closed,
    new_cell,
    solid_angle,
)
from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SEARCH_CUTOFF = 12.0
"""Å: CrystalNN's ``search_cutoff``. Atoms beyond it don't change a closed Voronoi cell."""

DONE, DEGENERATE, COINCIDENT, OPEN_CELL, TOO_COMPLEX = range(5)
"""Status of a site: evaluated; its crystal's cell has no volume; another atom lies on it; its
Voronoi cell doesn't close; its Voronoi cell has more faces, or hangs on more atoms, than there is
room for."""

COINCIDENCE = 1e-3
"""Å: closer atoms are one atom listed twice: no direction leads from one to the other."""

MAX_IMAGES = 100_000
"""Atoms a sphere may hold that closes a Voronoi cell: five times what crystalline layers 60 Å apart
need. Needles, with atoms a fraction of an Å apart and nothing for 100 Å beside them, have more."""

_FIRST_SEARCH = 60.0  # atoms that the first sphere should hold: enough for most Voronoi cells
_SHELL_WIDTH = 0.12  # of the shortest distance: no shell reaches further past its first atom
_EDGE = 1e-8  # Å, by which pymatgen's search for neighbours reaches past its radius


@dataclass(frozen=True, eq=False)
class LocalEnvironments:
    """Environments of S sites with M neighbours in all.

    Attributes:
        status: (S,), `DONE` or what went wrong.
        order_parameters: (S, 37), NaN where not done.
        neighbour_ptr: (S + 1,); the neighbours of site i are ``neighbour_ptr[i]:[i + 1]``.
        neighbour: (M,) index of the neighbouring atom, in the numbering of the batch.
        image: (M, 3) whole lattice vectors to add to its fractional coordinates.
    """

    status: NDArray[np.uint8]
    order_parameters: F64
    neighbour_ptr: I64
    neighbour: I64
    image: I64

    @property
    def motif(self) -> I64:
        """(S,) place of the largest order parameter, the first of equals; -1 where not done."""
        done = self.status == DONE
        largest = np.argmax(np.where(done[:, None], self.order_parameters, 0.0), axis=1)
        return np.where(done, largest, -1)


def local_environments(
    lattice: F64, frac_coords: F64, ptr: I64, sites: I64 | None = None
) -> LocalEnvironments:
    """Order parameters and CrystalNN neighbours of the sites of a batch of crystals.

    Args:
        lattice: (B, 3, 3) Å, rows are the cell vectors; any cell of the lattice will do.
        frac_coords: (N, 3).
        ptr: (B + 1,); atoms of crystal i are ``ptr[i]:ptr[i + 1]``.
        sites: (S,) ascending indices of the atoms wanted; all N by default.

    What can't be evaluated has its status; nothing is raised.
    """
    if sites is None:
        sites = np.arange(ptr[-1])
    return LocalEnvironments(
        *_environments(
            np.ascontiguousarray(lattice, dtype=np.float64),
            np.ascontiguousarray(frac_coords, dtype=np.float64),
            np.ascontiguousarray(ptr, dtype=np.int64),
            np.ascontiguousarray(sites, dtype=np.int64),
        )
    )


@njit(nogil=True)
def _environments(
    lattice: F64, frac_coords: F64, ptr: I64, sites: I64
) -> tuple[NDArray[np.uint8], F64, I64, I64, I64]:
    """The loop over crystals and sites behind `local_environments`."""
    status = np.full(len(sites), DEGENERATE, dtype=np.uint8)
    parameters = np.full((len(sites), N_PARAMETERS), np.nan)
    neighbour_ptr = np.zeros(len(sites) + 1, dtype=np.int64)
    neighbour = np.empty(16 * len(sites) + 64, dtype=np.int64)
    image = np.empty((16 * len(sites) + 64, 3), dtype=np.int64)
    held = 0
    s = 0
    for crystal in range(len(ptr) - 1):
        start, stop = ptr[crystal], ptr[crystal + 1]
        if s == len(sites) or sites[s] >= stop:
            continue
        cell, transform, ok = minkowski_reduce(lattice[crystal])
        given = frac_coords[start:stop]
        frac = reduced_coords(given, transform) if ok else given
        per_height = inverse_heights(cell) if ok else np.zeros(3)
        while s < len(sites) and sites[s] < stop:
            if ok:
                centre = sites[s] - start
                status[s], atoms, shifts = _site(cell, per_height, frac, centre, parameters[s])
                n = len(atoms)
                if held + n > len(neighbour):
                    more = len(neighbour) + n
                    neighbour = np.concatenate((neighbour, np.empty(more, dtype=np.int64)))
                    image = np.concatenate((image, np.empty((more, 3), dtype=np.int64)))
                for k in range(n):
                    neighbour[held] = atoms[k] + start
                    for x in range(3):
                        step = given[centre, x] - given[atoms[k], x]
                        for y in range(3):
                            to = frac[atoms[k], y] + shifts[k, y] - frac[centre, y]
                            step += to * transform[y, x]
                        image[held, x] = np.int64(np.rint(step))
                    held += 1
            s += 1
            neighbour_ptr[s] = held
    return status, parameters, neighbour_ptr, neighbour[:held], image[:held]


@njit(nogil=True)
def _site(
    cell: F64, per_height: F64, frac: F64, centre: int, parameters: F64
) -> tuple[int, I64, I64]:
    """Fill in a site's order parameters; return status, neighbours (k,), their shifts (k, 3)."""
    nobody, nowhere = np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=np.int64)
    # Atoms in a sphere of 1 Å: the area that a is the height on, times that height, is the volume.
    volume = math.sqrt((np.cross(cell[1], cell[2]) ** 2).sum()) / per_height[0]
    density = len(frac) / volume * (4.0 / 3.0 * math.pi)
    radius = (_FIRST_SEARCH / density) ** (1.0 / 3.0)
    box = np.full(3, np.inf)
    found = images_within(cell, per_height, frac, centre, -1.0, radius, box)
    while len(found[0]) < MAX_NEIGHBOURS or radius < _needed_radius(found[0]):
        radius *= 1.3
        found = images_within(cell, per_height, frac, centre, -1.0, radius, box)
    distance, vector, atom, shift = found
    if distance[0] < COINCIDENCE:
        return COINCIDENT, nobody, nowhere
    within = np.searchsorted(distance, _search_radius(distance) + _EDGE, side="right")
    values = order_parameters(distance[:within], vector[:within])

    # The Voronoi cell, from the nearest plane out. Where the planes within the cutoff don't close
    # it the cutoff doubles, up to the longest diagonal: beyond that, it must be closed.
    longest = 0.0
    for sign0 in (-1.0, 1.0):
        for sign1 in (-1.0, 1.0):
            diagonal = cell[2] + sign0 * cell[0] + sign1 * cell[1]
            longest = max(longest, math.sqrt((diagonal**2).sum()))
    cutoff = SEARCH_CUTOFF
    half_width = 20.0 * max(cutoff, longest)
    corner, corners, plane = new_cell(half_width)
    face_atom = np.empty(MAX_FACES, dtype=np.int64)
    face_shift = np.empty((MAX_FACES, 3), dtype=np.int64)
    n_faces, done = 6, 0
    furthest = extent(corner, corners, n_faces, box)
    while True:
        while done < len(distance) and distance[done] <= min(cutoff, 2.0 * furthest):
            slot = cut(corner, corners, plane, n_faces, vector[done], distance[done], half_width)
            if slot == OVERFLOW:
                return TOO_COMPLEX, nobody, nowhere
            if slot != MISSED:
                n_faces = max(n_faces, slot + 1)
                face_atom[slot] = atom[done]
                face_shift[slot] = shift[done]
                furthest = extent(corner, corners, n_faces, box)
            done += 1
        if radius < min(cutoff, 2.0 * furthest):
            inner, radius = radius, min(cutoff, 2.0 * furthest, 2.0 * radius)
            if density * radius**3 > MAX_IMAGES:
                return TOO_COMPLEX, nobody, nowhere
            distance, vector, atom, shift = images_within(
                cell, per_height, frac, centre, inner, radius, box
            )
            done = 0
        elif is_closed(corners):
            break
        elif cutoff >= longest:
            return OPEN_CELL, nobody, nowhere
        else:
            cutoff = min(2.0 * cutoff, longest + 0.01)
    angles = np.zeros(n_faces)
    for face in range(n_faces):
        angles[face] = solid_angle(corner[face], corners[face])
    picked = chosen(angles)
    parameters[:] = values
    return DONE, face_atom[picked], face_shift[picked]


@njit(nogil=True)
def _search_radius(distance: F64) -> float:
    """Å within which order parameters see neighbours: 7, or the next whole number that holds 12."""
    return max(7.0, float(math.ceil(distance[MAX_NEIGHBOURS - 1] - _EDGE)))


@njit(nogil=True)
def _needed_radius(distance: F64) -> float:
    """Å that a search must reach for the order parameters: the 12th neighbour's whole shell."""
    shell = float(distance[MAX_NEIGHBOURS - 1] + _SHELL_WIDTH * distance[0])
    return min(shell, _search_radius(distance) + _EDGE)
