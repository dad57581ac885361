"""Compactness: the share of the cell's volume that spheres of the atomic radii would fill."""

from __future__ import annotations

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, atomic_radii
from pigen.crystal.lattice import MIN_VOLUME, degenerate_reason
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons


@descriptor("c", ColumnSpec("c", "", "compactness, volume of atomic spheres over cell volume"))
def compactness(crystals: Crystals) -> Evaluated:
    """Compute C = (4π/3) Σ r³ / V with Slater radii; the overlap of two spheres counts twice."""
    cubes = atomic_radii()[crystals.atomic_numbers] ** 3
    volume = crystals.volume
    reasons = no_reasons(crystals)
    spheres = 4 / 3 * np.pi * np.bincount(crystals.batch, cubes, minlength=len(crystals))
    flat = ~(volume >= MIN_VOLUME)
    values = np.divide(spheres, volume, out=np.full(len(crystals), np.nan), where=~flat)
    for i in np.flatnonzero(~np.isfinite(values)):
        lacking = f"no atomic radius: {_without_radius(crystals, i)}"
        reasons[i] = degenerate_reason(volume[i]) if flat[i] else lacking
    for i in np.flatnonzero(crystals.n_atoms == 0):
        values[i], reasons[i] = np.nan, "no atoms in the cell"
    return Evaluated({"c": values}, reasons)


def _without_radius(crystals: Crystals, i: np.int64) -> str:
    numbers = np.unique(crystals.atomic_numbers[crystals.ptr[i] : crystals.ptr[i + 1]])
    return ", ".join(SYMBOLS[z] for z in numbers if np.isnan(atomic_radii()[z]))
