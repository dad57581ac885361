"""The standardised primitive cell of many crystals, with the way back to the atoms given."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.geometry import shortest_distances

_Index = NDArray[np.int64]
_Part = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8], _Index, _Index]

CLOSEST_ALIKE = 0.7
"""Å: nearer atoms of one element could be lattice translations. In cells that short (seen up to
0.3 Å at a tolerance of 0.01 Å) moyo finds symmetries without end, until memory runs out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StandardCells:
    """Standardised primitive cells of a batch of B crystals with N atoms.

    Attributes:
        lattice: (B, 3, 3) Å. frac_coords: (M, 3). atomic_numbers: (M,). ptr: (B + 1,).
        orbit: (M,) index of the first atom of the atom's crystallographic orbit, into the M.
        primitive_of: (N,) index into the M of the atom that each atom given became.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    atomic_numbers: NDArray[np.uint8]
    ptr: _Index
    orbit: _Index
    primitive_of: _Index


def standard_cells(crystals: Crystals, *, symprec: float = 0.01) -> StandardCells:
    """Primitive cells with atoms on their exact symmetry positions, by moyo.

    Args:
        crystals: each with a volume and no two atoms on one place.
        symprec: Å.

    Where the symmetry search fails (it can, at the edge of its tolerance), or atoms of an element
    are closer than `CLOSEST_ALIKE`, the cell stays as given, each atom an orbit of its own.
    """
    # It logs that a cell given was not primitive; here that is nothing to warn of.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    alike = shortest_distances(
        crystals.lattice, crystals.frac_coords, crystals.atomic_numbers, crystals.ptr
    )
    parts = []
    for i in range(len(crystals)):
        atoms = slice(crystals.ptr[i], crystals.ptr[i + 1])
        cell = crystals.lattice[i], crystals.frac_coords[atoms], crystals.atomic_numbers[atoms]
        searched = alike[i] >= CLOSEST_ALIKE
        parts.append(_standard_cell(*cell, symprec) if searched else _as_given(*cell))
    ptr = np.concatenate([[0], np.cumsum([len(p[2]) for p in parts], dtype=np.int64)])
    return StandardCells(
        lattice=np.array([p[0] for p in parts]).reshape(-1, 3, 3),
        frac_coords=np.concatenate([p[1] for p in parts] or [np.empty((0, 3))]),
        atomic_numbers=np.concatenate([p[2] for p in parts] or [np.empty(0, dtype=np.uint8)]),
        ptr=ptr,
        orbit=_joined([p[3] for p in parts], ptr),
        primitive_of=_joined([p[4] for p in parts], ptr),
    )


def _joined(parts: list[_Index], ptr: _Index) -> _Index:
    """Indices that count from 0 in each part, made to count through the batch."""
    shifted = [part + start for part, start in zip(parts, ptr[:-1], strict=True)]
    return np.concatenate([*shifted, np.empty(0, dtype=np.int64)])


def _as_given(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8]
) -> _Part:
    own = np.arange(len(numbers))
    return lattice, frac_coords, numbers, own, own


def _standard_cell(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
) -> _Part:
    """Lattice, coordinates, numbers, orbits and the atoms' places, of one crystal."""
    from moyopy import Cell, MoyoDataset

    try:
        found = MoyoDataset(
            Cell(lattice.tolist(), frac_coords.tolist(), numbers.tolist()), symprec=symprec
        )
    except ValueError:  # no symmetry that is consistent to any tolerance that moyo tries
        return _as_given(lattice, frac_coords, numbers)
    primitive_of = np.array(found.mapping_std_prim)
    # An atom given for each primitive atom, to tell the orbit of the primitive atom.
    _, example = np.unique(primitive_of, return_index=True)
    orbit = primitive_of[np.array(found.orbits)[example]]
    _, first, member = np.unique(orbit, return_index=True, return_inverse=True)
    cell = found.prim_std_cell
    return (
        np.array(cell.basis),
        np.array(cell.positions),
        np.array(cell.numbers, dtype=np.uint8),
        first[member],
        primitive_of,
    )
