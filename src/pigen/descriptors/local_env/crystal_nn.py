"""CrystalNN's choice of neighbours from the solid angles of a Voronoi cell (compiled).

H. Pan et al., Inorg. Chem. 60, 1590 (2021), with all weights other than the solid angle off:
``distance_cutoffs=None, x_diff_weight=0, porous_adjustment=False, search_cutoff=12``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@njit(nogil=True)
def _quarter_circle(x: float) -> float:
    """Area under the unit circle from 0 to x, 0 <= x <= 1."""
    if x == 1.0:
        return 0.25 * math.pi
    height = math.sqrt(1.0 - x * x)
    return 0.5 * (x * height + math.atan(x / height))


@njit(nogil=True)
def weight_threshold(solid_angles: F64) -> float:
    """The least weight of a neighbour, weights being solid angles over the largest one.

    Weights are rounded to three decimals and set on the radius of a quarter circle; the gap
    between successive weights with the largest area above it separates neighbours from the rest.
    Of equal areas the one with fewer neighbours wins.
    """
    weights = np.rint(solid_angles / solid_angles.max() * 1000.0) / 1000.0
    weights.sort()
    threshold = 1.0
    largest = -1.0
    for place in range(len(weights) - 1, -1, -1):
        upper = weights[place]
        lower = weights[place - 1] if place > 0 else 0.0
        if upper == lower or upper == 0.0:
            continue
        area = (_quarter_circle(upper) - _quarter_circle(lower)) / (0.25 * math.pi)
        if area > largest:
            largest = area
            threshold = upper
    return threshold


@njit(nogil=True)
def chosen(solid_angles: F64) -> I64:
    """Indices of the faces whose owners are neighbours, ascending."""
    weights = np.rint(solid_angles / solid_angles.max() * 1000.0) / 1000.0
    return np.flatnonzero(weights >= weight_threshold(solid_angles))
