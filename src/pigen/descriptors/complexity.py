"""Crystallographic complexity (Krivovichev): information in the partition of atoms into orbits."""

from __future__ import annotations

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import orbit_sizes, symmetry_of_each
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor


@descriptor("k", ColumnSpec("k", "bits/atom", "crystallographic complexity"))
def complexity(crystals: Crystals, symprec: float = 0.1) -> Evaluated:
    """K = −Σ p log2 p over the orbits of the primitive cell, p the share of atoms in an orbit.

    Args:
        crystals: B crystals.
        symprec: Å, tolerance of the symmetry search.
    """
    found, reasons = symmetry_of_each(crystals, symprec, orbit_sizes)
    values = np.full(len(crystals), np.nan)
    for i, sizes in found.items():
        p = sizes / sizes.sum()
        values[i] = max(0.0, -float(np.sum(p * np.log2(p))))  # one orbit gives -0.0
    return Evaluated({"k": values}, reasons)
