"""Statistical proxy potential: how usual a crystal's interatomic distances are for its elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import PRIMITIVE_SYMPREC, primitive_cells
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor
from pigen.descriptors.spp import load_table
from pigen.runtime import resources


@descriptor("spp", ColumnSpec("spp", "", "statistical proxy potential, low for usual distances"))
def spp(
    crystals: Crystals, table: Path = resources.SPP_TABLE, symprec: float = PRIMITIVE_SYMPREC
) -> Evaluated:
    """Mean potential over the pairs of the primitive cell at their minimum-image distance.

    Args:
        crystals: B crystals.
        table: file with the pair potentials, for `pigen.descriptors.spp.load_table`.
        symprec: Å, tolerance of the search for the primitive cell.
    """
    primitive, reasons = primitive_cells(crystals, symprec)
    values, missing = load_table(table).scores(primitive)
    for i, pair in enumerate(missing):
        if pair and not reasons[i]:
            reasons[i] = f"no potential for a pair: {pair}"
    values[reasons != ""] = np.nan
    return Evaluated({"spp": values}, reasons)
