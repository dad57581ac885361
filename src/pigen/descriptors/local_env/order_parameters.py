"""The 37 local-structure order parameters and the motif they choose (compiled).

Definitions: N. E. R. Zimmermann and A. Jain, RSC Adv. 10, 6063 (2020), with the constants of
pymatgen's ``op_params.yaml`` and ``cn_opt_params.yaml``; shells and histogram as in matminer's
``OPSiteFingerprint`` with its default settings.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]

N_PARAMETERS = 37
MAX_NEIGHBOURS = 12

# What an order parameter sums over the triples (neighbour j on the pole, k on the meridian, m).
_BENT, _ANGLE, _PYRAMID, _BIPYRAMID, _SEE_SAW, _HEXAGON, _PENTAGON, _BCC = range(8)
_CUBOCTAHEDRON, _Q = 8, 9

# Rows in the order of matminer's feature list from place 1 on: neighbours, kind, angle wanted (of
# π; degree l for the bond-orientational ones), width of the Gaussian about it, factor on the
# azimuth, width of the Gaussian about the south pole, where the south pole begins (rad).
_S = 2.356194490192345
TABLE = np.array(
    [
        [2, _BENT, 0.5, 15.15, 0, 0, 0],  # L-shaped
        [2, _BENT, 0.5802777777777778, 13.95, 0, 0, 0],  # water-like
        [2, _BENT, 0.666666666667, 13.25, 0, 0, 0],  # bent 120°
        [2, _BENT, 0.833333333333333, 12.45, 0, 0, 0],  # bent 150°
        [2, _BENT, 1.0, 8.667, 0, 0, 0],  # linear
        [3, _ANGLE, 0.66666666667, 17.5, 1.0, 0, 0],  # trigonal planar
        [3, _ANGLE, 0.6081734479693927, 18.33, 1.5, 0, 0],  # trigonal non-coplanar
        [3, _PYRAMID, 0.5, 15.5, 1.0, 0, 0],  # T-shaped
        [4, _BIPYRAMID, 0.5, 17.7, 1.0, 13.5, _S],  # square co-planar
        [4, _ANGLE, 0.6081734479693927, 18.5, 1.5, 0, 0],  # tetrahedral
        [4, _SEE_SAW, 0.5, 27.0, 2.0, 11.5, _S],  # rectangular see-saw-like
        [4, _BIPYRAMID, 0.5, 15.75, 1.5, 12.75, _S],  # see-saw-like
        [4, _PYRAMID, 0.5, 15.5, 1.5, 0, 0],  # trigonal pyramidal
        [5, _PENTAGON, 0.6, 19.333, 1.0, 0, 0],  # pentagonal planar
        [5, _PYRAMID, 0.5, 14.9, 2.0, 0, 0],  # square pyramidal
        [5, _BIPYRAMID, 0.5, 16.6, 1.5, 12.0, _S],  # trigonal bipyramidal
        [6, _HEXAGON, 0.16666667, 25.0, 1.0, 7.5, 2.6179938779914944],  # hexagonal planar
        [6, _BIPYRAMID, 0.5, 18.0, 2.0, 15.0, _S],  # octahedral
        [6, _PYRAMID, 0.5, 13.8, 2.5, 0, 0],  # pentagonal pyramidal
        [7, _PYRAMID, 0.5, 12.5, 3.0, 0, 0],  # hexagonal pyramidal
        [7, _BIPYRAMID, 0.5, 14.75, 2.5, 12.5, _S],  # pentagonal bipyramidal
        [8, _BCC, 0.5, 0, 3.0, 15.0, 2.5261129449194057],  # body-centred cubic
        [8, _BIPYRAMID, 0.5, 13.6, 3.0, 14.1, _S],  # hexagonal bipyramidal
        [9, _Q, 2, 0, 0, 0, 0],
        [9, _Q, 4, 0, 0, 0, 0],
        [9, _Q, 6, 0, 0, 0, 0],
        [10, _Q, 2, 0, 0, 0, 0],
        [10, _Q, 4, 0, 0, 0, 0],
        [10, _Q, 6, 0, 0, 0, 0],
        [11, _Q, 2, 0, 0, 0, 0],
        [11, _Q, 4, 0, 0, 0, 0],
        [11, _Q, 6, 0, 0, 0, 0],
        [12, _CUBOCTAHEDRON, 0.5, 25.5, 1.0, 28.75, 2.792526803190927],  # cuboctahedral
        [12, _Q, 2, 0, 0, 0, 0],
        [12, _Q, 4, 0, 0, 0, 0],
        [12, _Q, 6, 0, 0, 0, 0],
    ]
)
_SMALL = 1e-12
# rad: an angle this close to a limit counts as on it. Crystals put angles exactly on limits (90°,
# 135°, opposite neighbours), and rounding must not choose the side.
_ON_LIMIT = 1e-6
# Cuboctahedron: the equatorial belt (rad), the width off it, weights of the pole and the azimuth.
_BELT_LOW, _BELT_HIGH = 1.3089969389957472, 1.8325957145940461
_OFF_BELT_WIDTH, _POLE_WEIGHT, _AZIMUTH_WIDTH, _AZIMUTH_COS = 31.25, 1.8, 0.0556, 0.81649658
_BCC_POLE_WEIGHT = 6.0


@njit(nogil=True)
def polar_angles(unit: F64, n: int) -> tuple[F64, F64]:
    """Angles between neighbours: θ (n, n), and azimuths φ (n, n, n) in rad.

    ``theta[j, k]`` is the angle between neighbours j and k seen from the site; ``phi[j, k, m]``
    the angle about the axis of j between k and m. φ = -1 where k lies on that axis (no meridian),
    -2 where only m does.
    """
    theta = np.empty((n, n))
    phi = np.empty((n, n, n))
    across = np.empty((n, 3))
    length = np.empty(n)
    for j in range(n):
        square = unit[j, 0] ** 2 + unit[j, 1] ** 2 + unit[j, 2] ** 2
        for k in range(n):
            dot = unit[j, 0] * unit[k, 0] + unit[j, 1] * unit[k, 1] + unit[j, 2] * unit[k, 2]
            theta[j, k] = math.acos(max(-1.0, min(dot, 1.0)))
            total = 0.0
            for x in range(3):
                across[k, x] = unit[k, x] - dot / square * unit[j, x]
                total += across[k, x] ** 2
            length[k] = math.sqrt(total)
            if length[k] >= _ON_LIMIT:
                for x in range(3):
                    across[k, x] /= length[k]
        for k in range(n):
            for m in range(k):
                if length[k] < _ON_LIMIT or length[m] < _ON_LIMIT:
                    phi[j, k, m] = -1.0 if length[k] < _ON_LIMIT else -2.0
                    phi[j, m, k] = -1.0 if length[m] < _ON_LIMIT else -2.0
                    continue
                cosine = (
                    across[k, 0] * across[m, 0]
                    + across[k, 1] * across[m, 1]
                    + across[k, 2] * across[m, 2]
                )
                phi[j, k, m] = math.acos(max(-1.0, min(cosine, 1.0)))
                phi[j, m, k] = phi[j, k, m]
    return theta, phi


@njit(nogil=True)
def _gauss(x: float) -> float:
    return math.exp(-0.5 * x * x)


@njit(nogil=True)
def _angle_term(kind: int, row: F64, theta: float) -> float:
    """Gaussian weight of one polar angle: the part of a triple's term that has no azimuth."""
    of_pi = theta * (1 / math.pi)
    if kind == _HEXAGON:
        return _gauss(row[3] * (abs(of_pi - 0.5) - row[2]))
    if kind == _PENTAGON:
        return _gauss(row[3] * (of_pi - (0.4 if theta <= row[2] * math.pi else 0.8)))
    if kind == _BCC:
        x = (theta - math.pi / 2.0) / math.asin(1 / 3)
        return 1 / math.exp(-0.5) * x * _gauss(x)
    if kind == _CUBOCTAHEDRON and theta <= _BELT_LOW:
        return _gauss(_OFF_BELT_WIDTH * (of_pi - 1 / 3))
    if kind == _CUBOCTAHEDRON and theta >= _BELT_HIGH:
        return _gauss(_OFF_BELT_WIDTH * (of_pi - 2 / 3.0))
    return _gauss(row[3] * (of_pi - row[2]))


