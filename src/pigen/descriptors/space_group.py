"""Space group number."""

from __future__ import annotations

import numpy as np

from pigen.crystals import Crystals
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor
from pigen.geometry import shortest_distances
from pigen.symmetry import primitive_cells, space_group_number


@descriptor("space_group", ColumnSpec("space_group", "", "number in the International Tables"))
def space_group(crystals: Crystals, symprec: float = 0.1) -> Evaluated:
    """Number of the space group, 1 … 230, as spglib finds it in the primitive cell.

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
    values = np.full(len(crystals), -1, dtype=np.int64)
    for i in np.flatnonzero(reasons == "").tolist():
        atoms = slice(primitive.ptr[i], primitive.ptr[i + 1])
        try:
            values[i] = space_group_number(
                primitive.lattice[i],
                primitive.frac_coords[atoms],
                primitive.atomic_numbers[atoms],
                symprec,
            )
        except ValueError as error:
            reasons[i] = str(error)
    return Evaluated({"space_group": values}, reasons)
