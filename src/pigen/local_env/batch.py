"""Every site of a batch: one search for images feeds the order parameters and the Voronoi cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pigen.local_env.crystal_nn import chosen
from pigen.local_env.geometry import images_within, inverse_heights, reduce_lattice
from pigen.local_env.order_parameters import MAX_NEIGHBOURS, N_PARAMETERS, order_parameters
from pigen.local_env.voronoi import cut, furthest_vertex, is_closed, new_cell, solid_angle

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SEARCH_CUTOFF = 12.0
"""Å: CrystalNN's ``search_cutoff``; further atoms don't shape a Voronoi cell that closes without."""

DONE, COINCIDENT, OPEN_CELL, TOO_COMPLEX = range(4)
"""Status of a site: evaluated; another atom lies on it; its Voronoi cell doesn't close; its cell
has more faces or vertices than there is room for."""

COINCIDENCE = 1e-3
"""Å: atoms closer than this are one atom listed twice, and no direction leads from one to the other."""

_FIRST_SEARCH = 60.0  # atoms the first sphere of images should hold: enough for most Voronoi cells
_SHELL_WIDTH = 0.12  # of the shortest distance: a shell can't reach further past its first atom
_EDGE = 1e-8  # Å, by which pymatgen's search for neighbours reaches past its radius


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalEnvironments:
    """Environments of S sites with M neighbours in all.

    Attributes:
        status: (S,), one of `DONE`, `COINCIDENT`, `OPEN_CELL`, `TOO_COMPLEX`.
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
        filled = np.where(np.isnan(self.order_parameters), -np.inf, self.order_parameters)
        return np.where(self.status == DONE, filled.argmax(axis=1), -1)


def local_environments(
    lattice: F64, frac_coords: F64, ptr: I64, sites: I64 | None = None
) -> LocalEnvironments:
    """Order parameters and CrystalNN neighbours of the sites of a batch of crystals.

    Args:
        lattice: (B, 3, 3) Å, rows are the cell vectors; any cell of the lattice will do.
        frac_coords: (N, 3).
        ptr: (B + 1,); atoms of crystal i are ``ptr[i]:ptr[i + 1]``.
        sites: (S,) ascending indices of the atoms wanted; all N by default.

    The caller sees to it that every cell has a volume.
    """
    if sites is None:
        sites = np.arange(ptr[-1])
    return LocalEnvironments(
        **dict(
            zip(
                ("status", "order_parameters", "neighbour_ptr", "neighbour", "image"),
                _environments(
                    np.ascontiguousarray(lattice, dtype=np.float64),
                    np.ascontiguousarray(frac_coords, dtype=np.float64),
                    np.ascontiguousarray(ptr, dtype=np.int64),
                    np.ascontiguousarray(sites, dtype=np.int64),
                ),
                strict=True,
            )
        )
    )


@njit(cache=True, nogil=True)
def _environments(
    lattice: F64, frac_coords: F64, ptr: I64, sites: I64
) -> tuple[NDArray[np.uint8], F64, I64, I64, I64]:
    """The loop over crystals and sites behind `local_environments`."""
    status = np.zeros(len(sites), dtype=np.uint8)
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
        reduced, steps = reduce_lattice(lattice[crystal])
        frac = frac_coords[start:stop] @ (lattice[crystal] @ np.linalg.inv(reduced))
        whole = np.floor(frac)
        frac -= whole
        per_height = inverse_heights(reduced)
        volume = 1.0 / abs(np.linalg.det(np.linalg.inv(reduced)))
        first = (_FIRST_SEARCH * volume / (stop - start) * 0.75 / np.pi) ** (1.0 / 3.0)
        while s < len(sites) and sites[s] < stop:
            centre = sites[s] - start
            status[s], atoms, shifts, values = _site(reduced, per_height, frac, centre, first)
            if status[s] == DONE:
                parameters[s] = values
                n = len(atoms)
                if held + n > len(neighbour):
                    more = len(neighbour) + n
                    neighbour = np.concatenate((neighbour, np.empty(more, dtype=np.int64)))
                    image = np.concatenate((image, np.empty((more, 3), dtype=np.int64)))
                for k in range(n):
                    neighbour[held + k] = atoms[k] + start
                    for x in range(3):
                        total = 0
                        for y in range(3):
                            back = shifts[k, y] - whole[atoms[k], y] + whole[centre, y]
                            total += np.int64(back) * steps[y, x]
                        image[held + k, x] = total
                held += n
            neighbour_ptr[s + 1] = held
            s += 1
    return status, parameters, neighbour_ptr, neighbour[:held], image[:held]