@njit(nogil=True)
def triple_parameter(row: F64, theta: F64, phi: F64, n: int) -> float:
    """An order parameter that sums over pairs and triples of n neighbours (all but q2, q4, q6).

    Each pair (j, k) gathers a sum and a weight, from itself and from every third neighbour m.
    "Bent" and bcc take one ratio over all pairs; the others the best pair's. (matminer's bcc takes
    each pair in one order only, so its value depends on the order of the neighbours; this one
    takes both.)
    """
    kind = int(row[1])
    factor, pole_width, pole = row[4], row[5], row[6] - _ON_LIMIT
    has_pole = kind in (_BIPYRAMID, _SEE_SAW, _HEXAGON)
    term = np.empty((n, n))
    for j in range(n):
        for k in range(n):
            if j != k:
                term[j, k] = _angle_term(kind, row, theta[j, k])
    best, all_values, all_weights = 0.0, 0.0, 0.0
    for j in range(n):
        for k in range(n):
            if j == k:
                continue
            theta_k = theta[j, k]
            value = 0.0
            weight = 0.0
            if kind == _BCC or kind == _CUBOCTAHEDRON:
                if theta_k >= pole:
                    at_pole = _BCC_POLE_WEIGHT if kind == _BCC else _POLE_WEIGHT
                    value += at_pole * _gauss(pole_width * (theta_k * (1 / math.pi) - 1.0))
                    weight += at_pole
            elif not has_pole or theta_k < pole:
                value += term[j, k]
                weight += 1.0
            for m in range(n):
                if m == j or m == k or kind == _BENT:
                    continue
                azimuth = phi[j, k, m]
                if azimuth == -1.0:
                    break  # k lies on the axis of j: no meridian to measure from
                theta_m = theta[j, m]
                if has_pole and theta_m >= pole:
                    value += _gauss(pole_width * (theta_m * (1 / math.pi) - 1.0))
                    weight += 1.0
                    continue
                if azimuth == -2.0:
                    continue
                if kind == _BCC:
                    if theta_k < pole:
                        sign = 1.0 if theta_k > math.pi / 2.0 + _ON_LIMIT else -1.0
                        value += sign * math.cos(3 * azimuth) * term[j, m]
                        weight += 1.0
                elif kind == _CUBOCTAHEDRON:
                    if theta_m < pole and _BELT_LOW < theta_k < _BELT_HIGH:
                        if _BELT_LOW < theta_m < _BELT_HIGH:
                            value += math.cos(azimuth) ** 2 * term[j, m]
                            weight += 1.0
                        elif theta_m != _BELT_LOW and theta_m != _BELT_HIGH:
                            off = math.cos(azimuth - 0.5 * math.pi) - _AZIMUTH_COS
                            value += _gauss(_AZIMUTH_WIDTH * off) * term[j, m]
                            weight += 1.0
                elif not has_pole or (
                    theta_k < pole and (kind != _SEE_SAW or azimuth < 0.75 * math.pi - _ON_LIMIT)
                ):
                    value += math.cos(factor * azimuth) ** 2 * term[j, m]
                    weight += 1.0
            all_values += value
            all_weights += weight
            if weight > _SMALL:
                best = max(best, value / weight)
    if kind == _BENT:
        return all_values / all_weights
    if kind == _BCC:
        return all_values / float(n * (6 + (n - 2) * (n - 3)))
    return best


