"""Sampling that begins from a known structure: parts of it held, the rest noised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pigen.config import SampleConfig
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.model.checkpoint import Header
from pigen.model.diffusion import coords, lattice
from pigen.model.diffusion.state import Given
from pigen.runtime.errors import UsageError

CELL = "cell"
"""What `sample.fixed` names besides elements and atoms."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """A structure to begin from.

    Attributes:
        crystal: one crystal in its Niggli-reduced cell, with its atoms in the order of the file.
        held: (n,) atoms whose element and place stay. cell: the lattice stays.
        time: at which the chain begins; at 1 nothing is left of what is not held.
    """

    crystal: Crystals
    held: NDArray[np.bool_]
    cell: bool
    time: float

    def elements(self, header: Header, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Atomic numbers (n,) that are known at the beginning, 0 elsewhere."""
        hidden = rng.random(len(self.held)) < self.time**header.diffusion.time_power
        return np.where(self.held | ~hidden, self.crystal.atomic_numbers, 0).astype(np.uint8)

    def noised(
        self, header: Header, uniform: NDArray[np.float64], normal: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates (n, 3) and lattice vector (6,) at the beginning.

        Args:
            header: the model's. uniform: (n, 3) in [0, 1). normal: (6,).
        """
        n_atoms = torch.tensor([len(self.held)])
        frac = self.crystal.frac_coords
        if self.time < 1:
            config, t = header.diffusion, torch.tensor([self.time], dtype=torch.float64)
            width = float(coords.sigma(t, n_atoms, config.sigma_min, config.sigma_max))
            centred = torch.erfinv(torch.from_numpy(2 * uniform - 1).clamp(-0.999999, 0.999999))
            uniform = frac + width * 2**0.5 * centred.numpy()
        y0 = lattice.to_vector(
            torch.from_numpy(self.crystal.lattice.copy()), n_atoms, header.spec.lattice
        )[0].numpy()
        angle = 0.5 * np.pi * self.time**header.diffusion.time_power
        y = np.cos(angle) * y0 + np.sin(angle) * normal
        return np.where(self.held[:, None], frac, uniform), y0 if self.cell else y

    def given(self, like: torch.Tensor) -> Given:
        """What is clean of a batch of such chains; ``like`` (B, n, 3)."""
        held = torch.from_numpy(self.held).to(like.device).expand(like.shape[:2])
        return Given(types=held, coords=held, cell=held.new_full((len(like),), self.cell))


def beginning(config: SampleConfig) -> Beginning | None:
    """The structure that samples begin from; None if they begin from nothing.

    Raises:
        UsageError: no such file, no or a disordered structure in it, or `sample.fixed` names
            nothing of it.
    """
    if not config.start:
        if config.fixed or config.strength < 1:
            raise UsageError("sample.fixed and sample.strength: give sample.start with them")
        return None
    fixed = config.fixed if isinstance(config.fixed, tuple) else (config.fixed,)
    return _read(config.start, fixed, config.strength)


@lru_cache(maxsize=4)
def _read(path: str, fixed: tuple[str | int, ...], strength: float) -> Beginning:
    from pigen.io import read

    found = read(Path(path))
    if len(found.crystals) != 1:
        reasons = "; ".join(sorted({one.reason for one in found.rejects}))
        raise UsageError(
            f"sample.start: {path}: expected one structure, got {len(found.crystals)}"
            + (f" ({reasons})" if reasons else "")
        )
    crystal = niggli(found.crystals)
    held = np.zeros(len(crystal.atomic_numbers), dtype=bool)
    for name in fixed:
        if name == CELL:
            continue
        if isinstance(name, int):
            chosen = np.arange(len(held)) == name
        else:
            chosen = crystal.atomic_numbers == Z_OF.get(name, 0)
        if not chosen.any():
            raise UsageError(
                f"sample.fixed: {name!r} names nothing of {path} ({crystal.reduced_formulas()[0]}, "
                f"{len(held)} atoms counted from 0); give elements, numbers of atoms or {CELL!r}"
            )
        held |= chosen
    if not fixed and strength == 1:
        raise UsageError(
            "sample.start: nothing of it would be left; give sample.fixed, or sample.strength "
            "below 1"
        )
    return Beginning(crystal, held, bool(fixed), strength)


def check_beginning(config: SampleConfig, header: Header, where: str) -> None:
    """UsageError if samples can't begin so: as `beginning`, or what the model doesn't know."""
    found = beginning(config)
    if found is None:
        return
    placed = config.elements_required or config.elements_one_of or config.stoichiometry
    if config.symmetry != "free" or config.composition or placed:
        raise UsageError(
            f'{where}: sample.start: goes with sample.symmetry = "free" alone, and without '
            "sample.composition, elements_required, elements_one_of and stoichiometry"
        )
    if not isinstance(config.n_atoms, str):
        raise UsageError(f"{where}: sample.n_atoms: sample.start says the size")
    n_atoms, largest = len(found.held), len(header.spec.sizes.frequency)
    if n_atoms > largest:
        raise UsageError(
            f"{where}: sample.start: {n_atoms} atoms, the model's largest cell has {largest}"
        )
    for z in np.unique(found.crystal.atomic_numbers):
        if z not in header.spec.elements:
            raise UsageError(
                f"{where}: sample.start: the model doesn't know element {SYMBOLS[z]!r}"
            )
