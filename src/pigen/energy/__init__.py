"""Energies of structures: potentials, and relaxation of cell and positions in batches."""

import sys

from pigen import CalledPackage
from pigen.energy.chgnet import CHGNetPotential
from pigen.energy.potential import AsePotential, Evaluation, Potential, load_potential
from pigen.energy.relax import CONVERGED, Relaxed, Relaxer, relax

__all__ = [
    "CONVERGED",
    "AsePotential",
    "CHGNetPotential",
    "Evaluation",
    "Potential",
    "Relaxed",
    "Relaxer",
    "load_potential",
    "relax",
]

sys.modules[__name__].__class__ = CalledPackage
