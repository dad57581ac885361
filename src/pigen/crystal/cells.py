"""Every reduced or standard cell of a crystal.

Which one to take:

==================================  ==============================================================
`lattice.minkowski_reduce`          shortest vectors, compiled, on one lattice: before anything
                                    that needs nearest images (`pigen.crystal.neighbours`)
`niggli`                            the cell that depends on the lattice alone, by spglib: what
                                    the model learns from and is given
`standard_cells`                    primitive, atoms on their exact symmetry positions, with the
                                    way back to the atoms given, by moyo: what M_LED counts
`conventional_cell`                 conventional and standardised, by moyo: seeds of searches
`symmetry.primitive_cells`          smallest under pure translations, real positions kept,
                                    compiled: sizes and orbits, behind K
`prototypes.reduce.matcher_cells`   what pymatgen's StructureMatcher compares; it must be
                                    pymatgen's own reduction, for matches are held to be its
==================================  ==============================================================

They are no substitutes for one another: they differ in atoms (primitive or not), in positions
(idealised or real) and in which of several equal cells is taken, and published values of the
descriptors rest on those named.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals, wrap
from pigen.crystal.neighbours import shortest_distances

_Index = NDArray[np.int64]
_Part = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8], _Index, _Index]

CLOSEST_ALIKE = 0.7
"""Å: nearer atoms of one element could be lattice translations. In cells that short (seen up to
0.3 Å at a tolerance of 0.01 Å) moyo finds symmetries without end, until memory runs out."""


def niggli(crystals: Crystals) -> Crystals:
    """Every crystal in its Niggli-reduced cell (spglib); a cell that can't be reduced stays."""
    # Failures are to be exceptions: what spglib does unless told so is to warn on every call.
    os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "false")
    import spglib

    reduced = crystals.lattice.copy()
    for i, lattice in enumerate(crystals.lattice):
        with contextlib.suppress(spglib.SpglibError):
            reduced[i] = spglib.niggli_reduce(lattice)
    # spglib may rotate the cell; only the change of basis is wanted, in integers.
    change = np.tile(np.eye(3), (len(crystals), 1, 1))
    whole = np.linalg.det(crystals.lattice) != 0
    change[whole] = np.rint(reduced[whole] @ np.linalg.inv(crystals.lattice[whole]))
    change[~np.isclose(np.abs(np.linalg.det(change)), 1.0)] = np.eye(3)
    inverse = np.rint(np.linalg.inv(change))
    return Crystals(
        lattice=change @ crystals.lattice,
        frac_coords=wrap(np.einsum("na,nab->nb", crystals.frac_coords, inverse[crystals.batch])),
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def moyo_dataset(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
) -> Any:
    """What moyo finds of the symmetry of one cell: (3, 3) Å, (n, 3), (n,); a ``MoyoDataset``.

    None where no symmetry is consistent at any tolerance that moyo tries. It must not be asked
    about atoms of an element that are closer than `CLOSEST_ALIKE`.
    """
    from moyopy import Cell, MoyoDataset

    # It logs that a cell given was not primitive, and of operations; here that is no news.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    cell = Cell(lattice.tolist(), frac_coords.tolist(), numbers.tolist())
    try:
        return MoyoDataset(cell, symprec=symprec)
    except ValueError:
        return None


def conventional_cell(crystal: Crystals, *, symprec: float = 0.01) -> Crystals:
    """The conventional standardised cell of one crystal, by moyo; as given where that fails."""
    numbers = crystal.atomic_numbers
    alike = shortest_distances(crystal.lattice, crystal.frac_coords, numbers, crystal.ptr)[0]
    if not alike >= CLOSEST_ALIKE:
        return crystal
    found = moyo_dataset(crystal.lattice[0], crystal.frac_coords, numbers, symprec)
    if found is None:
        return crystal
    standard = found.std_cell
    cell = Crystals.single(standard.basis, standard.positions, standard.numbers)
    same = cell.reduced_formulas() == crystal.reduced_formulas()
    return cell if same else crystal


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
    found = moyo_dataset(lattice, frac_coords, numbers, symprec)
    if found is None:
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
