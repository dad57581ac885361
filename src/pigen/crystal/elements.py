"""Per-element facts, indexed by atomic number Z = 1 … 103 (index 0 is unused)."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SYMBOLS: tuple[str, ...] = tuple(
    (
        "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge "
        "As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm "
        "Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U "
        "Np Pu Am Cm Bk Cf Es Fm Md No Lr"
    ).split()
)
"""``SYMBOLS[z]`` is the symbol of atomic number z; ``SYMBOLS[0]`` is a placeholder."""

MAX_Z = len(SYMBOLS) - 1
"""Highest atomic number PIGEN knows (103, Lr)."""

Z_OF: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z > 0}
"""Atomic number of a symbol."""


@lru_cache(maxsize=1)
def atomic_radii() -> NDArray[np.float64]:
    """Radii in Å, shape (104,): pymatgen's ``atomic_radius`` (Slater), else the calculated one.

    NaN where pymatgen has neither (and at index 0): a structure with such an element has no
    compactness and is rejected with that reason.
    """
    from pymatgen.core import Element  # here: importing pymatgen takes a second

    radii = np.full(MAX_Z + 1, np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No data available")  # the NaN says it
        for z in range(1, MAX_Z + 1):
            element = Element(SYMBOLS[z])
            radius = element.atomic_radius
            if radius is None:
                radius = element.atomic_radius_calculated
            if radius is not None:
                radii[z] = float(radius)
    radii.setflags(write=False)
    return radii


@lru_cache(maxsize=1)
def mendeleev_numbers() -> NDArray[np.float64]:
    """Places of the elements from metals to non-metals, (104,), by pymatgen; index 0 is unused.

    Elements that are chemically alike are neighbours (Villars et al.,
    10.1016/j.jallcom.2003.08.060).
    """
    from pymatgen.core import Element

    places = np.array([0.0, *(Element(symbol).mendeleev_no for symbol in SYMBOLS[1:])])
    places.setflags(write=False)
    return places


@lru_cache(maxsize=1)
def groups() -> NDArray[np.int64]:
    """Groups of the periodic table, 1 … 18, (104,), by pymatgen; f elements are in the third."""
    from pymatgen.core import Element

    found = np.array([0, *(Element(symbol).group for symbol in SYMBOLS[1:])])
    found.setflags(write=False)
    return found
