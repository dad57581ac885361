"""Random sensible cells: a random space group, orbits that make up the composition, atoms apart.

PyXtal fills them (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021)). Symmetric cells
are what makes random searches find ground states (Pickard and Needs, J. Phys.: Condens. Matter 23,
053201 (2011)).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF, atomic_radii
from pigen.crystal.symmetry import primitive_cells
from pigen.csp.space_groups import draw_group
from pigen.energy.rattle import rattled

COMPACTNESS = (0.3, 0.8)
"""Range of the share of a random cell that its atoms fill. Oxides and fluorides lie in it, metals
somewhat above: a loose cell relaxes well, in a dense one the atoms find no place."""
APART = 1.4
"""Least distance over half the sum of covalent radii, which is PyXtal's tolerance."""
RATTLE = 0.05
"""Å: off the symmetry, so that a relaxation does not end on a saddle point."""


def formula_units(elements: Mapping[str, int], max_atoms: int) -> int:
    """How many formula units fit in a cell of so many atoms, one at least."""
    return max(max_atoms // sum(elements.values()), 1)


def random_cell(elements: Mapping[str, int], max_atoms: int, rng: Generator) -> Crystals:
    """One primitive cell of one to `formula_units` formula units, atoms sorted by number.

    The number of formula units and the compactness are uniform, the space group is drawn by
    `space_groups.draw_group`. Where the atoms find no place, all is drawn again but for the number
    of formula units, with more room, so the search for a cell always ends.

    Args:
        elements: atoms in the reduced formula.
        max_atoms: in the cell.
        rng: of every choice.
    """
    units = int(rng.integers(1, formula_units(elements, max_atoms), endpoint=True))
    counts = tuple(n * units for n in elements.values())
    room = 1.0
    while True:
        group = draw_group(counts, rng)
        found = symmetric_cell(group, elements, counts, rng.uniform(*COMPACTNESS) / room, rng)
        if found is not None:
            return found
        room *= 1.02


@lru_cache(maxsize=1)
def _tolerances() -> Any:
    """PyXtal's table of least distances for `APART`.

    PyXtal makes such a table, 10,000 numbers, each time it looks at the images of an atom, and
    that takes most of its time; from here on it makes each table once.
    """
    from pyxtal import operations
    from pyxtal.tolerance import Tol_matrix

    operations.Tol_matrix = lru_cache(maxsize=8)(Tol_matrix)
    return Tol_matrix(prototype="atomic", factor=APART)


def symmetric_cell(
    group: Any,
    symbols: Iterable[str],
    counts: Sequence[int],
    compactness: float,
    rng: Generator,
) -> Crystals | None:
    """A primitive cell of a space group, rattled, atoms sorted; None if they find no place.

    Args:
        group: of PyXtal's.
        symbols: of the elements.
        counts: atoms of each in the primitive cell.
        compactness: of the cell.
        rng: of every choice.
    """
    from pyxtal import pyxtal
    from pyxtal.lattice import Lattice
    from pyxtal.msg import Comp_CompatibilityError, VolumeError

    listed = list(symbols)
    multiple = group.cellsize()  # primitive cells in the conventional one
    radii = atomic_radii()[[Z_OF[symbol] for symbol in listed]]
    volume = multiple * float(4 / 3 * np.pi * radii**3 @ np.asarray(counts)) / compactness
    crystal = pyxtal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of each volume it tries
        try:
            lattice = Lattice(group.lattice_type, volume, unique_axis="c", random_state=rng)
            crystal.from_random(
                3,
                group,
                listed,
                [multiple * n for n in counts],
                lattice=lattice,
                tm=_tolerances(),
                max_count=1,
                force_pass=True,
                random_state=rng,
            )
        except (Comp_CompatibilityError, VolumeError, RuntimeError):
            return None
    if not crystal.valid:
        return None
    frac, species = crystal._get_coords_and_species()
    numbers = np.array([Z_OF[symbol] for symbol in species])
    cells, reasons = primitive_cells(
        Crystals.single(crystal.lattice.get_matrix(), np.asarray(frac), numbers)
    )
    if reasons[0] or cells.n_atoms[0] > sum(counts):
        return None
    return sorted_atoms(rattled(cells, RATTLE, rng))


def sorted_atoms(crystal: Crystals) -> Crystals:
    """The same crystal with its atoms in order of atomic number, as pairing two cells needs."""
    order = np.argsort(crystal.atomic_numbers, kind="stable")
    return Crystals.single(
        crystal.lattice[0], crystal.frac_coords[order], crystal.atomic_numbers[order]
    )
