"""What `StructureMatcher` can't fit: a compiled test that no pair it fits fails.

The matcher maps the lattice of one structure onto that of the other within tolerances of length
and angle, lays one atom on another, asks that every site then has a partner within a fractional
tolerance, assigns the sites, and looks at the largest displacement. The same steps are taken here
on plain arrays with the same tolerances, a hair wider.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.lattice import (
    determinant,
    inverse3,
    inverse_heights,
    minkowski_reduce,
    reduced_coords,
)
from pigen.crystal.neighbours import lattice_points
from pigen.descriptors.prototypes.assignment import (
    all_within_reach,
    least_total,
    square_distances,
    surely_too_far,
)
from pigen.runtime.kernels import njit

LTOL = 0.2
"""Relative tolerance of cell lengths."""
STOL = 0.3
"""Largest displacement of a site, in (volume per atom)^(1/3)."""
ANGLE_TOL = 5.0
"""Tolerance of cell angles in degrees."""
_SLACK = 1e-6
_WIDEST = 1 + LTOL + _SLACK

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


@njit()
def may_fit(cell: F64, frac: F64, kinds: U8, other: F64, other_frac: F64, other_kinds: U8) -> bool:
    """Whether ``matcher.fit(structure, other)`` may be true.

    Args:
        cell: (3, 3) Å, of the structure, reduced as the matcher does it.
        frac: (n, 3).
        kinds: (n,), atomic numbers, or all alike for a match of frameworks.
        other: (3, 3) Å, of the structure it is fitted to.
        other_frac: (n, 3), of as many sites.
        other_kinds: (n,).
    """
    n = len(frac)
    if n != len(other_frac) or n == 0:
        return False
    lengths, angles = _parameters(other)
    scale = (_volume(other) / _volume(cell)) ** (1 / 3)
    sorted_lengths = np.sort(lengths)
    # No basis has shorter vectors than a Minkowski-reduced one, so the mapped one has not.
    shortest, _, ok = minkowski_reduce(cell)
    shortest_lengths = _parameters(shortest)[0] * scale
    for k in range(3):
        if ok and shortest_lengths[k] > _WIDEST * sorted_lengths[k]:
            return False
    steps, vectors, norms = lattice_points(cell * scale, _WIDEST * sorted_lengths[2])
    anchor = _anchor(kinds, other_kinds)
    for a in range(len(norms)):
        if not _like(norms[a], lengths[0]):
            continue
        for b in range(len(norms)):
            if not _like(norms[b], lengths[1]):
                continue
            gamma = _angle(vectors, norms, a, b)
            if abs(gamma - angles[2]) > ANGLE_TOL + _SLACK:
                continue
            for c in range(len(norms)):
                if not _like(norms[c], lengths[2]):
                    continue
                basis = np.stack((steps[a], steps[b], steps[c]))
                if abs(abs(determinant(basis)) - 1.0) > 0.5:
                    continue
                found = np.array(
                    [_angle(vectors, norms, b, c), _angle(vectors, norms, a, c), gamma]
                )
                if np.any(np.abs(found - angles) > ANGLE_TOL + _SLACK):
                    continue
                mapped = _times(frac, inverse3(basis))
                mean_lengths = (np.array([norms[a], norms[b], norms[c]]) + lengths) / 2
                mean = _cell_of(mean_lengths, (found + angles) / 2)
                if _some_shift_may_fit(mean, mapped, kinds, other_frac, other_kinds, anchor):
                    return True
    return False


@njit()
def _some_shift_may_fit(
    cell: F64, frac: F64, kinds: U8, other: F64, other_kinds: U8, anchor: int
) -> bool:
    """May the structures fit in a common cell with the other's anchor on one of the sites?"""
    n = len(frac)
    volume = _volume(cell)
    if not volume > 0.0:  # no cell has these lengths and angles: let the matcher say so
        return True
    unit = (volume / n) ** (1 / 3)
    tolerance = 2 * STOL * unit * inverse_heights(cell) * (1 + _SLACK) + _SLACK
    shifts = np.empty(n, dtype=np.int64)
    n_shifts = 0
    for i in range(n):
        if kinds[i] == other_kinds[anchor] and _every_site_has_a_partner(
            frac, kinds, other, other_kinds, frac[i] - other[anchor], tolerance
        ):
            shifts[n_shifts] = i
            n_shifts += 1
    reduced, transform, ok = minkowski_reduce(cell)
    if n_shifts == 0 or not ok:
        return n_shifts > 0
    here, there = reduced_coords(frac, transform), reduced_coords(other, transform)
    # In a fit no displacement is further than r = STOL from their mean. So with the anchor on the
    # site that the fit assigns to it, every site has a partner of its own within 2 r, and the mean
    # square of these distances is below r^2 + r^2.
    reach = 2 * STOL * unit * (1 + _SLACK)
    squares, fits = np.empty((n_shifts, n, n)), False
    for s in range(n_shifts):
        shift = here[shifts[s]] - there[anchor]
        squares[s] = square_distances(reduced, here, kinds, there, other_kinds, shift, reach)
        fits = fits or (
            all_within_reach(squares[s], reach) and least_total(squares[s]) < n * reach * reach / 2
        )
    if not fits:
        return False
    for s in range(n_shifts):
        shift = here[shifts[s]] - there[anchor]
        if not surely_too_far(reduced, here, there, shift, squares[s], STOL * unit):
            return True
    return False


