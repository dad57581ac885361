"""The standardised primitive cell of many crystals, with the way back to the atoms given."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.crystals import Crystals

# Rows: primitive vectors in units of the conventional ones, by the first letter of the space group
# (International Tables; R in the obverse hexagonal setting).
_CENTRING = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "B": np.array([[0.5, 0, -0.5], [0, 1, 0], [0.5, 0, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


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
    ptr: NDArray[np.int64]
    orbit: NDArray[np.int64]
    primitive_of: NDArray[np.int64]


def standard_cells(
    crystals: Crystals, *, symprec: float = 0.01, angle_tolerance: float = 5.0
) -> StandardCells:
    """Primitive cells with atoms on their exact symmetry positions, by spglib.

    Args:
        crystals: each with a volume and no two atoms on one place.
        symprec: Å; angle_tolerance: degrees. Defaults as in pymatgen's ``SpacegroupAnalyzer``.

    Where spglib finds no symmetry at all (it can fail at the edge of its tolerance) the cell
    stays as given, each atom an orbit of its own.
    """
    parts = [
        _standard_cell(
            crystals.lattice[i],
            crystals.frac_coords[start:stop],
            crystals.atomic_numbers[start:stop],
            symprec,
            angle_tolerance,
        )
        for i, (start, stop) in enumerate(
            zip(crystals.ptr[:-1].tolist(), crystals.ptr[1:].tolist(), strict=True)
        )
    ]
    ptr = np.concatenate([[0], np.cumsum([len(p[2]) for p in parts], dtype=np.int64)])
    return StandardCells(
        lattice=np.array([p[0] for p in parts]).reshape(-1, 3, 3),
        frac_coords=np.concatenate([p[1] for p in parts] or [np.empty((0, 3))]),
        atomic_numbers=np.concatenate([p[2] for p in parts] or [np.empty(0, dtype=np.uint8)]),
        ptr=ptr,
        orbit=_joined([p[3] for p in parts], ptr),
        primitive_of=_joined([p[4] for p in parts], ptr),
    )


def _joined(parts: list[NDArray[np.int64]], ptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices that count from 0 in each part, made to count through the batch."""
    shifted = [part + start for part, start in zip(parts, ptr[:-1], strict=True)]
    return np.concatenate([*shifted, np.empty(0, dtype=np.int64)])


def _standard_cell(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
    angle_tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Lattice, coordinates, numbers, orbits and the atoms' places, of one crystal."""
    import spglib  # here: it takes a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry_dataset(
            (lattice, frac_coords, numbers), symprec=symprec, angle_tolerance=angle_tolerance
        )
    if found is None:
        own = np.arange(len(numbers))
        return lattice, frac_coords, numbers, own, own
    centring = _CENTRING[found.international[0]]
    _, kept = np.unique(found.std_mapping_to_primitive, return_index=True)
    primitive_of = np.asarray(found.mapping_to_primitive, dtype=np.int64)
    # One atom given for each primitive atom, to tell the primitive atom's orbit.
    _, example = np.unique(primitive_of, return_index=True)
    orbit = primitive_of[found.crystallographic_orbits[example]]
    _, first, member = np.unique(orbit, return_index=True, return_inverse=True)
    return (
        centring @ found.std_lattice,
        found.std_positions[kept] @ np.linalg.inv(centring),
        np.asarray(found.std_types[kept], dtype=np.uint8),
        first[member],
        primitive_of,
    )
