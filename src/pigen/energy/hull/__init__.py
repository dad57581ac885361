"""Energies above the hull of reference compounds at the same level of theory."""

from pigen.energy.hull.diagram import Hull
from pigen.energy.hull.reference import Reference, load_reference
from pigen.energy.hull.stage import E_HULL, with_e_hull, with_energies_above_hull

__all__ = [
    "E_HULL",
    "Hull",
    "Reference",
    "load_reference",
    "with_e_hull",
    "with_energies_above_hull",
]
