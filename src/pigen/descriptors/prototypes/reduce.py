"""Structures in the cells in which the matcher compares them, reduced once each.

Each comes with an invariant, which says which structures to compare first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, OverStructures
from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import (
    MIN_VOLUME,
    degenerate_reason,
    inverse_heights,
    minkowski_reduce,
    reduced_coords,
)
from pigen.crystal.neighbours import images_within, shortest_distances
from pigen.runtime.executor import map_ordered
from pigen.runtime.kernels import njit

if TYPE_CHECKING:  # heavy: imported when something is matched
    from pymatgen.core import Structure

N_NEIGHBOURS = 32
"""Distances in the invariant: two or three shells."""

F64 = NDArray[np.float64]


def average_distances(crystals: Crystals, k: int = N_NEIGHBOURS) -> F64:
    """Mean distance to the 1st … k-th nearest neighbour, (B, k), in (volume per atom)^(1/3).

    NaN for a degenerate or empty cell.
    """
    return np.asarray(
        _batch(crystals.lattice, crystals.frac_coords, crystals.ptr, crystals.volume, k)
    )


@njit()
def _batch(lattice: F64, frac_coords: F64, ptr: NDArray[np.int64], volume: F64, k: int) -> F64:
    averages = np.full((len(lattice), k), np.nan)
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if ok and ptr[s + 1] > ptr[s]:
            coords = reduced_coords(frac_coords[ptr[s] : ptr[s + 1]], transform)
            averages[s] = _average(cell, coords, volume[s], k)
    return averages


@njit()
def _average(cell: F64, coords: F64, volume: float, k: int) -> F64:
    n = len(coords)
    unit = (volume / n) ** (1 / 3)
    per_height = inverse_heights(cell)
    everything = np.full(3, np.inf)
    # A ball of this radius holds 1.5 k atoms on average; the few that need more get it.
    start = unit * (1.5 * k * 3 / (4 * np.pi)) ** (1 / 3)
    total = np.zeros(k)
    for i in range(n):
        radius = start
        while True:
            found = images_within(cell, per_height, coords, i, -1.0, radius, everything)[0]
            if len(found) >= k:
                break
            radius *= 1.3
        total += found[:k]
    return np.asarray(total / (n * unit))


_MAX_VOLUME = 1e9
"""Å^3: pymatgen's Niggli reduction goes astray in cells of 10^6 Å."""
_COINCIDENT = 0.01
"""Å: atoms closer than this are one atom twice, and make pymatgen's search for a primitive cell
take seconds."""
_SKEWED = 20.0
"""Edges multiplied over volume: above this a cell is far from reduced."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """One structure, ready to be compared.

    Attributes:
        crystal: a batch of one, the Niggli-reduced primitive cell by pymatgen's rules.
        invariant: (k,), see `average_distances`.
    """

    crystal: Crystals
    invariant: NDArray[np.float64]

    @cached_property
    def structure(self) -> Structure:
        """The crystal as a pymatgen Structure."""
        return self.crystal.to_pymatgen()[0]


def matcher_cells(crystals: Crystals) -> tuple[Crystals, NDArray[np.object_]]:
    """The cell that `StructureMatcher` reduces each crystal to, and (B,) reasons.

    It is pymatgen's own reduction: its tolerance of 0.25 Å makes the number of sites, and a match
    needs equal numbers. A crystal that can't be reduced is returned as it came, with its reason.
    """
    reasons = np.array([""] * len(crystals), dtype=object)
    any_kind = np.zeros_like(crystals.atomic_numbers)
    shortest = shortest_distances(crystals.lattice, crystals.frac_coords, any_kind, crystals.ptr)
    cells = []
    for i, one in enumerate(crystals):
        if not one.n_atoms[0]:
            reasons[i] = "no atoms in the cell"
        elif not one.volume[0] > MIN_VOLUME:
            reasons[i] = degenerate_reason(one.volume[0])
        elif one.volume[0] > _MAX_VOLUME:
            reasons[i] = f"cell too large to be reduced: volume {one.volume[0]:.2g} Å^3"
        elif shortest[i] < _COINCIDENT:
            reasons[i] = f"coincident atoms: {shortest[i]:.2g} Å apart"
        else:
            try:
                one = _matcher_cell(one)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                reasons[i] = f"cell could not be reduced: {error}"
        cells.append(one)
    return Crystals.concatenate(cells), reasons


def _matcher_cell(crystal: Crystals) -> Crystals:
    lattice = crystal.lattice[0]
    if np.prod(np.linalg.norm(lattice, axis=1)) > _SKEWED * crystal.volume[0]:
        # pymatgen's reduction takes minutes for such a cell, or does not end at its lattice.
        cell, transform, _ = minkowski_reduce(lattice)
        frac = reduced_coords(crystal.frac_coords, transform)
        crystal = Crystals.single(cell, frac, crystal.atomic_numbers)
    structure = crystal.to_pymatgen()[0]
    reduced = structure.get_reduced_structure("niggli").get_primitive_structure()
    return Crystals.from_pymatgen([reduced])


def ready(cells: Crystals) -> list[Reduced]:
    """Each of some cells from `matcher_cells`, with its invariant."""
    invariants = average_distances(cells)
    return [Reduced(one, invariant) for one, invariant in zip(cells, invariants, strict=True)]


Prepared = tuple[Bundle, list[Reduced | None]]
"""A chunk and its structures ready to be compared, None for one that can't be."""


def prepare(chunks: Iterable[Bundle], executor: Executor) -> Iterator[Prepared]:
    """Every chunk of a stream with its structures reduced, in order."""
    return map_ordered(executor, PREPARE, chunks)


class _Preparing(OverStructures[Prepared]):
    """Reduces chunks; a structure that hangs or kills a worker can't be compared."""

    def refuse(self, item: Bundle, reason: str) -> Prepared:
        """Return the structure as it came, without its reduced cell."""
        return item, [None] * len(item)


def _joined(parts: Sequence[Prepared]) -> Prepared:
    return Bundle.concatenate([chunk for chunk, _ in parts]), [one for _, p in parts for one in p]


def _prepare(chunk: Bundle) -> Prepared:
    cells, reasons = matcher_cells(chunk.crystals)
    fine = np.flatnonzero(reasons == "")
    prepared: list[Reduced | None] = [None] * len(chunk)
    for i, one in zip(fine, ready(cells[fine]), strict=True):
        prepared[i] = one
    return chunk, prepared


PREPARE = _Preparing(_prepare, _joined)
"""The work of `prepare` on one chunk."""
