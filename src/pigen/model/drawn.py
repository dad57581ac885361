"""Templates that no training structure has: Wyckoff positions of a group drawn to fill a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pigen.config.settings import CRYSTAL_SYSTEMS
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import primitive_cells
from pigen.crystal.templates import Template, template_of

TRIES = 40
"""Drafts of a crystal before its group is given up: sites chosen may have a larger group."""

_SYMPREC = 1e-3
"""Å; a draft has its symmetry exactly."""

_VOLUME, _SPREAD = 20.0, 0.3
"""Å^3 per atom of a draft, and deviation of the logarithm of its edges' ratios."""


@dataclass(frozen=True)
class Site:
    """A Wyckoff position.

    Attributes:
        letter: its letter. atoms: of it in a primitive cell. once: it has no free coordinate.
        operations: (m, 3, 4) from (x, y, z, 1) to its places in the standard cell.
    """

    letter: str
    atoms: int
    once: bool
    operations: NDArray[np.float64]


@lru_cache(maxsize=230)
def sites_of(space_group: int) -> tuple[Site, ...]:
    """The Wyckoff positions of a group in its standard setting (pyxtal's tables), a first."""
    from pyxtal.symmetry import Group  # here: importing pyxtal takes seconds

    group = Group(space_group)
    centring = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "R": 3, "F": 4}[group.symbol[0]]
    return tuple(
        Site(
            letter=position.letter,
            atoms=position.multiplicity // centring,
            once=position.get_dof() == 0,
            operations=np.array([op.affine_matrix[:3] for op in position.ops]),
        )
        for position in reversed(list(group.Wyckoff_positions))
    )


def can_fill(space_group: int, counts: Sequence[int]) -> bool:
    """Whether sites of the group can hold these numbers of atoms, each element its own sites."""
    return _fillable(space_group, tuple(sorted(counts)))


@lru_cache(maxsize=100_000)
def _fillable(space_group: int, counts: tuple[int, ...]) -> bool:
    sites = sites_of(space_group)
    often = {site.atoms for site in sites if not site.once}
    once = [site.atoms for site in sites if site.once]
    # What sites with free coordinates can make up of each size, then the others one by one.
    reach = np.zeros(max(counts) + 1, dtype=bool)
    reach[0] = True
    for size in range(1, len(reach)):
        reach[size] = any(size >= atoms and reach[size - atoms] for atoms in often)
    lefts = {counts}
    if all(reach[list(counts)]):
        return True
    for atoms in once:
        more = set()
        for left in lefts:
            for place in range(len(left)):
                if left[place] >= atoms:
                    taken = (*left[:place], left[place] - atoms, *left[place + 1 :])
                    if all(reach[list(taken)]):
                        return True
                    more.add(tuple(sorted(taken)))
        lefts |= more
    return False


def draw_template(
    space_group: int, counts: Sequence[int], rng: np.random.Generator, at_least: int = 1
) -> tuple[Template, NDArray[np.int64]] | None:
    """A template of the group in a reduced primitive cell, and whose atoms are on each orbit.

    Args:
        space_group: its number.
        counts: atoms of each element; one number where elements are not known.
        rng: what is drawn depends on it alone.
        at_least: orbits.

    Returns:
        The template and (m,) the place in ``counts`` that each orbit belongs to. None where no
        draft has just this group, as when its sites alone have a larger one.
    """
    if not can_fill(space_group, counts):
        return None
    for _ in range(TRIES):
        chosen = _fill(space_group, counts, rng)
        if chosen is None or len(chosen) < at_least:
            continue
        crystal = _draft(space_group, [site for site, _ in chosen], sum(counts), rng)
        if len(crystal.atomic_numbers) != sum(counts):
            continue
        try:
            template, _ = template_of(
                crystal.lattice[0], crystal.frac_coords, crystal.atomic_numbers, _SYMPREC
            )
        except ValueError:
            continue
        if template.space_group == space_group and len(template.representative) == len(chosen):
            owner = np.array([place for _, place in chosen])
            return template, owner[crystal.atomic_numbers[template.representative] - 1]
    return None


def _fill(
    space_group: int, counts: Sequence[int], rng: np.random.Generator
) -> list[tuple[Site, int]] | None:
    """Sites at random that add up to each of the counts; None if this try came to an end."""
    sites = sites_of(space_group)
    used: set[str] = set()
    chosen = []
    for place in rng.permutation(len(counts)).tolist():
        left = counts[place]
        while left:
            fitting = [s for s in sites if s.atoms <= left and s.letter not in used]
            if not fitting:
                return None
            site = fitting[rng.integers(len(fitting))]
            if site.once:
                used.add(site.letter)
            chosen.append((site, place))
            left -= site.atoms
    return chosen


def _draft(
    space_group: int, sites: Sequence[Site], n_atoms: int, rng: np.random.Generator
) -> Crystals:
    """A crystal with these sites at random places, an element of its own on each."""
    frac, numbers = [], []
    for number, site in enumerate(sites, start=1):
        places = site.operations @ np.append(rng.random(3), 1.0)
        frac.append(np.mod(places, 1.0))
        numbers += [number] * len(places)
    volume = _VOLUME * n_atoms * len(numbers) / sum(site.atoms for site in sites)
    cell = Crystals.single(_cell(space_group, volume, rng), np.concatenate(frac), numbers)
    primitive, _ = primitive_cells(cell, _SYMPREC)
    return niggli(primitive)


def _cell(space_group: int, volume: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows a, b, c Å of a cell in the setting of the group, with edges and angles at random."""
    system = next(k for k, (a, b) in CRYSTAL_SYSTEMS.items() if a <= space_group <= b)
    a, b, c = np.exp(_SPREAD * rng.standard_normal(3))
    angles = rng.uniform(75.0, 105.0, 3)
    if system != "triclinic":
        angles[[0, 2]] = 90.0
    if system not in ("triclinic", "monoclinic"):
        angles[1] = 90.0
    if system in ("tetragonal", "trigonal", "hexagonal", "cubic"):
        b = a
    if system in ("trigonal", "hexagonal"):
        angles[2] = 120.0
    if system == "cubic":
        c = a
    alpha, beta, gamma = np.cos(np.radians(angles))
    metric = np.outer((a, b, c), (a, b, c)) * [
        [1.0, gamma, beta],
        [gamma, 1.0, alpha],
        [beta, alpha, 1.0],
    ]
    cell = np.linalg.cholesky(metric)
    return np.asarray(cell * (volume / np.linalg.det(cell)) ** (1 / 3))
