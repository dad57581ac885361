"""Two minimisers for one structure: FIRE far from a minimum, L-BFGS near it; and off a saddle.

FIRE: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), with the parameters and the order of
operations of ASE, so that a path starts as `ase.optimize.FIRE` would take it and ends in the same
minimum. L-BFGS: J. Nocedal, Math. Comput. 35, 773 (1980), the two-loop recursion without a line
search: a step is the quasi-Newton one, cut to a trust radius. After a step uphill the next one
starts from the point before it, with the curvature that was found and a smaller radius, so that no
evaluation is wasted. Forces keep the symmetry of a structure, so neither can leave a saddle of
symmetry: `off_the_saddle` does.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import primitive_cells, spglib_dataset

MEMORY = 20
"""Steps remembered."""
MAX_STEP = 0.2
"""Å: no atom moves further in one step."""
MIN_RADIUS = 1e-3
"""Å: a rise of the energy over such a step is noise of the potential, and is accepted."""
FIRST_CURVATURE = 40.0
"""eV/Å^2, before any has been measured; stiff bonds have about this."""


class Fire:
    """Follows the forces on (n, 3) coordinates in Å with inertia."""

    def __init__(self, x: NDArray[np.float64]) -> None:
        """Start at x, at rest."""
        self.x = x
        self._velocity = np.zeros_like(x)
        self._dt, self._mixing, self._downhill = 0.1, 0.1, 0

    def tell(self, energy: float, gradient: NDArray[np.float64]) -> None:
        """Take the gradient (eV/Å) at ``x``, and move ``x`` on; the energy decides nothing."""
        power = -np.vdot(gradient, self._velocity)
        if power > 0.0:
            speed, slope = np.linalg.norm(self._velocity), np.linalg.norm(gradient)
            aligned = -gradient * (speed / slope)
            self._velocity = (1.0 - self._mixing) * self._velocity + self._mixing * aligned
            if self._downhill > 5:
                self._dt, self._mixing = min(1.1 * self._dt, 1.0), 0.99 * self._mixing
            self._downhill += 1
        elif self._velocity.any():
            self._velocity = np.zeros_like(self.x)
            self._dt, self._mixing, self._downhill = 0.5 * self._dt, 0.1, 0
        self._velocity = self._velocity - self._dt * gradient
        step = self._dt * self._velocity
        self.x = self.x + step * min(1.0, MAX_STEP / max(float(np.linalg.norm(step)), 1e-12))


class Lbfgs:
    """Minimises a function of (n, 3) coordinates in Å from its values and gradients."""

    def __init__(self, x: NDArray[np.float64], energy_noise: float) -> None:
        """Start at x; rises of the energy up to ``energy_noise`` (eV) do not count."""
        self.x = x
        self._noise = energy_noise
        self._radius = MAX_STEP
        self._at: tuple[NDArray[np.float64], float, NDArray[np.float64]] | None = None
        self._steps: list[NDArray[np.float64]] = []
        self._changes: list[NDArray[np.float64]] = []

    def tell(self, energy: float, gradient: NDArray[np.float64]) -> None:
        """Take the energy (eV) and its gradient (eV/Å) at ``x``, and move ``x`` on."""
        if self._at is not None:
            x, before, gradient_before = self._at
            self._learn(self.x - x, gradient - gradient_before)
            if energy > before + self._noise and self._radius > MIN_RADIUS:
                self._radius = 0.25 * min(self._radius, _longest(self.x - x))
                self.x, energy, gradient = self._at
            else:
                self._radius = min(2.0 * self._radius, MAX_STEP)
        self._at = (self.x, energy, gradient)
        step = -self._inverse_hessian(gradient)
        if np.vdot(step, gradient) >= 0.0:
            self._steps, self._changes = [], []
            step = -gradient / FIRST_CURVATURE
        self.x = self.x + step * min(1.0, self._radius / max(_longest(step), 1e-12))

    def _learn(self, step: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        # Where the curvature is negative a quasi-Newton step would climb: nothing to remember.
        if np.vdot(step, change) > 1e-3 * np.vdot(step, step):
            self._steps = [*self._steps, step][-MEMORY:]
            self._changes = [*self._changes, change][-MEMORY:]

    def _inverse_hessian(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        q = gradient.copy()
        weights = []
        for s, y in zip(reversed(self._steps), reversed(self._changes), strict=True):
            weight = np.vdot(s, q) / np.vdot(s, y)
            q -= weight * y
            weights.append(weight)
        if self._steps:
            s, y = self._steps[-1], self._changes[-1]
            q *= np.sqrt(np.vdot(s, s) / np.vdot(y, y))
        else:
            q /= FIRST_CURVATURE
        for s, y, weight in zip(self._steps, self._changes, reversed(weights), strict=True):
            q += (weight - np.vdot(y, q) / np.vdot(s, y)) * s
        return q


def _longest(step: NDArray[np.float64]) -> float:
    return float(np.sqrt((step**2).sum(axis=1).max()))


DISPLACEMENT = 0.05
"""Å: standard deviation of an atom's displacement along each axis."""
STRAIN = 0.01
"""Standard deviation of each component of the strain."""
LEAST_GAIN = 0.002
"""eV/atom. A relaxation to fmax 0.05 eV/Å ends within so much of the bottom; less is no gain, and
the structure with its symmetry stays."""
SYMPREC = 0.1
"""Å, as of the descriptor ``space_group``."""


def rattled(crystal: Crystals, distance: float, rng: Generator, strain: float = 0.0) -> Crystals:
    """Every atom displaced along each axis, and the cell strained, by normal deviates.

    Args:
        crystal: a batch of one.
        distance: Å, standard deviation of a displacement.
        rng: of the deviates.
        strain: standard deviation of a component of the symmetric strain.
    """
    lattice = crystal.lattice[0]
    moves = rng.normal(scale=distance, size=crystal.frac_coords.shape)
    frac = crystal.frac_coords + moves @ np.linalg.inv(lattice)
    if strain:
        drawn = rng.normal(scale=strain, size=(3, 3))
        lattice = lattice @ (np.eye(3) + 0.5 * (drawn + drawn.T))
    return Crystals.single(lattice, frac, crystal.atomic_numbers)


def off_the_saddle(crystal: Crystals, start: Crystals) -> Crystals:
    """A relaxed crystal rattled, as the structure that its relaxation started from decides.

    So equal structures are rattled alike, in whatever batch and after whatever interruption.
    """
    parts = (start.lattice, start.frac_coords, start.atomic_numbers)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
    return rattled(crystal, DISPLACEMENT, np.random.default_rng(list(digest[:16])), STRAIN)


def operations(crystal: Crystals) -> int:
    """Symmetry operations of a crystal (a batch of one) in its cell, translations among them.

    1 where there are no others than the identity, or the search fails. It depends on the volume of
    the cell, not on its shape.
    """
    cells, _ = primitive_cells(crystal, SYMPREC)
    cell = (cells.lattice[0], cells.frac_coords, cells.atomic_numbers)
    try:
        rotations = spglib_dataset(cell, SYMPREC).rotations
    except ValueError:
        return 1
    return len(rotations) * int(crystal.n_atoms[0]) // len(cells.atomic_numbers)
