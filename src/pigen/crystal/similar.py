"""Elements that may take each other's place in a crystal, and crystals in which they have.

What is alike comes of the periodic table: elements of a group, and metals beside each other on
Pettifor's scale (J. Phys. C 19, 285, 1986), which orders the elements so that binary compounds of
neighbours share structures; its Mendeleev numbers also say how far two are apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, mendeleev_numbers

_FIRST_NON_METAL = 85
"""Mendeleev number of silicon; B, Bi, Sb, As, P, chalcogens, C, halogens, N, O, F, H follow it."""
_BESIDE = 2
"""Most that the Mendeleev numbers of alike metals of different groups differ."""
_FARTHEST = 15
"""Most that the Mendeleev numbers of alike elements differ: lithium is not replaced by hydrogen."""


def is_metal(z: int) -> bool:
    """Whether an element stands before silicon on Pettifor's scale."""
    return _mendeleev(z) < _FIRST_NON_METAL


def alike(elements: Iterable[int]) -> dict[int, dict[int, int]]:
    """Atomic number → those of the others that may replace it → difference of Mendeleev numbers."""
    given = sorted(set(elements))
    group = {z: _group(z) for z in given}
    found: dict[int, dict[int, int]] = {z: {} for z in given}
    for one, other in permutations(given, 2):
        distance = abs(_mendeleev(one) - _mendeleev(other))
        same_group = group[one] == group[other]
        farthest = _FARTHEST if same_group else _BESIDE
        if distance <= farthest and (same_group or (is_metal(one) and is_metal(other))):
            found[one][other] = distance
    return found


def exchanged(crystal: Crystals, partners: Mapping[int, int]) -> Crystals:
    """A crystal (a batch of one) with elements replaced, its cell scaled by the sums of radii.

    Args:
        crystal: whose fractional coordinates stay.
        partners: atomic number → what takes its place.
    """
    from ase.data import covalent_radii

    radii, numbers = np.asarray(covalent_radii), crystal.atomic_numbers
    replaced = numbers.copy()
    for old, new in partners.items():
        replaced[numbers == old] = new
    scale = radii[replaced].sum() / radii[numbers].sum()
    return Crystals.single(crystal.lattice[0] * scale, crystal.frac_coords, replaced)


def _mendeleev(z: int) -> int:
    return round(float(mendeleev_numbers()[z]))


def _group(z: int) -> int:
    from pymatgen.core import Element

    return int(Element(SYMBOLS[z]).group)
