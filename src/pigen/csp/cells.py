"""Random sensible cells: a space group and orbits that make up the composition, atoms apart.

Symmetric cells are what makes random searches find ground states (Pickard and Needs, J. Phys.:
Condens. Matter 23, 053201 (2011)).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.crystal.templates import Template
from pigen.csp.fill import filled, usual
from pigen.csp.frameworks import Frameworks, group_weights
from pigen.energy.minimise import rattled
from pigen.model.drawn import draw_template

SITES = 4
"""Choices of sites of which the most usual one is taken."""
RATTLE = 0.05
"""Å: off the symmetry, so that a relaxation does not end on a saddle point."""


def formula_units(elements: Mapping[str, int], max_atoms: int) -> int:
    """How many formula units fit in a cell of so many atoms, one at least."""
    return max(max_atoms // sum(elements.values()), 1)


def random_cell(elements: Mapping[str, int], max_atoms: int, rng: Generator) -> Crystals:
    """One primitive cell of one to `formula_units` formula units, atoms sorted by number.

    The number of formula units is uniform, space groups are as frequent as `group_weights` says,
    orbits are drawn. Where atoms find no place, all is drawn again but for the number of formula
    units.

    Args:
        elements: atoms in the reduced formula.
        max_atoms: in the cell.
        rng: of every choice.
    """
    units = int(rng.integers(1, formula_units(elements, max_atoms), endpoint=True))
    numbers = np.array([Z_OF[symbol] for symbol in elements], dtype=np.uint8)
    counts = [n * units for n in elements.values()]
    weights = group_weights(sum(counts))
    while True:
        choices: list[tuple[float, Template, NDArray[np.uint8]]] = []
        while len(choices) < SITES:
            drawn = draw_template(int(rng.choice(len(weights), p=weights)), counts, rng)
            if drawn is not None:  # else the sites have a larger group
                template, element = drawn
                score, _ = usual(template, numbers[element], rng)
                choices.append((score, template, numbers[element]))
        _, template, orbits = min(choices, key=lambda choice: choice[0])
        cell = filled(template, orbits, rng)
        if cell is not None:
            return sorted_atoms(rattled(cell, RATTLE, rng))


def known_cell(frameworks: Frameworks, number: int, rng: Generator) -> Crystals | None:
    """A cell on sites of known crystals, atoms sorted; None if none is left, or there is no place.

    Args:
        frameworks: of the composition.
        number: of the trial, from 0 on.
        rng: of every other choice.
    """
    cell = filled(*frameworks.draw(number, rng), rng) if number < len(frameworks) else None
    return None if cell is None else sorted_atoms(rattled(cell, RATTLE, rng))


def sorted_atoms(crystal: Crystals) -> Crystals:
    """The same crystal with its atoms in order of atomic number, as pairing two cells needs."""
    order = np.argsort(crystal.atomic_numbers, kind="stable")
    return Crystals.single(
        crystal.lattice[0], crystal.frac_coords[order], crystal.atomic_numbers[order]
    )
