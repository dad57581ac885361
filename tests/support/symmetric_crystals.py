"""A crystal of every crystal system, centred cells among them, in the reduced primitive cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.templates import Template

_CONVENTIONAL = {
    "P-1": (
        Lattice.from_parameters(4.1, 5.2, 6.3, 81, 97, 104),
        "Na Cl",
        [[0.1, 0.2, 0.3], [0.6, 0.1, 0.8]],
    ),
    "C2/m": (
        Lattice.monoclinic(9.8, 3.9, 6.2, 107),
        "Ga O Li",
        [[0.09, 0, 0.79], [0.17, 0, 0.11], [0, 0.5, 0.5]],
    ),
    "Fddd": (
        Lattice.orthorhombic(6.1, 8.3, 10.9),
        "S O",
        [[0.125, 0.125, 0.125], [0.31, 0.125, 0.125]],
    ),
    "Pna2_1": (
        Lattice.orthorhombic(5.2, 7.1, 4.4),
        "K F",
        [[0.11, 0.62, 0.0], [0.35, 0.27, 0.41]],
    ),
    "I4/mmm": (
        Lattice.tetragonal(3.9, 13.2),
        "La Cu O O",
        [[0, 0, 0.36], [0, 0, 0], [0, 0.5, 0], [0, 0, 0.18]],
    ),
    "R-3m": (
        Lattice.hexagonal(2.816, 14.05),
        "Co Li O",
        [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.2604]],
    ),
    "P6_3/mmc": (
        Lattice.hexagonal(3.2, 5.1),
        "Mg As",
        [[1 / 3, 2 / 3, 0.25], [0, 0, 0]],
    ),
    "Fd-3m": (
        Lattice.cubic(8.083),
        "Mg Al O",
        [[0, 0, 0], [0.625, 0.625, 0.625], [0.3874, 0.3874, 0.3874]],
    ),
    "I-43d": (Lattice.cubic(7.9), "Th", [[0.083, 0.083, 0.083]]),
}
"""Space group → conventional cell, elements and one atom of each orbit."""


def _primitive(symbol: str) -> Crystals:
    lattice, elements, coords = _CONVENTIONAL[symbol]
    whole = Structure.from_spacegroup(symbol, lattice, elements.split(), coords)
    found = whole.get_primitive_structure()
    return niggli(
        Crystals.single(
            lattice=found.lattice.matrix,
            frac_coords=np.mod(found.frac_coords + np.array([0.013, 0.207, 0.611]), 1.0),
            atomic_numbers=[site.specie.Z for site in found],
        )
    )


SYMMETRIC = {symbol: _primitive(symbol) for symbol in _CONVENTIONAL}
"""Space group → its crystal, moved from the standard origin."""


def farthest(template: Template, frac: NDArray[np.float64], kinds: NDArray[np.uint8]) -> float:
    """Largest distance (fractional) from an atom's image to the nearest atom of its kind."""
    images = np.einsum("gij,nj->gni", template.rotations.astype(float), frac)
    steps = (images + template.translations[:, None])[:, :, None] - frac
    distance = np.abs(steps - np.rint(steps)).max(-1)
    distance[:, kinds[:, None] != kinds] = np.inf
    return float(distance.min(-1).max())
