"""The pair basis on the CPU: one compiled pass over pairs and images, no list of edges.

Equal to `pigen.model.pairs.pair_basis` in torch, which serves the other devices, to rounding
(tested). Two things make it fast. B_ji^{lm} = (−1)^l B_ij^{lm}, so half of the pairs are enough.
And Gaussians at even spacing follow from one another by a product, so that a distance costs two
exponentials however many radial functions there are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pigen.runtime.kernels import njit

_SQRT3, _SQRT5, _SQRT15 = math.sqrt(3.0), math.sqrt(5.0), math.sqrt(15.0)


@njit()
def fill_basis(
    frac: NDArray[np.float64],
    lattice: NDArray[np.float64],
    n_atoms: NDArray[np.int64],
    reach: NDArray[np.int64],
    cutoff: float,
    basis: NDArray[np.float64],
) -> None:
    """Add up B_ij^{lm,k} over images; any float dtype, double precision inside.

    Args:
        frac: (B, n, 3). lattice: (B, 3, 3) Å. n_atoms: (B,), real atoms come first.
        reach: (B, 3) images to search on each side of the nearest one.
        cutoff: Å. basis: (B, n, n, 9, K), zeros, filled in place; e3nn's order and "component"
            normalisation of the harmonics (y is the polar axis).
    """
    radial = basis.shape[4]
    spacing = cutoff / radial
    fade = math.exp(-1.0)
    total = np.empty((9, radial))
    gauss = np.empty(radial)
    y = np.empty(9)
    y[0] = 1.0
    for b in range(len(frac)):
        cell = lattice[b].astype(np.float64)
        for i in range(n_atoms[b]):
            for j in range(i, n_atoms[b]):
                total[:] = 0.0
                u0 = np.float64(frac[b, j, 0]) - frac[b, i, 0]
                u1 = np.float64(frac[b, j, 1]) - frac[b, i, 1]
                u2 = np.float64(frac[b, j, 2]) - frac[b, i, 2]
                u0, u1, u2 = u0 - np.rint(u0), u1 - np.rint(u1), u2 - np.rint(u2)
                for p in range(-reach[b, 0], reach[b, 0] + 1):
                    for q in range(-reach[b, 1], reach[b, 1] + 1):
                        for r in range(-reach[b, 2], reach[b, 2] + 1):
                            if i == j and p == 0 and q == 0 and r == 0:
                                continue
                            f0, f1, f2 = u0 + p, u1 + q, u2 + r
                            vx = f0 * cell[0, 0] + f1 * cell[1, 0] + f2 * cell[2, 0]
                            vy = f0 * cell[0, 1] + f1 * cell[1, 1] + f2 * cell[2, 1]
                            vz = f0 * cell[0, 2] + f1 * cell[1, 2] + f2 * cell[2, 2]
                            squared = vx * vx + vy * vy + vz * vz
                            if not squared < cutoff * cutoff:
                                continue
                            d = math.sqrt(squared)
                            x = d / cutoff
                            envelope = 1.0 - x * x * x * (10.0 - x * (15.0 - 6.0 * x))
                            # exp(−(u − k)²/2) for k = 0, 1, …, with u = d/spacing − 1/2
                            u = d / spacing - 0.5
                            value = math.exp(-0.5 * u * u) * envelope
                            ratio = math.exp(u - 0.5)
                            for k in range(radial):
                                gauss[k] = value
                                value *= ratio
                                ratio *= fade
                            if d > 0.0:
                                vx, vy, vz = vx / d, vy / d, vz / d
                            y[1], y[2], y[3] = _SQRT3 * vx, _SQRT3 * vy, _SQRT3 * vz
                            y[4] = _SQRT15 * vx * vz
                            y[5] = _SQRT15 * vx * vy
                            y[6] = _SQRT5 * (vy * vy - 0.5 * (vx * vx + vz * vz))
                            y[7] = _SQRT15 * vy * vz
                            y[8] = 0.5 * _SQRT15 * (vz * vz - vx * vx)
                            for m in range(9):
                                for k in range(radial):
                                    total[m, k] += y[m] * gauss[k]
                for m in range(9):
                    sign = -1.0 if 1 <= m <= 3 else 1.0
                    for k in range(radial):
                        basis[b, i, j, m, k] = total[m, k]
                        basis[b, j, i, m, k] = sign * total[m, k]
