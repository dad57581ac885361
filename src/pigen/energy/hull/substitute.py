"""Crystals that a reference lacks, made of those it has: an element of a binary is replaced.

What is alike, `pigen.crystal.similar` says. A replacement that nature does not know ends above the
hull and does no harm, as far as the potential is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pigen.bundle import Bundle, iter_bundle, strings
from pigen.crystal.crystals import Crystals, reduced_formula
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.similar import alike, exchanged, is_metal
from pigen.crystal.symmetry import primitive_cells, space_group_number
from pigen.energy.hull.diagram import Hull
from pigen.energy.hull.reference import Reference

SUBSTITUTED = "substituted-"
"""What the ids of such crystals begin with, as in ``substituted-mp-1105223-Zr-Hf``."""

_NEAR = 0.005
"""eV/atom: how far above the hull a parent may lie."""
_FRAMEWORKS = 3
"""Most structures of one formula."""
_SYMPREC = 0.1
"""Å: parents are relaxed, not idealised."""


class _Substitute(NamedTuple):
    distance: int  # of the two elements' Mendeleev numbers
    parent: str
    old: int
    new: int
    crystal: Crystals  # of the parent

    def make(self) -> Crystals:
        return exchanged(self.crystal, {self.old: self.new})

    @property
    def id(self) -> str:
        return f"{SUBSTITUTED}{self.parent}-{SYMBOLS[self.old]}-{SYMBOLS[self.new]}"


def substitutes(relaxed: Path, reference: Reference, at_most: int) -> Bundle:
    """Crystals of formulas that a reference has not, likeliest first.

    Parents are the binaries on its hull or within 5 meV/atom of it with an element that is no
    metal. One element of them is replaced, and the cell scaled by the sums of covalent radii. Of
    one formula each framework (space group and atoms in the primitive cell) comes from the parent
    with the most similar element, three frameworks at most. The likeliest frameworks of all
    formulas go first, those of nearer elements before others.

    Args:
        relaxed: bundle of the reference's structures; its parents are the ids of the entries.
        reference: what there is already.
        at_most: crystals.

    Returns:
        Crystals with ids like ``substituted-mp-1105223-Zr-Hf``, not relaxed.
    """
    known = {entry.formula for entry in reference.entries}
    # Without a crystal of the element there is no hull to add to.
    similar = alike(z for z in range(1, len(SYMBOLS)) if f"{SYMBOLS[z]}1" in known)
    found: dict[str, dict[tuple[int, int], _Substitute]] = {}
    for name, crystal in _parents(relaxed, reference):
        numbers = crystal.atomic_numbers
        framework = _framework(crystal)
        present = set(numbers.tolist())
        for old in present:
            for new in similar.get(old, {}).keys() - present:
                formula = reduced_formula(np.where(numbers == old, np.uint8(new), numbers))
                if formula not in known:
                    made = _Substitute(similar[old][new], name, old, new, crystal)
                    frameworks = found.setdefault(formula, {})
                    best = frameworks.get(framework, made)
                    frameworks[framework] = min(best, made, key=_likeliest)
    ranked = [
        (rank, made.distance, formula, made)
        for formula, frameworks in found.items()
        for rank, made in enumerate(sorted(frameworks.values(), key=_likeliest)[:_FRAMEWORKS])
    ]
    chosen = [row[-1] for row in sorted(ranked, key=lambda row: row[:3])[:at_most]]
    return Bundle(
        crystals=Crystals.concatenate([made.make() for made in chosen]),
        ids=strings(made.id for made in chosen),
    )


def _framework(crystal: Crystals) -> tuple[int, int]:
    cell = (crystal.lattice[0], crystal.frac_coords, crystal.atomic_numbers)
    try:
        group = space_group_number(*cell, symprec=_SYMPREC)
    except ValueError:
        group = 0  # no symmetry found: like no other framework but those
    return group, len(crystal.atomic_numbers)


def _likeliest(made: _Substitute) -> tuple[int, str]:
    return made.distance, made.parent


def _parents(relaxed: Path, reference: Reference) -> Iterator[tuple[str, Crystals]]:
    """Ids and primitive cells."""
    binary = [e for e in reference.entries if sum(c.isupper() for c in e.formula) == 2]
    energies = np.array([entry.energy for entry in binary])
    above, _ = Hull(reference).above([entry.formula for entry in binary], energies)
    near = [entry.id for entry, value in zip(binary, above, strict=True) if value <= _NEAR]
    for chunk in iter_bundle(relaxed):
        chosen = chunk.select(np.isin(chunk.parents, near))
        cells, _ = primitive_cells(chosen.crystals, _SYMPREC)
        for name, cell in zip(chosen.parents, cells, strict=True):
            if not all(map(is_metal, cell.atomic_numbers.tolist())):
                yield str(name), cell