@njit(nogil=True)
def _harmonic(degree: int, m: int, s: float, c: float) -> float:
    """Y_lm at azimuth 0, up to its sign, for l = 2, 4, 6, from sine and cosine of the angle."""
    pi = math.pi
    if degree == 2:
        if m == 2:
            return 0.25 * math.sqrt(15 / (2 * pi)) * s**2
        if m == 1:
            return 0.5 * math.sqrt(15 / (2 * pi)) * s * c
        return 0.25 * math.sqrt(5 / pi) * (3 * c**2 - 1.0)
    if degree == 4:
        if m == 4:
            return 3 / 16.0 * math.sqrt(35 / (2 * pi)) * s**4
        if m == 3:
            return 3 / 8.0 * math.sqrt(35 / pi) * s**3 * c
        if m == 2:
            return 3 / 8.0 * math.sqrt(5 / (2 * pi)) * s**2 * (7 * c**2 - 1.0)
        if m == 1:
            return 3 / 8.0 * math.sqrt(5 / pi) * s * (7 * c**3 - 3 * c)
        return 3 / 16.0 * math.sqrt(1 / pi) * (35 * c**4 - 30 * c**2 + 3.0)
    if m == 6:
        return 1 / 64.0 * math.sqrt(3003 / pi) * s**6
    if m == 5:
        return 3 / 32.0 * math.sqrt(1001 / pi) * s**5 * c
    if m == 4:
        return 3 / 32.0 * math.sqrt(91 / (2 * pi)) * s**4 * (11 * c**2 - 1.0)
    if m == 3:
        return 1 / 32.0 * math.sqrt(1365 / pi) * s**3 * (11 * c**3 - 3 * c)
    if m == 2:
        return 1 / 64.0 * math.sqrt(1365 / pi) * s**2 * (33 * c**4 - 18 * c**2 + 1.0)
    if m == 1:
        return 1 / 16.0 * math.sqrt(273 / (2 * pi)) * s * (33 * c**5 - 30 * c**3 + 5 * c)
    return 1 / 32.0 * math.sqrt(13 / pi) * (231 * c**6 - 315 * c**4 + 105 * c**2 - 5.0)


