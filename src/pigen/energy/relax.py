"""Relaxation of cell and positions, many crystals at a time; finished ones make room for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.energy.graph import closest_approach
from pigen.energy.minimise import LEAST_GAIN, Fire, Lbfgs, off_the_saddle, operations
from pigen.energy.potential import Evaluation, Potential
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import alive

CONVERGED = "converged"
"""The status of a relaxation that reached its goal; any other says why it did not."""

MAX_ATOMS = 2_000
"""Atoms under way at a time, which bounds memory; the potential bounds its own."""
MAX_EXPANSION = 10.0
"""A crystal whose volume changes by more than this factor has exploded or collapsed."""
MIN_RATIO = 0.5
"""Distance over the sum of covalent radii below which atoms have collapsed onto each other.

The shortest bonds known (N2, Cr2) have about 0.7.
"""
NEAR = 0.4
"""eV/Å: `Relaxed.max_force` below which a minimum is near, and L-BFGS takes over from FIRE."""
ENERGY_NOISE = 1e-5
"""eV/atom: what single precision leaves uncertain in an energy."""


@dataclass(frozen=True)
class Relaxed:
    """A crystal after relaxation.

    Attributes:
        key: what it was added under.
        crystal: a batch of one, the last geometry evaluated.
        energy: eV/atom of that geometry; NaN where the status says that it has none.
        converged: whether `status` is "converged".
        n_steps: evaluations of the potential.
        max_force: eV/Å: the largest among the forces on atoms and the rows of the virial V σ
            divided by the number of atoms, as in ASE's FrechetCellFilter.
        status: "converged"; "max_steps": not in so many; "exploded", "collapsed": the volume or a
            distance became impossible; else the potential's problem, such as "isolated atom".
        rattle_gain: eV/atom by which it is lower than before it was rattled, 0 where that led no
            lower; NaN where it was not rattled.
        symmetry_lost: whether it has fewer symmetry operations than before it was rattled.
    """

    key: Hashable
    crystal: Crystals
    energy: float
    converged: bool
    n_steps: int
    max_force: float
    status: str
    rattle_gain: float = np.nan
    symmetry_lost: bool = False


class Relaxer:
    """Relaxes crystals as they are added.

    Every call of `step` is one evaluation of the potential, for all crystals under way. Those
    that have finished leave, and waiting ones enter, so the batch stays full. A crystal's path
    depends on its own energies alone, which differ in their last digits between batches.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        fmax: float = 0.05,
        max_steps: int = 500,
        max_atoms: int = MAX_ATOMS,
        rattle: bool = False,
    ) -> None:
        """No crystals yet.

        Args:
            potential: of the energies.
            fmax: eV/Å; a crystal has converged when `Relaxed.max_force` is below it.
            max_steps: evaluations before it is given up.
            max_atoms: atoms under way at a time; a larger crystal goes alone.
            rattle: a crystal that has converged with symmetry is rattled and relaxed once more, in
                so many steps again; the lower of both is the result.

        Raises:
            UsageError: a limit that is not positive.
        """
        for name, value in (("fmax", fmax), ("max_steps", max_steps), ("max_atoms", max_atoms)):
            if not value > 0:
                raise UsageError(f"{name} must be positive, got {value}")
        self._potential = potential
        self._fmax, self._max_steps, self._max_atoms = fmax, max_steps, max_atoms
        self._rattle = rattle
        self._waiting: deque[_Task] = deque()
        self._active: list[_Task] = []

    def __len__(self) -> int:
        """Crystals waiting or under way."""
        return len(self._waiting) + len(self._active)

    def add(self, key: Hashable, crystal: Crystals) -> None:
        """Queue a crystal (a batch of one; ValueError otherwise) under a key of the caller's."""
        if len(crystal) != 1 or crystal.n_atoms[0] == 0:
            raise ValueError(f"expected one crystal with atoms, got {len(crystal)} crystals")
        self._waiting.append(_Task(key, crystal))

    def step(self) -> list[Relaxed]:
        """Evaluate every crystal under way once; return those that have finished."""
        self._fill()
        if not self._active:
            return []
        batch = Crystals.concatenate([task.crystal for task in self._active])
        found = self._potential.evaluate(batch)
        finished, going = [], []
        for i, task in enumerate(self._active):
            done = task.advance(_one(found, batch, i), self._fmax, self._max_steps)
            if done is None:
                going.append(task)
            elif self._rattle and task.before is None and _may_be_saddle(done):
                again = off_the_saddle(done.crystal, task.start)
                going.append(_Task(task.key, again, before=done))
            else:
                finished.append(done if task.before is None else _lower(task.before, done))
        self._active = going
        return finished

    def _fill(self) -> None:
        total = sum(task.n_atoms for task in self._active)
        while self._waiting:
            total += self._waiting[0].n_atoms
            if self._active and total > self._max_atoms:
                break
            self._active.append(self._waiting.popleft())


def relax(
    crystals: Crystals,
    potential: Potential,
    *,
    fmax: float = 0.05,
    max_steps: int = 500,
    max_atoms: int = MAX_ATOMS,
    rattle: bool = False,
) -> list[Relaxed]:
    """Relax a batch; results in its order, keys 0 … B − 1. Arguments as of `Relaxer`."""
    relaxer = Relaxer(potential, fmax=fmax, max_steps=max_steps, max_atoms=max_atoms, rattle=rattle)
    for i, crystal in enumerate(crystals):
        relaxer.add(i, crystal)
    done: dict[Hashable, Relaxed] = {}
    while len(relaxer):
        alive()
        done.update((one.key, one) for one in relaxer.step())
    return [done[i] for i in range(len(crystals))]


