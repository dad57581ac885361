"""Statistical proxy potentials: the table, how it scores a crystal, and how one is fitted."""

from pigen.descriptors.spp.fit import fit_spp
from pigen.descriptors.spp.table import SppTable, load_table, save_table

__all__ = ["SppTable", "fit_spp", "load_table", "save_table"]