@njit(nogil=True)
def bond_orientation(degree: int, unit: F64, n: int) -> float:
    """Steinhardt's q_l of n unit vectors, l = 2, 4 or 6 (rotation-invariant)."""
    total = 0.0
    for m in range(degree + 1):
        real, imaginary = 0.0, 0.0
        for k in range(n):
            z = max(-1.0, min(unit[k, 2], 1.0))
            s = math.sqrt(1.0 - z * z)
            azimuth = math.atan2(unit[k, 1], unit[k, 0])
            size = _harmonic(degree, m, s, z)
            real += size * math.cos(m * azimuth)
            imaginary += size * math.sin(m * azimuth)
        total += (1.0 if m == 0 else 2.0) * (real * real + imaginary * imaginary)
    return math.sqrt(4 * math.pi * total / ((2 * degree + 1) * float(n**2)))


@njit(nogil=True)
def _bin(value: float, low: float, high: float, n_bins: int) -> int:
    """Place of a value in n equal bins from low to high, the last one closed; -1 if outside."""
    if not low <= value <= high:
        return -1
    step = (high - low) / n_bins
    place = min(int((value - low) / (high - low) * n_bins), n_bins - 1)
    if value < place * step + low:
        place -= 1
    elif place < n_bins - 1 and value >= (place + 1) * step + low:
        place += 1
    return place


@njit(nogil=True)
def _bin_centre(place: int, low: float, high: float, n_bins: int) -> float:
    step = (high - low) / n_bins
    upper = high if place == n_bins - 1 else (place + 1) * step + low
    return 0.5 * (place * step + low + upper)


