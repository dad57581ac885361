"""Parts of the hopper as it was before it knew frameworks and learnt, for benchmarks/csp.py."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from pyxtal import operations, pyxtal
from pyxtal.lattice import Lattice
from pyxtal.msg import Comp_CompatibilityError, VolumeError
from pyxtal.symmetry import Group
from pyxtal.tolerance import Tol_matrix

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF, atomic_radii
from pigen.crystal.symmetry import primitive_cells
from pigen.csp.cells import RATTLE, formula_units, sorted_atoms
from pigen.csp.fill import COMPACTNESS
from pigen.energy.minimise import rattled

FIXED = {"rattle": 1.0, "permute": 1.0, "strain": 1.0, "splice": 2.0, "new": 2.0, "double": 0.5}
"""Weights of moves before; "known" has that of "new" where there are frameworks."""


class FixedWeights:
    """In place of the bandit: an order drawn by fixed weights; learns nothing."""

    def __init__(self, expected: object) -> None:
        """Whatever is expected."""

    def order(self, rng: Generator) -> list[str]:
        """All moves."""
        weights = {**FIXED, "known": FIXED["new"]}
        shares = np.array(list(weights.values()))
        return list(rng.choice(list(weights), len(weights), replace=False, p=shares / shares.sum()))

    def learn(self, move: str, gain: float) -> None:
        """Nothing."""


class NoFrameworks:
    """In place of those of known crystals: none."""

    def __init__(self, *given: object) -> None:
        """Whatever the composition."""

    def __len__(self) -> int:
        """None."""
        return 0


def pyxtal_cell(elements: dict[str, int], max_atoms: int, rng: Generator) -> Crystals:
    """A random cell as PyXtal fills it, of a space group drawn uniformly."""
    units = int(rng.integers(1, formula_units(elements, max_atoms), endpoint=True))
    counts, room = [n * units for n in elements.values()], 1.0
    while True:
        number = int(rng.integers(2, 230, endpoint=True))
        compactness = rng.uniform(*COMPACTNESS) / room
        found = from_pyxtal(number, list(elements), counts, compactness, rng)
        if found is not None:
            return found
        room *= 1.02


@lru_cache(maxsize=1)
def tolerances() -> Any:
    """PyXtal's table of least distances, which it makes each time it looks at an atom's images."""
    operations.Tol_matrix = lru_cache(maxsize=8)(Tol_matrix)
    return Tol_matrix(prototype="atomic", factor=1.4)


def from_pyxtal(
    number: int, symbols: list[str], counts: list[int], compactness: float, rng: Generator
) -> Crystals | None:
    group = group_of(number)
    many = [group.cellsize() * n for n in counts]  # in the conventional cell
    if not group.check_compatible(many)[0]:
        return None
    radii = atomic_radii()[[Z_OF[symbol] for symbol in symbols]]
    volume = float(4 / 3 * np.pi * radii**3 @ np.array(many)) / compactness
    crystal = pyxtal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of each volume it tries
        try:
            lattice = Lattice(group.lattice_type, volume, unique_axis="c", random_state=rng)
            crystal.from_random(
                *(3, group, symbols, many),
                lattice=lattice,
                tm=tolerances(),
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
    cell = Crystals.single(crystal.lattice.get_matrix(), np.asarray(frac), numbers)
    primitive, reasons = primitive_cells(cell)
    if reasons[0] or primitive.n_atoms[0] > sum(counts):
        return None
    return sorted_atoms(rattled(primitive, RATTLE, rng))


group_of = lru_cache(maxsize=256)(Group)
