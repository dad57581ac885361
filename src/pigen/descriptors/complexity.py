"""Crystallographic complexity (Krivovichev): information in the partition of atoms into orbits."""

from __future__ import annotations

import numpy as np

from pigen.crystals import Crystals
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor
from pigen.geometry import shortest_distances
from pigen.symmetry import orbit_sizes, primitive_cells


@descriptor("k", ColumnSpec("k", "bits/atom", "crystallographic complexity"))
def complexity(crystals: Crystals, symprec: float = 0.1) -> Evaluated:
    """K = −Σ p log2 p over the orbits of the primitive cell, p the share of atoms in an orbit.

    Args:
        crystals: B crystals.
        symprec: Å, tolerance of the symmetry search.
    """
    primitive, reasons = primitive_cells(crystals)
    closest = shortest_distances(
        primitive.lattice, primitive.frac_coords, primitive.atomic_numbers, primitive.ptr
    )
    # spglib refuses these too, but may take seconds to say so.
    reasons[closest <= symprec] = f"like atoms closer than the symmetry tolerance: {symprec} Å"
    values = np.full(len(crystals), np.nan)
    for i in np.flatnonzero(reasons == "").tolist():
        atoms = slice(primitive.ptr[i], primitive.ptr[i + 1])
        try:
            sizes = orbit_sizes(
                primitive.lattice[i],
                primitive.frac_coords[atoms],
                primitive.atomic_numbers[atoms],
                symprec,
            )
        except ValueError as error:
            reasons[i] = str(error)
            continue
        p = sizes / sizes.sum()
        values[i] = max(0.0, -float(np.sum(p * np.log2(p))))  # one orbit gives -0.0
    return Evaluated({"k": values}, reasons)
