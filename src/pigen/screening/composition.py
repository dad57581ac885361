"""What a composition alone tells of structures: charges that balance, anions, elements, masses."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF

ANIONS = ("N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I")
"""Elements that count as anions in the share of cells with one."""
_GRAMS = 1.66053906660
"""g/cm³ of one atomic mass unit per Å³."""


@lru_cache(maxsize=100_000)
def smact_valid(formula: str) -> bool:
    """Whether charges can balance in a composition, as published figures count it.

    The rules of SMACT with Pauling's test and with alloys valid, and its oxidation states of 2014,
    which were the only ones when these figures were made (Davies et al., J. Open Source Softw. 4,
    1361, 2019). A composition with an element that SMACT does not know is not valid.

    Args:
        formula: like ``Mg1O1``.
    """
    from smact.screening import smact_validity

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of elements without an electronegativity
            return bool(smact_validity(formula, oxidation_states_set="smact14"))
    except (KeyError, NameError):
        return False


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
