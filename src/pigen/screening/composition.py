"""What a composition alone tells of structures: charges that balance, anions, elements, masses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.charges import published_rules
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF, formula_amounts

ANIONS = ("N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I")
"""Elements that count as anions in the share of cells with one."""
_GRAMS = 1.66053906660
"""g/cm³ of one atomic mass unit per Å³."""


def smact_valid(formula: str) -> bool:
    """Whether a composition is an alloy or its charges can balance, as published figures count it.

    Args:
        formula: as `Crystals.reduced_formulas` writes it, like ``Mg1O1``.
    """
    counts = {Z_OF.get(symbol, 0): n for symbol, n in formula_amounts(formula).items()}
    rules = published_rules()
    return bool(counts) and (rules.is_alloy(counts) or rules.balances(counts))


def element_counts(crystals: Crystals) -> NDArray[np.int64]:
    """(B, MAX_Z + 1) atoms of each element."""
    counts = np.zeros((len(crystals), MAX_Z + 1), dtype=np.int64)
    np.add.at(counts, (crystals.batch, crystals.atomic_numbers), 1)
    return counts


def with_anion(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B,) whether there is one of `ANIONS` in a cell, from `element_counts`."""
    return np.asarray(counts[:, [Z_OF[symbol] for symbol in ANIONS]].any(axis=1))


def effective_elements(counts: NDArray[np.int64]) -> float:
    """exp(H), H the entropy of elements' shares of all atoms, from `element_counts` (B, Z)."""
    atoms = counts.sum(axis=0)
    shares = atoms[atoms > 0] / max(int(atoms.sum()), 1)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def densities(crystals: Crystals) -> NDArray[np.float64]:
    """(B,) in g/cm³; NaN for a cell without volume."""
    masses = np.bincount(
        crystals.batch, _masses()[crystals.atomic_numbers], minlength=len(crystals)
    )
    flat = ~(crystals.volume > 0)
    found: NDArray[np.float64] = np.full(len(crystals), np.nan)
    np.divide(_GRAMS * masses, crystals.volume, out=found, where=~flat)
    return found


@lru_cache(maxsize=1)
def _masses() -> NDArray[np.float64]:
    from pymatgen.core import Element

    known = {z: float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_Z + 1)}
    return np.array([known.get(z, np.nan) for z in range(len(SYMBOLS))])