@njit()
def _every_site_has_a_partner(
    frac: F64, kinds: U8, other: F64, other_kinds: U8, shift: F64, tolerance: F64
) -> bool:
    n = len(frac)
    for k in range(n):
        found = False
        for j in range(n):
            if kinds[j] != other_kinds[k]:
                continue
            d0 = other[k, 0] + shift[0] - frac[j, 0]
            if abs(d0 - np.rint(d0)) > tolerance[0]:
                continue
            d1 = other[k, 1] + shift[1] - frac[j, 1]
            if abs(d1 - np.rint(d1)) > tolerance[1]:
                continue
            d2 = other[k, 2] + shift[2] - frac[j, 2]
            if abs(d2 - np.rint(d2)) <= tolerance[2]:
                found = True
                break
        if not found:
            return False
    return True


@njit()
def _anchor(kinds: U8, other_kinds: U8) -> int:
    """The site of the other that is laid on sites of its kind: the first of the rarest kind."""
    best, fewest = 0, len(kinds) + 1
    for k in range(len(other_kinds)):
        alike = 0
        for i in range(len(kinds)):
            alike += kinds[i] == other_kinds[k]
        if alike < fewest:
            best, fewest = k, alike
    return best


@njit()
def _cell_of(lengths: F64, angles: F64) -> F64:
    """A cell of these lengths and angles (degrees); of no volume if there is none."""
    x, y, z = np.cos(np.radians(angles))
    sine = np.sin(np.radians(angles[2]))
    cell = np.zeros((3, 3))
    across = (x - y * z) / sine
    height = 1 - y * y - across * across
    if not height > 0.0:
        return cell
    cell[0, 0] = lengths[0]
    cell[1, 0], cell[1, 1] = lengths[1] * z, lengths[1] * sine
    cell[2, 0], cell[2, 1] = lengths[2] * y, lengths[2] * across
    cell[2, 2] = lengths[2] * np.sqrt(height)
    return cell


@njit()
def _times(frac: F64, matrix: F64) -> F64:
    product = np.zeros_like(frac)
    for i in range(len(frac)):
        for k in range(3):
            for j in range(3):
                product[i, k] += frac[i, j] * matrix[j, k]
    return product


@njit()
def _parameters(cell: F64) -> tuple[F64, F64]:
    """Lengths, and angles in degrees."""
    norms = np.empty(3)
    for k in range(3):
        norms[k] = np.sqrt(cell[k, 0] ** 2 + cell[k, 1] ** 2 + cell[k, 2] ** 2)
    angles = np.array([_angle(cell, norms, 1, 2), _angle(cell, norms, 0, 2), 0.0])
    angles[2] = _angle(cell, norms, 0, 1)
    return norms, angles


@njit()
def _angle(vectors: F64, norms: F64, i: int, j: int) -> float:
    dot = 0.0
    for x in range(3):
        dot += vectors[i, x] * vectors[j, x]
    return float(np.degrees(np.arccos(min(1.0, max(-1.0, dot / (norms[i] * norms[j]))))))


@njit()
def _like(length: float, target: float) -> bool:
    ratio = length / target
    return bool(1 / _WIDEST <= ratio <= _WIDEST)


@njit()
def _volume(cell: F64) -> float:
    return abs(determinant(cell))