@njit(cache=True, nogil=True)
def _site(
    lattice: F64, per_height: F64, frac: F64, centre: int, first: float
) -> tuple[int, I64, I64, F64]:
    """Status, neighbour atoms (k,), their lattice shifts (k, 3) and order parameters of a site."""
    none = np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=np.int64), np.empty(0)
    radius = first
    distance, vector, atom, shift = images_within(lattice, per_height, frac, centre, radius)
    while len(distance) < MAX_NEIGHBOURS or radius < min(
        distance[MAX_NEIGHBOURS - 1] + _SHELL_WIDTH * distance[0],
        _search_radius(distance[MAX_NEIGHBOURS - 1]),
    ):
        radius *= 1.3
        distance, vector, atom, shift = images_within(lattice, per_height, frac, centre, radius)
    if distance[0] < COINCIDENCE:
        return COINCIDENT, none[0], none[1], none[2]
    within = np.searchsorted(
        distance, _search_radius(distance[MAX_NEIGHBOURS - 1]) + _EDGE, side="right"
    )
    values = order_parameters(distance[:within], vector[:within])

    # The Voronoi cell, from the nearest plane out. Where the planes within the cutoff don't close
    # it, the cutoff doubles, at most up to the longest diagonal: beyond that it must be closed.
    longest = 0.0
    for sign0 in (-1.0, 1.0):
        for sign1 in (-1.0, 1.0):
            diagonal = lattice[2] + sign0 * lattice[0] + sign1 * lattice[1]
            longest = max(longest, np.sqrt((diagonal**2).sum()))
    cutoff = SEARCH_CUTOFF
    half_width = 20.0 * max(cutoff, longest)
    corner, corners, plane, owner = new_cell(half_width)
    n_faces = 6
    done = 0
    reach = 2.0 * furthest_vertex(corner, corners, n_faces)
    while True:
        while done < len(distance) and distance[done] <= min(cutoff, reach):
            n_faces = cut(
                corner,
                corners,
                plane,
                owner,
                n_faces,
                vector[done],
                distance[done],
                done,
                half_width,
            )
            if n_faces < 0:
                return TOO_COMPLEX, none[0], none[1], none[2]
            reach = 2.0 * furthest_vertex(corner, corners, n_faces)
            done += 1
        if radius < min(cutoff, reach):
            radius = min(cutoff, reach, 1.5 * radius)
            distance, vector, atom, shift = images_within(
                lattice, per_height, frac, centre, radius
            )
        elif is_closed(corners, owner, n_faces):
            break
        elif cutoff >= longest:
            return OPEN_CELL, none[0], none[1], none[2]
        else:
            cutoff = min(2.0 * cutoff, longest + 0.011)
    angles = np.zeros(n_faces)
    for face in range(n_faces):
        angles[face] = solid_angle(corner[face], corners[face])
    picked = owner[:n_faces][chosen(angles)]
    return DONE, atom[picked], shift[picked], values


@njit(cache=True, nogil=True)
def _search_radius(twelfth: float) -> float:
    """Å within which order parameters see neighbours: 7, or the next whole number that holds 12."""
    return max(7.0, np.ceil(twelfth - _EDGE))
