"""The shortest distance between atoms, own images included."""

from __future__ import annotations

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import degenerate_reason
from pigen.crystal.neighbours import shortest_distances
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons


@descriptor(
    "min_distance",
    ColumnSpec("min_distance", "Å", "shortest distance between atoms, own images included"),
)
def min_distance(crystals: Crystals) -> Evaluated:
    """Shortest of all interatomic distances, periodic images included; 0 for coincident atoms."""
    any_kind = np.zeros_like(crystals.atomic_numbers)
    values = shortest_distances(crystals.lattice, crystals.frac_coords, any_kind, crystals.ptr)
    reasons = no_reasons(crystals)
    for i in np.flatnonzero(np.isnan(values)):
        reasons[i] = degenerate_reason(crystals.volume[i])
    for i in np.flatnonzero(crystals.n_atoms == 0):
        values[i], reasons[i] = np.nan, "no atoms in the cell"
    return Evaluated({"min_distance": values}, reasons)
