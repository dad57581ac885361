"""The slow way to M_LED: pymatgen and matminer, site by site. The truth the kernels are held to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

# H … Rn in the order of the periodic table, Te left out: the published list of 85 elements.
PUBLISHED_AXIS = {z: z - 1 if z < 52 else z - 2 for z in range(1, 87) if z != 52}


@dataclass(frozen=True)
class ReferenceMled:
    """What the libraries say of one structure.

    Attributes:
        mled, h_p, h_s: bits.
        numbers: (n,) atomic numbers of the sites of the standardised primitive cell.
        motifs: (n,) argmax of the order parameters of each site.
        order_parameters: (n, 37).
        neighbours: set of neighbouring elements (atomic numbers) of each site.
    """

    mled: float
    h_p: float
    h_s: float
    numbers: NDArray[np.int64]
    motifs: NDArray[np.int64]
    order_parameters: NDArray[np.float64]
    neighbours: list[frozenset[int]]


@lru_cache(maxsize=1)
def crystal_nn() -> Any:
    """pymatgen's CrystalNN with the settings of the definition."""
    from pymatgen.analysis.local_env import CrystalNN

    return CrystalNN(
        distance_cutoffs=None, x_diff_weight=0, porous_adjustment=False, search_cutoff=12
    )


@lru_cache(maxsize=1)
def _fingerprint() -> Any:
    from matminer.featurizers.site import OPSiteFingerprint

    return OPSiteFingerprint()


def order_parameters(structure: Structure) -> NDArray[np.float64]:
    """The 37 order parameters of each site, (n, 37)."""
    return np.array([_fingerprint().featurize(structure, i) for i in range(len(structure))])


def reference_mled(structure: Structure) -> ReferenceMled:
    """M_LED of one structure by the libraries named in the definition (about half a second)."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        primitive = SpacegroupAnalyzer(structure).get_primitive_standard_structure()
        values = order_parameters(primitive)
        neighbours = [
            frozenset(int(n["site"].specie.Z) for n in crystal_nn().get_nn_info(primitive, i))
            for i in range(len(primitive))
        ]
    motifs = values.argmax(axis=1)
    numbers = np.array([site.specie.Z for site in primitive])
    h_p, h_s = entropies(numbers, motifs, neighbours)
    return ReferenceMled(h_p + h_s, h_p, h_s, numbers, motifs, values, neighbours)


def entropies(
    numbers: NDArray[np.int64], motifs: NDArray[np.int64], neighbours: list[frozenset[int]]
) -> tuple[float, float]:
    """H(p) and H(S) in bits from motifs and neighbour sets, counted in plain Python."""
    counts = np.zeros(159)
    motif_counts = np.zeros(37)
    for z, motif, around in zip(numbers, motifs, neighbours, strict=True):
        if z in PUBLISHED_AXIS:
            counts[2 * motif] += 1
            motif_counts[motif] += 1
            counts[74 + PUBLISHED_AXIS[z]] += 1
        for other in around:
            if other in PUBLISHED_AXIS:
                counts[74 + PUBLISHED_AXIS[other]] += 1
    bins = np.arange(159)
    density = np.zeros(159)
    for centre in np.flatnonzero(counts):
        density += np.exp(-0.5 * ((bins - centre) / 10.0) ** 2)
    return _shannon(density), _shannon(motif_counts)


def _shannon(weights: NDArray[np.float64]) -> float:
    if not weights.any():
        return float("nan")
    p = weights[weights > 0] / weights.sum()
    return float(-(p * np.log2(p)).sum())
