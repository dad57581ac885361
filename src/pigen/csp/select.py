"""Which generated structures become seeds, and the cells they are given in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle
from pigen.crystal.cells import conventional_cell
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.crystal.neighbours import shortest_distances
from pigen.runtime.errors import UsageError

SYMPREC = 0.01
"""Å, of the symmetry search that standardises a cell."""
CLOSEST = 1.0
"""Å: FUSE throws away a seed with atoms closer than this (its dist_cutoff)."""
NO_BONDS = frozenset(Z_OF[symbol] for symbol in "He Ne Ar Kr Rn Es Fm Md Lr".split())
"""Elements without an entry in FUSE's table of bonds, with which it ends in a KeyError."""
ENERGIES = ("e_hull", "e_relaxed")
"""Columns to order by, the first that is there."""


@dataclass(frozen=True, eq=False)
class Seed:
    """A structure to start a search from.

    Attributes:
        row: its place in the bundle.
        cell: the conventional standardised cell, a batch of one.
    """

    row: int
    cell: Crystals


def ordered(bundle: Bundle, choice: str, seed: int) -> NDArray[np.int64]:
    """Rows (n,) of a bundle in the order in which they are taken as seeds.

    Args:
        bundle: generated structures.
        choice: "filtered": those that passed the criteria in sequence, in random order;
            "random": all, in random order; "lowest-energy": those with an energy above the hull,
            else an energy per atom, from the lowest.
        seed: of the random order.

    Raises:
        UsageError: the bundle lacks the verdicts or the energies.
    """
    rng = np.random.default_rng(seed)
    if choice == "random":
        return rng.permutation(len(bundle))
    if choice == "filtered":
        try:
            return rng.permutation(np.flatnonzero(bundle.passed()))
        except UsageError as error:
            raise UsageError(f"--select filtered: {error}, or take --select random") from None
    for name in ENERGIES:
        if name in bundle.columns and bundle.columns[name].kind == "float64":
            energies = bundle.columns[name].values
            rows: NDArray[np.int64] = np.argsort(energies, kind="stable")
            return np.asarray(rows[np.isfinite(energies[rows])])
    raise UsageError(
        f"--select lowest-energy needs a column {' or '.join(ENERGIES)}; pigen energy computes them"
    )


def seeds(
    bundle: Bundle,
    rows: NDArray[np.int64],
    refuse: Callable[[str, str], None],
    *,
    fuse: bool,
    each: int = 1,
    most_atoms: int | None = None,
) -> Iterator[Seed]:
    """Seeds from a bundle in the order of the rows, the first of each reduced formula.

    Args:
        bundle: generated structures.
        rows: (n,) from `ordered`.
        refuse: told the id of each structure that can be no seed, and the reason.
        fuse: keep to what FUSE takes: its elements, and cells of two atoms or more.
        each: seeds of a formula, at most.
        most_atoms: in the cell as generated; None for any number.
    """
    formulas = bundle.crystals.reduced_formulas()
    taken: Counter[str] = Counter()
    for row in rows.tolist():
        if taken[formulas[row]] == each:
            continue
        crystal = bundle.crystals[row]
        try:
            if most_atoms is not None and crystal.n_atoms[0] > most_atoms:
                raise ValueError(f"too large: {crystal.n_atoms[0]} atoms in the cell")
            cell = seed_cell(crystal, fuse=fuse)
        except ValueError as reason:
            refuse(bundle.ids[row], str(reason))
            continue
        taken[formulas[row]] += 1
        yield Seed(row, cell)


def seed_cell(crystal: Crystals, *, fuse: bool) -> Crystals:
    """The conventional standardised cell of one crystal, in the form an engine takes.

    FUSE measures distances between the atoms of a seed, of which there must be two: a cell of one
    atom is doubled along its shortest vector.

    Raises:
        ValueError: why it can be no seed.
    """
    if fuse:
        lacking = sorted(set(crystal.atomic_numbers.tolist()) & NO_BONDS)
        if lacking:
            names = ", ".join(SYMBOLS[z] for z in lacking)
            raise ValueError(f"element that FUSE lacks: {names}")
    cell = conventional_cell(crystal, symprec=SYMPREC)
    same = np.zeros_like(cell.atomic_numbers)
    closest = shortest_distances(cell.lattice, cell.frac_coords, same, cell.ptr)[0]
    if not closest >= CLOSEST:  # NaN for a degenerate cell
        raise ValueError(f"atoms closer than {CLOSEST:g} Å: {closest:.3g} Å")
    return _doubled(cell) if fuse and cell.n_atoms[0] == 1 else cell


def _doubled(cell: Crystals) -> Crystals:
    axis = int(np.argmin(np.linalg.norm(cell.lattice[0], axis=1)))
    lattice, frac = cell.lattice[0].copy(), np.repeat(cell.frac_coords, 2, axis=0)
    lattice[axis] *= 2
    frac[:, axis] = (frac[:, axis] + np.array([0.0, 1.0])) / 2
    return Crystals.single(lattice, frac, np.repeat(cell.atomic_numbers, 2))
