"""Filling a template with atoms: many drafts of a cell, of which the most usual one is relaxed.

How usual its distances are for its elements, the statistical proxy potential, costs a hundredth of
an energy, and is low where a relaxation ends low.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import covalent_radii
from numpy.random import Generator
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import atomic_radii
from pigen.crystal.templates import Template
from pigen.descriptors.spp import SppTable, load_table
from pigen.energy.graph import closest_approach
from pigen.runtime.resources import SPP_TABLE

COMPACTNESS = (0.3, 0.8)
"""Range of the share of a draft that its atoms fill. Oxides and fluorides lie in it, metals
somewhat above: a loose cell relaxes well, in a dense one the atoms find no place."""
DRAFTS = 30
"""Drafts of one cell, and of each round in which the best is bettered."""
WIDTHS = (0.1, 0.05, 0.025)
"""Strain, and change of free coordinates, by which the drafts of these rounds differ from it."""
APART = 0.5
"""Least distance over the sum of covalent radii."""
EDGES, ANGLES = 0.5, (60.0, 120.0)
"""Deviation of the logarithm of edges, and degrees, of a cell before its symmetry is imposed."""


@lru_cache(maxsize=1)
def _table() -> SppTable:
    return load_table(SPP_TABLE)


def usual(template: Template, orbits: NDArray[np.uint8], rng: Generator) -> tuple[float, Crystals]:
    """The most usual of `DRAFTS` cells with the symmetry of a template, and its potential.

    Args:
        template: of n atoms on m orbits.
        orbits: (m,) atomic numbers.
        rng: of lengths, angles, free coordinates and compactness.
    """
    numbers = orbits[template.orbit]
    spheres = float(4 / 3 * np.pi * (atomic_radii()[numbers] ** 3).sum())
    drafts = []
    for _ in range(DRAFTS):
        lattice = template.cell(_any_cell(rng))
        volume = spheres / rng.uniform(*COMPACTNESS)
        lattice *= (volume / abs(np.linalg.det(lattice))) ** (1 / 3)
        frac = template.place(rng.random((template.n_atoms, 3)))
        drafts.append(Crystals.single(lattice, frac, numbers))
    return _best(drafts)


def filled(template: Template, orbits: NDArray[np.uint8], rng: Generator) -> Crystals | None:
    """The most usual draft, bettered; None if its atoms find no place.

    Args:
        template: of n atoms on m orbits.
        orbits: (m,) atomic numbers.
        rng: of what is drawn.
    """
    score, best = usual(template, orbits, rng)
    for width in WIDTHS:
        drafts = []
        for _ in range(DRAFTS):
            strain = np.eye(3) + width * rng.standard_normal((3, 3))
            lattice = template.cell(best.lattice[0] @ strain)
            frac = best.frac_coords + width * rng.standard_normal(best.frac_coords.shape)
            drafts.append(Crystals.single(lattice, template.place(frac), best.atomic_numbers))
        score, best = min((score, best), _best(drafts), key=lambda one: one[0])
    radii = covalent_radii[best.atomic_numbers]
    apart = closest_approach(best.lattice[0], best.frac_coords, radii) > APART
    return best if apart else None


def _best(drafts: list[Crystals]) -> tuple[float, Crystals]:
    scores = _table().scores(Crystals.concatenate(drafts))[0]
    scores = np.where(np.isnan(scores), np.inf, scores)  # a flat cell, a pair that is not known
    place = int(np.argmin(scores))
    return float(scores[place]), drafts[place]


def _any_cell(rng: Generator) -> NDArray[np.float64]:
    """Rows a, b, c of edges and angles at random, not flat."""
    while True:
        edges = np.exp(EDGES * rng.standard_normal(3))
        alpha, beta, gamma = np.cos(np.radians(rng.uniform(*ANGLES, 3)))
        cosines = np.array([[1.0, gamma, beta], [gamma, 1.0, alpha], [beta, alpha, 1.0]])
        if np.linalg.eigvalsh(cosines)[0] > 0.05:
            return np.asarray(np.linalg.cholesky(np.outer(edges, edges) * cosines))
