"""Off a saddle: forces keep the symmetry of a structure, so relaxation alone cannot leave one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random import Generator

from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import primitive_cells, spglib_dataset

DISPLACEMENT = 0.05
"""Å: standard deviation of an atom's displacement along each axis."""
STRAIN = 0.01
"""Standard deviation of each component of the strain."""
LEAST_GAIN = 0.002
"""eV/atom. A relaxation to fmax 0.05 eV/Å ends within so much of the bottom; less is no gain, and
the structure with its symmetry stays."""
SYMPREC = 0.1
"""Å, as of the descriptor ``space_group``."""


def rattled(crystal: Crystals, distance: float, rng: Generator, strain: float = 0.0) -> Crystals:
    """Every atom displaced along each axis, and the cell strained, by normal deviates.

    Args:
        crystal: a batch of one.
        distance: Å, standard deviation of a displacement.
        rng: of the deviates.
        strain: standard deviation of a component of the symmetric strain.
    """
    lattice = crystal.lattice[0]
    moves = rng.normal(scale=distance, size=crystal.frac_coords.shape)
    frac = crystal.frac_coords + moves @ np.linalg.inv(lattice)
    if strain:
        drawn = rng.normal(scale=strain, size=(3, 3))
        lattice = lattice @ (np.eye(3) + 0.5 * (drawn + drawn.T))
    return Crystals.single(lattice, frac, crystal.atomic_numbers)


def off_the_saddle(crystal: Crystals, start: Crystals) -> Crystals:
    """A relaxed crystal rattled, as the structure that its relaxation started from decides.

    So equal structures are rattled alike, in whatever batch and after whatever interruption.
    """
    parts = (start.lattice, start.frac_coords, start.atomic_numbers)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
    return rattled(crystal, DISPLACEMENT, np.random.default_rng(list(digest[:16])), STRAIN)


def operations(crystal: Crystals) -> int:
    """Symmetry operations of a crystal (a batch of one) in its cell, translations among them.

    1 where there are no others than the identity, or the search fails. It depends on the volume of
    the cell, not on its shape.
    """
    cells, _ = primitive_cells(crystal, SYMPREC)
    cell = (cells.lattice[0], cells.frac_coords, cells.atomic_numbers)
    try:
        rotations = spglib_dataset(cell, SYMPREC).rotations
    except ValueError:
        return 1
    return len(rotations) * int(crystal.n_atoms[0]) // len(cells.atomic_numbers)
