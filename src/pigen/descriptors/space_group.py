"""Space group number."""

from __future__ import annotations

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import space_group_number, symmetry_of_each
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor


@descriptor(
    "space_group", ColumnSpec("space_group", "", "number in the International Tables", "whole")
)
def space_group(crystals: Crystals, symprec: float = 0.1) -> Evaluated:
    """Number of the space group, 1 … 230, as spglib finds it in the primitive cell.

    Args:
        crystals: B crystals.
        symprec: Å, tolerance of the symmetry search.
    """
    found, reasons = symmetry_of_each(crystals, symprec, space_group_number)
    values = np.full(len(crystals), -1, dtype=np.int64)
    for i, number in found.items():
        values[i] = number
    return Evaluated({"space_group": values}, reasons)
