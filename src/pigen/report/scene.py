"""What is drawn of a crystal: atoms, bonds and the edges of its conventional cell, in space.

The picture on a sheet (`picture.py`) and the three-dimensional view of the page (`viewer.py`) show
the same: the same cell, bonds by the same distances, the same colours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.cells import conventional_cell
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS

Floats = NDArray[np.float64]

SYMPREC = 0.1
"""Å: tolerance of the conventional cell, and of the space groups that stand beside pictures."""
MOST_ATOMS = 250
"""Atoms of a conventional cell; a crystal with more in it is drawn in the cell that it came in."""
ON_FACE = 0.1
"""Å: an atom this near to a face of the cell is drawn on the opposite one too."""
_NON_METALS = frozenset((1, 6, 7, 8, 9, 15, 16, 17, 33, 34, 35, 52, 53))
_TOUCHING = 1.15
"""Of the sum of two covalent radii: how far a bond may reach that no table knows."""
_NEAR = 1.1
"""Of the shortest distance: how far the neighbours of a metal's atom reach."""
_TOO_CLOSE = 0.5
"""Å: atoms that lie on each other have no bond."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One crystal in its conventional cell, about the middle of the cell.

    Attributes:
        cell: (3, 3) Å, rows a, b, c: a along x, b in the plane of x and y.
        numbers: (n,) atomic numbers of the atoms, those on faces with their images.
        positions: (n, 3) Å.
        lengths: Å, the longest bond of each pair of elements z ≤ z'.
        bonds: (m, 2) indices of atoms.
    """

    cell: Floats
    numbers: NDArray[np.int64]
    positions: Floats
    lengths: Mapping[tuple[int, int], float]
    bonds: NDArray[np.int64]


def scene_of(crystal: Crystals) -> Scene:
    """The scene of one crystal: a batch of one, with at least one atom."""
    crystal = drawn_cell(crystal)
    cell = upright(crystal.lattice[0])
    near = ON_FACE / np.maximum(np.linalg.norm(cell, axis=1), 1e-9)
    numbers, frac = [], []
    for z, at in zip(crystal.atomic_numbers, crystal.frac_coords, strict=True):
        choices = [
            (x, x + 1) if x < tol else (x, x - 1) if x > 1 - tol else (x,)
            for x, tol in zip(at, near, strict=True)
        ]
        images = list(product(*choices))
        frac += images
        numbers += [int(z)] * len(images)
    positions = (np.array(frac) - 0.5) @ cell
    kinds = np.array(numbers, dtype=np.int64)
    lengths = bond_lengths(crystal)
    return Scene(cell, kinds, positions, lengths, _bonds(kinds, positions, lengths))


def drawn_cell(crystal: Crystals) -> Crystals:
    """The cell in which one crystal is drawn: the conventional one, if it is not too large."""
    found = conventional_cell(crystal, symprec=SYMPREC)
    return crystal if len(found.atomic_numbers) > MOST_ATOMS else found


def bond_lengths(crystal: Crystals) -> dict[tuple[int, int], float]:
    """Longest bond in Å of each pair of elements z ≤ z' that can have one.

    With a non-metal in it, lengths are VESTA's, from pymatgen's table, and 1.15 times the sum of
    the covalent radii (Cordero et al., 10.1039/b801115j) where that lacks a metal and a non-metal.
    Without one, neighbours are what lies within 1.1 times the distance of the nearest.

    Args:
        crystal: one.
    """
    present = sorted(set(crystal.atomic_numbers.tolist()))
    pairs = [(one, other) for one in present for other in present if one <= other]
    if not _NON_METALS & set(present):
        nearest = _nearest(crystal)
        return {pair: _NEAR * max(nearest[z] for z in pair) for pair in pairs}
    found = {}
    for one, other in pairs:
        if (one, other) in _table():
            found[one, other] = _table()[one, other]
        elif (one in _NON_METALS) != (other in _NON_METALS):
            found[one, other] = _TOUCHING * float(covalent_radii()[[one, other]].sum())
    return found


@lru_cache(maxsize=1)
def covalent_radii() -> Floats:
    """Covalent radii in Å, (104,), as ASE lists them."""
    from ase.data import covalent_radii as listed

    return np.asarray(listed[: MAX_Z + 1], dtype=np.float64)


@lru_cache(maxsize=1)
def colours() -> tuple[str, ...]:
    """Jmol's colours as #rrggbb by atomic number, as ASE lists them."""
    from ase.data.colors import jmol_colors

    levels = np.rint(255 * np.asarray(jmol_colors[: MAX_Z + 1])).astype(int)
    return tuple("#" + "".join(f"{x:02x}" for x in rgb) for rgb in levels)


@lru_cache(maxsize=1)
def _table() -> dict[tuple[int, int], float]:
    from pymatgen.analysis.local_env import CutOffDictNN

    place = {symbol: z for z, symbol in enumerate(SYMBOLS)} | {"D": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed = CutOffDictNN.from_preset("vesta_2019").cut_off_dict
    found: dict[tuple[int, int], float] = {}
    for (one, other), length in listed.items():
        if one in place and other in place:
            low, high = sorted((place[one], place[other]))
            # O–H is listed twice, as a bond and as a hydrogen bond: the bond is meant.
            found[low, high] = min(float(length), found.get((low, high), np.inf))
    return found


def upright(lattice: Floats) -> Floats:
    """The same cell with a along x and b in the plane of x and y; a left-handed one is mirrored."""
    _, r = np.linalg.qr(lattice.T)
    upright: Floats = (np.sign(np.diag(r))[:, None] * r).T
    return upright


def _nearest(crystal: Crystals) -> dict[int, float]:
    """Å from the atoms of each element to the nearest one, at the least."""
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    frac = crystal.frac_coords
    shifted = (frac[None] + images[:, None]).reshape(-1, 3) - frac[:, None]
    apart = np.linalg.norm(shifted @ crystal.lattice[0], axis=2)
    nearest = np.where(apart > _TOO_CLOSE, apart, np.inf).min(axis=1)
    kinds = crystal.atomic_numbers
    return {int(z): float(nearest[kinds == z].min()) for z in np.unique(kinds)}


def _bonds(
    numbers: NDArray[np.int64], positions: Floats, lengths: Mapping[tuple[int, int], float]
) -> NDArray[np.int64]:
    reach = np.zeros((MAX_Z + 1, MAX_Z + 1))
    for (one, other), length in lengths.items():
        reach[one, other] = reach[other, one] = length
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    bonded = (apart < reach[numbers[:, None], numbers[None]]) & (apart > _TOO_CLOSE)
    return np.argwhere(np.triu(bonded, 1))