class _Task:
    """One crystal under way.

    Its coordinates, (n + 3, 3) Å, are those of ASE's FrechetCellFilter: the atoms' positions in the
    undeformed cell H0 and, below them, the symmetric logarithm S of the deformation times n; the
    cell is H0 exp(S).
    """

    def __init__(self, key: Hashable, crystal: Crystals, before: Relaxed | None = None) -> None:
        """``before``: as it was when it was rattled, where it has been."""
        self.key, self.start, self.crystal, self.before = key, crystal, crystal, before
        self.n_atoms = int(crystal.n_atoms[0])
        self._volume = float(crystal.volume[0])
        self._lattice = crystal.lattice[0]
        self._n_steps = 0
        x = np.concatenate([crystal.frac_coords @ self._lattice, np.zeros((3, 3))])
        # A rattled crystal is near a minimum already.
        self._minimiser: Fire | Lbfgs = Fire(x) if before is None else self._lbfgs(x)

    def advance(self, found: Evaluation, fmax: float, max_steps: int) -> Relaxed | None:
        """Take an evaluation of `crystal`; move it on, or say how it ended."""
        self._n_steps += 1
        if found.problems[0]:
            return self._finished(found.problems[0], np.nan, np.nan)
        energy, volume = float(found.energy[0]), float(self.crystal.volume[0])
        virial = volume * found.stress[0]
        rows = np.concatenate([found.forces, virial / self.n_atoms])
        max_force = float(np.sqrt((rows**2).sum(axis=1).max()))
        if not np.isfinite([energy, max_force]).all() or volume > MAX_EXPANSION * self._volume:
            return self._finished("exploded", np.nan, max_force)
        if volume * MAX_EXPANSION < self._volume:
            return self._finished("collapsed", np.nan, max_force)
        if max_force < fmax:
            return self._finished(CONVERGED, energy, max_force)
        if self._n_steps >= max_steps:
            return self._finished("max_steps", energy, max_force)
        if max_force < NEAR and isinstance(self._minimiser, Fire):
            self._minimiser = self._lbfgs(self._minimiser.x)
        self._minimiser.tell(energy * self.n_atoms, self._gradient(found.forces, virial))
        self.crystal = self._crystal()
        return None

    def _lbfgs(self, x: NDArray[np.float64]) -> Lbfgs:
        return Lbfgs(x, ENERGY_NOISE * self.n_atoms)

    def _finished(self, status: str, energy: float, max_force: float) -> Relaxed:
        if status in (CONVERGED, "max_steps") and self._overlaps():
            status, energy = "collapsed", np.nan
        return Relaxed(
            self.key, self.crystal, energy, status == CONVERGED, self._n_steps, max_force, status
        )

    def _overlaps(self) -> bool:
        from ase.data import covalent_radii

        radii = np.asarray(covalent_radii)[self.crystal.atomic_numbers]
        ratio = closest_approach(self.crystal.lattice[0], self.crystal.frac_coords, radii)
        return not ratio >= MIN_RATIO

    def _deformation(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues and eigenvectors (columns) of S."""
        values, vectors = np.linalg.eigh(self._minimiser.x[-3:] / self.n_atoms)
        return values, vectors

    def _crystal(self) -> Crystals:
        values, vectors = self._deformation()
        stretch = (vectors * np.exp(values)) @ vectors.T
        frac = np.linalg.solve(self._lattice.T, self._minimiser.x[:-3].T).T
        return Crystals.single(self._lattice @ stretch, frac, self.crystal.atomic_numbers)

    def _gradient(
        self, forces: NDArray[np.float64], virial: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Of the energy by the coordinates: forces and virial (V σ) carried back to H0 and S."""
        values, vectors = self._deformation()
        grown = np.exp(values)
        stretch = (vectors * grown) @ vectors.T
        # dE = tr(Vσ F⁻¹ dF); exp is differentiated by Daleckii and Krein's divided differences.
        by_stretch = np.linalg.solve(stretch, virial)
        rotated = vectors.T @ (0.5 * (by_stretch + by_stretch.T)) @ vectors
        gap = values[:, None] - values[None, :]
        flat = np.abs(gap) < 1e-9
        quotient = np.where(
            flat, grown[:, None], (grown[:, None] - grown[None, :]) / np.where(flat, 1.0, gap)
        )
        by_log = vectors @ (rotated * quotient) @ vectors.T
        return np.concatenate([-forces @ stretch, by_log / self.n_atoms])


def _may_be_saddle(done: Relaxed) -> bool:
    return done.converged and operations(done.crystal) > 1


def _lower(before: Relaxed, after: Relaxed) -> Relaxed:
    """The lower of a crystal that has converged and what became of it when it was rattled."""
    n_steps, gain = before.n_steps + after.n_steps, before.energy - after.energy
    if not (after.converged and gain > LEAST_GAIN):
        return replace(before, n_steps=n_steps, rattle_gain=0.0)
    lost = operations(after.crystal) < operations(before.crystal)
    return replace(after, n_steps=n_steps, rattle_gain=gain, symmetry_lost=lost)


def _one(found: Evaluation, batch: Crystals, i: int) -> Evaluation:
    atoms = slice(batch.ptr[i], batch.ptr[i + 1])
    return Evaluation(
        found.energy[i : i + 1],
        found.forces[atoms],
        found.stress[i : i + 1],
        found.problems[i : i + 1],
    )
