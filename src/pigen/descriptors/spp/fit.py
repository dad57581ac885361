"""Fitting the pair potentials to a reference set: U_ij(r) = −ln g_ij(r) + u0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF, atomic_radii
from pigen.crystal.lattice import determinant, inverse_heights, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import image_span
from pigen.crystal.symmetry import primitive_cells
from pigen.descriptors.spp.table import (
    BIN,
    N_BINS,
    N_PAIRS,
    R_MAX,
    complete,
    distance_bin,
    mean_by_crystal,
    pair_codes,
    pair_row,
    save_table,
    stored_steps,
)
from pigen.runtime.errors import PigenError
from pigen.runtime.kernels import njit

THRESHOLD = 0.362
"""The score below which `REFERENCE_SHARE` of the reference structures lie, by the choice of u0."""
REFERENCE_SHARE = 0.95

_PRIOR = 10.0  # ideal-gas pairs a bin must expect before its own counts outweigh the universal g
_SMOOTHING = (0.05, 0.03)  # Å and Å/Å: a Gaussian of σ = a + b r, shells widen with distance
_FIRST_SHELL = 0.8  # g at which a pair's first shell begins; left of it is the wall
_LEAST_G = 1e-3  # where even the prior expects next to nothing, right of the first shell

_X_BIN = 0.02  # of the universal g(x), x = r / (r_i + r_j)
_N_X = 300
_X_SMOOTHING = 1.5  # bins

_SUBSTITUTE_RADII = {
    **{"At": "I", "Fr": "Cs"},
    **dict.fromkeys(("Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr"), "Am"),
}
"""Elements without any radius take that of their homologue, or of americium."""


@dataclass(frozen=True, eq=False)
class DistanceCounts:
    """Running sums over reference crystals.

    Attributes:
        counts: (N_PAIRS, N_BINS) distances i–j of all images, a–b and b–a apart for one species.
        density: (N_PAIRS,) Σ n_i n_j / V, 1/Å^3.
        universal: (_N_X,) distances of all pairs by r / (r_i + r_j).
    """

    counts: NDArray[np.float64]
    density: NDArray[np.float64]
    universal: NDArray[np.float64]

    @classmethod
    def zeros(cls) -> DistanceCounts:
        """Nothing counted yet."""
        return cls(np.zeros((N_PAIRS, N_BINS)), np.zeros(N_PAIRS), np.zeros(_N_X))

    def add(self, cells: Crystals) -> None:
        """Count a batch of crystals, in the cells they come in."""
        _count(
            cells.lattice, cells.frac_coords, cells.atomic_numbers, cells.ptr, pair_radii(),
            self.counts, self.density, self.universal,
        )  # fmt: skip


def fit_spp(reference: Iterable[Crystals], path: Path, provenance: Mapping[str, str]) -> int:
    """Fit a table to a stream of reference crystals and write it.

    For every pair of elements: distances up to `R_MAX` of all periodic images in bins of `BIN`,
    over the ideal-gas count Σ n_i n_j / V · 4πr²dr, both smoothed. The ratio is shrunk towards
    g(r / (r_i + r_j)) pooled over all pairs, as the mean of a gamma posterior would be: a bin's
    counts weigh as the pairs an ideal gas would have put there, against `_PRIOR`. u0 puts 95 % of
    the reference below `THRESHOLD`. The memory needed grows with the reference by 4 bytes per pair
    of atoms in a primitive cell.

    Args:
        reference: batches of crystals; those without a usable cell are left out.
        path: where to write (npz).
        provenance: kept in the file, with the size of the reference.

    Returns:
        Number of crystals fitted to.

    Raises:
        PigenError: no usable crystal.
    """
    counted = DistanceCounts.zeros()
    codes, sizes = [], []
    for batch in reference:
        cells, reasons = primitive_cells(batch)
        cells = cells[reasons == ""]
        counted.add(cells)
        own, ptr = pair_codes(cells)
        codes.append(own.astype(np.int32))
        sizes.append(np.diff(ptr))
    n = sum(len(s) for s in sizes)
    if n == 0:
        raise PigenError("no crystal to fit to")

    g = _shrunk(counted, _universal(counted))
    shell = np.minimum(_FIRST_SHELL, g.max(axis=1, keepdims=True))
    first_bin = np.argmax(g >= shell, axis=1)
    potential = stored_steps(-np.log(np.maximum(g, _LEAST_G)), first_bin)
    table = complete(potential, first_bin).ravel()
    ptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    scores = np.sort(mean_by_crystal(table[np.concatenate(codes)], ptr))
    # The first score that need not pass comes to lie on the threshold, by more than rounding.
    u0 = THRESHOLD - float(scores[min(int(np.ceil(REFERENCE_SHARE * n)), n - 1)]) + 1e-9
    save_table(path, potential, first_bin, u0, {**provenance, "structures": str(n)})
    return n


@lru_cache(maxsize=1)
def pair_radii() -> NDArray[np.float64]:
    """r_i + r_j of every pair, (N_PAIRS,) Å."""
    radii = atomic_radii().copy()
    for symbol, other in _SUBSTITUTE_RADII.items():
        radii[Z_OF[symbol]] = radii[Z_OF[other]]
    radii[0] = 1.0  # no element; its rows must only be finite
    z = range(len(SYMBOLS))
    reach = np.empty(N_PAIRS)
    for a in z:
        for b in range(a + 1):
            reach[pair_row(a, b)] = radii[a] + radii[b]
    return reach


@njit()
def _count(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    ptr: NDArray[np.int64],
    reach: NDArray[np.float64],
    counts: NDArray[np.float64],
    density: NDArray[np.float64],
    universal: NDArray[np.float64],
) -> None:
    """Add each crystal's i–j distances, and its n_i n_j / V, to the running sums."""
    n_of = np.zeros(MAX_Z + 1, dtype=np.int64)
    offset = np.zeros(3)
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if not ok:
            continue
        start, stop = ptr[s], ptr[s + 1]
        coords = reduced_coords(frac_coords[start:stop], transform)
        reaches = R_MAX * inverse_heights(cell)
        volume = abs(determinant(cell))
        n_of[:] = 0
        for a in range(start, stop):
            n_of[numbers[a]] += 1
        for i in range(MAX_Z + 1):
            if n_of[i] > 0:
                for j in range(i + 1):
                    density[i * (i + 1) // 2 + j] += n_of[i] * n_of[j] / volume
        for a in range(stop - start):
            for b in range(a + 1):
                low = np.int64(min(numbers[start + a], numbers[start + b]))
                high = np.int64(max(numbers[start + a], numbers[start + b]))
                row = high * (high + 1) // 2 + low
                # a–b and b–a are two pairs of one species, but one pair of two.
                weight = 2.0 if a != b and low == high else 1.0
                for k in range(3):
                    offset[k] = coords[b, k] - coords[a, k]
                for i in _images(reaches[0], offset[0]):
                    for j in _images(reaches[1], offset[1]):
                        for k in _images(reaches[2], offset[2]):
                            square = 0.0
                            for x in range(3):
                                step = (
                                    (offset[0] + i) * cell[0, x]
                                    + (offset[1] + j) * cell[1, x]
                                    + (offset[2] + k) * cell[2, x]
                                )
                                square += step * step
                            if square < R_MAX * R_MAX and not (a == b and i == j == k == 0):
                                r = np.sqrt(square)
                                bin_ = distance_bin(r)
                                if bin_ < N_BINS:
                                    counts[row, bin_] += weight
                                x_bin = int(r / (reach[row] * _X_BIN))
                                if x_bin < _N_X:
                                    universal[x_bin] += weight


@njit()
def _images(reach: float, offset: float) -> range:
    """Cells along one axis whose images may lie within R_MAX."""
    first, last = image_span(reach, offset)
    return range(first, last + 1)


def _universal(counted: DistanceCounts) -> NDArray[np.float64]:
    """g(r / (r_i + r_j)) pooled over all pairs, at each pair's bins: (N_PAIRS, N_BINS)."""
    reach = pair_radii()
    edges = np.arange(_N_X + 1) * _X_BIN
    # A pair was counted up to R_MAX only, so it counts only for the bins that lie within.
    within = reach[:, None] * edges[1:] <= R_MAX
    ideal = 4 / 3 * np.pi * np.diff(edges**3) * ((counted.density * reach**3) @ within)
    smooth = _gaussians(np.full(_N_X, _X_SMOOTHING))
    g = (smooth @ np.where(ideal > 0, counted.universal, 0)) / np.maximum(smooth @ ideal, 1e-12)
    centres = (np.arange(N_BINS) + 0.5) * BIN
    known = np.flatnonzero(ideal > 0)
    x = (known + 0.5) * _X_BIN
    return np.interp(centres / reach[:, None], x, g[known], right=1.0)


def _shrunk(counted: DistanceCounts, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pair distributions (N_PAIRS, N_BINS), those with few counts drawn to the prior."""
    edges = np.arange(N_BINS + 1) * BIN
    ideal = counted.density[:, None] * (4 / 3 * np.pi * np.diff(edges**3))
    constant, slope = _SMOOTHING
    sigma = np.asarray(constant + slope * (edges[:-1] + BIN / 2), dtype=np.float64) / BIN
    smooth = _gaussians(sigma).T
    return (counted.counts @ smooth + _PRIOR * prior) / (ideal @ smooth + _PRIOR)


def _gaussians(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n) matrix whose row i is a normalised Gaussian about i, of width sigma[i] bins."""
    places = np.arange(len(sigma))
    weights = np.exp(-0.5 * ((places - places[:, None]) / sigma[:, None]) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