@njit(nogil=True)
def histogram_peak(values: F64) -> float:
    """The value that three estimates of an order parameter agree on.

    Bins 0.001 wide over their range; the fullest bin wins (two adjacent full ones count as one, at
    their common edge), the lowest of equals. Estimates outside [0, 1] fall out of the histogram.
    """
    low = min(max(float(int(values.min() * 1000.0 - 1.5)) * 0.001, 0.0), 1.0)
    high = min(max(float(int(values.max() * 1000.0 + 1.5)) * 0.001, 0.0), 1.0)
    if low == high:
        low -= 0.001
        high += 0.001
    n_bins = int((high - low) * 1000.0)
    places = np.empty(3, dtype=np.int64)
    for i in range(3):
        places[i] = _bin(values[i], low, high, n_bins)
    places.sort()
    fullest = 0
    for i in range(3):
        if places[i] >= 0:
            fullest = max(fullest, (places == places[i]).sum())
    if fullest == 0:  # all fell out: every bin is as full, and the first two count as one
        centre = _bin_centre(0, low, high, n_bins)
        return 0.5 * (centre + _bin_centre(1, low, high, n_bins)) if n_bins > 1 else centre
    peak, count = 0.0, 0
    i = 0
    while i < 3:
        here = places[i]
        size = (places == here).sum()
        following = i + size
        if here >= 0 and size == fullest:
            centre, held = _bin_centre(here, low, high, n_bins), size
            if following < 3 and places[following] == here + 1:
                if (places == here + 1).sum() == fullest:
                    centre = 0.5 * (centre + _bin_centre(here + 1, low, high, n_bins))
                    held += fullest
                    following += fullest
            if held > count:
                peak, count = centre, held
        i = following
    return peak


@njit(nogil=True)
def order_parameters(distance: F64, vector: F64) -> F64:
    """The 37 order parameters of a site, (37,).

    Args:
        distance: (m,) Å, ascending, m >= 12: the neighbours that the search radius holds.
        vector: (m, 3) from the site to each neighbour.

    Relative distances are binned three times (bin widths 0.09, 0.10, 0.11 of the shortest), so
    that neighbours form shells. A parameter for n neighbours is evaluated where the shells up to
    some distance hold exactly n, and is 0 elsewhere; it is multiplied by the squared mean of
    shortest/distance. The three estimates go through `histogram_peak`.
    """
    m = len(distance)
    shortest = distance[0]
    damping = np.zeros((3, MAX_NEIGHBOURS + 1))  # per binning and neighbour count; 0: no such shell
    wanted = np.zeros(MAX_NEIGHBOURS + 1, dtype=np.bool_)
    for i in range(3):
        per_width = 1.0 / (0.1 + (i - 1) * 0.01)
        inverse = 0.0
        count = 0
        while count < MAX_NEIGHBOURS:
            shell = int(distance[count] / shortest * per_width + 0.5)
            while count < m and int(distance[count] / shortest * per_width + 0.5) == shell:
                inverse += 1.0 / (distance[count] / shortest)
                count += 1
            if 2 <= count <= MAX_NEIGHBOURS:
                damping[i, count] = (inverse / count) ** 2
                wanted[count] = True
    values = np.zeros((N_PARAMETERS, 3))
    values[0, :] = 1.0 - distance[0] / distance[1]
    unit = np.empty((MAX_NEIGHBOURS, 3))
    for k in range(MAX_NEIGHBOURS):
        unit[k] = vector[k] / distance[k]
    prepared = 0
    theta = np.empty((0, 0))
    phi = np.empty((0, 0, 0))
    for p in range(1, N_PARAMETERS):
        row = TABLE[p - 1]
        n = int(row[0])
        if not wanted[n]:
            continue
        if int(row[1]) == _Q:
            value = bond_orientation(int(row[2]), unit, n)
        else:
            if prepared != n:
                theta, phi = polar_angles(unit, n)
                prepared = n
            value = triple_parameter(row, theta, phi, n)
        for i in range(3):
            values[p, i] = damping[i, n] * value
    result = np.empty(N_PARAMETERS)
    for p in range(N_PARAMETERS):
        result[p] = histogram_peak(values[p])
    return result
