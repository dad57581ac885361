"""Frameworks of known crystals: the space groups and orbits that a composition fits.

Most compounds have the sites of others, so a search tries all that fit, those first whose crystals
have elements like its own. Free coordinates, lengths and angles of the crystals are not known to
it, and drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pigen.crystal.elements import Z_OF, mendeleev_numbers
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import Template
from pigen.model.template_prior import elements_of, relatives
from pigen.runtime.resources import TEMPLATES

ALIKE = 0.25
"""Share of the draws of a space group in which all are alike: it may be a rare one."""
AGAIN = 0.25
"""What is left of a framework's probability after a trial that began from it: a relaxation from
coordinates and lengths that are drawn may miss what the framework has."""
TRIALS = 4
"""Of a framework, at most."""
_NEAR = 2
"""Atoms by which a crystal's size may differ where groups are counted."""


@lru_cache(maxsize=1)
def _library() -> TemplateLibrary:
    return TemplateLibrary.load(TEMPLATES)


@lru_cache(maxsize=64)
def group_weights(n_atoms: int) -> NDArray[np.float64]:
    """Probability (231,) of each space group, by its number, for a cell of so many atoms.

    That of known crystals of about the size, or of the largest; 0 for P1.
    """
    sizes = _library().n_atoms
    near = np.abs(sizes - min(n_atoms, int(sizes.max()))) <= _NEAR
    counts = np.bincount(_library().space_group[near], minlength=231).astype(float)
    counts[:2] = 0.0
    weights = (1 - ALIKE) * counts / counts.sum()
    weights[2:] += ALIKE / 229
    return np.asarray(weights)


class Frameworks:
    """What one composition fits, in the order in which a search tries it.

    The next is the likeliest by p(framework | composition), as `pigen.model.template_prior` has it,
    where every trial has made a framework less likely by the factor `AGAIN`.
    """

    def __init__(self, elements: Mapping[str, int], units: int) -> None:
        """Find the order.

        Args:
            elements: atoms in the reduced formula.
            units: formula units in the cell, at most.
        """
        self._counts = {Z_OF[symbol]: n for symbol, n in elements.items()}
        self._relatives = relatives(_library(), self._counts, range(1, units + 1))
        kinds = _kinds(tuple(self._counts.items()), units)
        self._likely = self._relatives.likelihoods()
        likely = np.array([self._likely[list(rows)].sum() for rows in kinds])
        again = likely[:, None] * AGAIN ** np.arange(TRIALS)
        order = np.argsort(-again, axis=None, kind="stable") // TRIALS
        self._order = [np.array(kinds[kind]) for kind in order]

    def __len__(self) -> int:
        """Number of frameworks, each as often as it is tried."""
        return len(self._order)

    def draw(self, number: int, rng: Generator) -> tuple[Template, NDArray[np.uint8]]:
        """A template of a framework, and (m,) the atomic number of each of its orbits.

        Args:
            number: of the trial, from 0 on.
            rng: of the cell it is in, and of which element is where.
        """
        rows = self._order[number]
        weights = self._likely[rows]
        row = int(rng.choice(rows, p=weights / weights.sum()))
        template = _library()[row]
        units = template.n_atoms // sum(self._counts.values())
        wanted = {z: units * n for z, n in self._counts.items()}
        return template, elements_of(_library(), row, wanted, self._relatives, rng)


@lru_cache(maxsize=64)
def _kinds(counts: tuple[tuple[int, int], ...], units: int) -> tuple[tuple[int, ...], ...]:
    """Rows of the library that fit, those of one kind together.

    A kind is a space group, P1 left out, with orbits of some sizes and freedoms, and which of them
    have the same element.

    Args:
        counts: atomic number and atoms in the formula of each element.
        units: formula units in the cell, at most.
    """
    library, places = _library(), mendeleev_numbers()
    fitting = relatives(library, dict(counts), range(1, units + 1))
    found: dict[tuple[object, ...], list[int]] = {}
    rows = np.unique(np.concatenate([fitting.row, fitting.others]))
    for row in rows[library.space_group[rows] > 1].tolist():
        orbits = slice(library.orbits_ptr[row], library.orbits_ptr[row + 1])
        projectors = library.projectors[library.projector[orbits]]
        freedom = np.rint(np.trace(projectors, axis1=1, axis2=2)).astype(int).tolist()
        ranks = np.unique(places[library.elements(row)], return_inverse=True)[1].tolist()
        sites = sorted(zip(library.multiplicities[row], ranks, freedom, strict=True))
        found.setdefault((library.space_group[row], *sites), []).append(row)
    return tuple(map(tuple, found.values()))
