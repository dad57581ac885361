"""Facts about elements, indexed by atomic number Z = 1 … 103 (index 0 is unused); and formulas.

A formula as text has one canonical form.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from math import gcd, isfinite

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


MAX_FORMULA = 300
"""Characters of a formula."""
TERM = re.compile(r"([A-Z][a-z]?)([\d.]*)")
"""A symbol and what is written behind it, "" for 1."""
_PLAIN = re.compile(r"(?:[A-Z][a-z]?\d*)+")


def canonical_formula(text: str) -> str:
    """The reduced formula of a text like "Mg(InSe2)2", as `Crystals.reduced_formulas` writes it.

    Raises:
        ValueError: not a formula, or one with fractional amounts.
    """
    if len(text) > MAX_FORMULA:
        raise ValueError(f"a formula of {len(text)} characters, MAX_FORMULA is {MAX_FORMULA}")
    counts: dict[str, int] = {}
    if _PLAIN.fullmatch(text):
        for symbol, count in TERM.findall(text):
            counts[symbol] = counts.get(symbol, 0) + int(count or 1)
    else:
        from pymatgen.core import Composition  # here: importing pymatgen takes a second

        try:
            parsed = Composition(text)
        except Exception as error:  # whatever pymatgen raises on what is no formula
            raise ValueError(f"{text!r} is not a formula") from error
        for element, amount in parsed.items():
            if not isfinite(amount) or amount != int(amount):
                raise ValueError(f"{text!r} has fractional amounts")
            counts[str(element)] = int(amount)
    counts = {symbol: count for symbol, count in counts.items() if count}
    if not counts or not counts.keys() <= Z_OF.keys():
        raise ValueError(f"{text!r} is not a formula")
    divisor = gcd(*counts.values())
    return "".join(f"{symbol}{counts[symbol] // divisor}" for symbol in sorted(counts))


def formula_amounts(formula: str) -> dict[str, int]:
    """Symbol → number of atoms in a formula as `canonical_formula` writes it."""
    return {symbol: int(count) for symbol, count in TERM.findall(formula)}


@lru_cache(maxsize=10_000)
def usual_formula(formula: str) -> str:
    """A reduced formula as people read it, elements in the usual order: ``SrTiO3``.

    What is shown is written so everywhere; keys of look-ups, and lists of formulas, are canonical,
    and names of files are as `file_formula` has them.

    Args:
        formula: as `canonical_formula` writes it; "–" stands for an empty one.
    """
    from pymatgen.core import Composition

    if not formula:
        return "–"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # Ar goes last
        return str(Composition(formula).reduced_formula)


def file_formula(formula: str) -> str:
    """A reduced formula for the name of a file: as `usual_formula`, brackets multiplied out.

    Args:
        formula: as `canonical_formula` writes it.
    """
    amounts = formula_amounts(formula)
    order = [symbol for symbol, _ in TERM.findall(usual_formula(formula))]
    return "".join(f"{one}{amounts[one] if amounts[one] > 1 else ''}" for one in order)
