"""The joint reverse chain over types, coordinates and lattice, for any predictor.

The chain knows no network: it takes a function from noised batches to predictions, so that it can
be tested with an analytic score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pigen.config import DiffusionConfig
from pigen.model.diffusion import coords, lattice, types
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.lattice import LatticeScale
from pigen.model.diffusion.state import Given, Noised, Prediction

_LATE = 1.6
"""Power that makes the steps in time denser towards the end, where atoms settle: with 1.6 the
guided samples of 90 steps end as near to where CHGNet relaxes them as those of 200 even ones."""

Predictor = Callable[[Noised, Prediction | None], Prediction]
"""From a noised batch and the previous step's prediction (None at first) to a prediction."""


@dataclass(frozen=True)
class Draws:
    """All random numbers of a batch of B chains of T steps, padded to n atoms.

    Attributes:
        frac: (B, n, 3) in [0, 1), where coordinates start. y: (B, 6) normal, where lattices start.
        coord_noise: (T, B, n, 3). lattice_noise: (T, B, 6), both normal.
        reveal, choose: (T, B, n) in [0, 1).
    """

    frac: Tensor
    y: Tensor
    coord_noise: Tensor
    lattice_noise: Tensor
    reveal: Tensor
    choose: Tensor


@dataclass(frozen=True)
class Sampled:
    """Crystals of finished chains: types (B, n), frac (B, n, 3) not wrapped, lattice (B, 3, 3) Å.

    The lattice of a chain that met a NaN or infinity is NaN.
    """

    types: Tensor
    frac: Tensor
    lattice: Tensor


@torch.no_grad()
def reverse_chain(
    predict: Predictor,
    start_types: Tensor,
    mask: Tensor,
    draws: Draws,
    *,
    scale: LatticeScale,
    config: DiffusionConfig,
    eta: float,
    sharpness: float = 1.0,
    symmetry: Invariance | None = None,
    given: Given | None = None,
    begin: float = 1.0,
    steer: types.Steer | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Sampled:
    """Run the chain from noise at t = 1, or wherever it begins, to a clean batch at t = 0.

    Args:
        predict: see `Predictor`.
        start_types: (B, n) classes; non-zero ones are held fixed, the others start masked.
        mask: (B, n), True for real atoms.
        eta: factor on the noise added to coordinates and lattice at each step.
        sharpness: factor on the coordinates' score in all steps but the last.
        symmetry: kept by the chain from coordinates that have it; the draws need not.
        given: what stays as the draws and types have it at the start.
        begin: time of the start.
        steer: draws the elements that are revealed, in place of ``draws.choose``.
        on_step: called after each step.
    """
    steps, n_atoms = len(draws.reveal), mask.sum(1)
    kept = _kept(symmetry, given, draws.y, n_atoms, scale)
    current, frac, y = start_types, draws.frac, kept.cells(draws.y)
    even = torch.linspace(1.0, 0.0, steps + 1, dtype=frac.dtype, device=frac.device)
    times = begin * even**_LATE
    alive = torch.ones(len(y), dtype=torch.bool, device=frac.device)
    guess: Prediction | None = None
    for k in range(steps):
        t, t_next = times[k].expand(len(y)), times[k + 1].expand(len(y))
        tau, tau_next = (time[:, None] ** config.time_power for time in (t, t_next))
        cells, wrapped = lattice.to_lattice(y, n_atoms, scale), torch.remainder(frac, 1.0)
        guess = predict(Noised(current, wrapped, cells, y[:, 1:], mask, t, given, symmetry), guess)
        there = _coords_after(
            *(frac, guess, draws.coord_noise[k], n_atoms, t, t_next, config, eta),
            sharpness=None if k == steps - 1 else sharpness,
        )
        frac = kept.moved(frac, there)
        y = lattice.reverse_step(y, guess.lattice, tau, tau_next, draws.lattice_noise[k], eta)
        y = kept.cells(y)
        current = types.reverse_step(
            *(current, kept.shared(guess.logits), tau, tau_next),
            *(kept.shared(draws.reveal[k]), kept.shared(draws.choose[k])),
            steer=steer,
        ).masked_fill(~mask, 0)
        # A chain that fails must not take the others of its batch along.
        alive &= torch.isfinite(y).all(1) & torch.isfinite(frac).all((1, 2))
        y, frac = y.masked_fill(~alive[:, None], 0.0), frac.masked_fill(~alive[:, None, None], 0.0)
        on_step()
    cells = lattice.to_lattice(y, n_atoms, scale)
    return Sampled(current, frac, cells.masked_fill(~alive[:, None, None], torch.nan))


def _coords_after(
    frac: Tensor,
    guess: Prediction,
    noise: Tensor,
    n_atoms: Tensor,
    t: Tensor,
    t_next: Tensor,
    config: DiffusionConfig,
    eta: float,
    *,
    sharpness: float | None,
) -> Tensor:
    """Where a step takes the coordinates; ``sharpness`` is None in the last, which ends sharp."""
    width, next_width = (
        coords.sigma(time, n_atoms, config.sigma_min, config.sigma_max)[:, None, None]
        for time in (t, t_next)
    )
    score = -guess.coords * coords.score_rms(width)
    if sharpness is None:
        next_width = torch.zeros_like(width)
    else:
        score = sharpness * score
    return coords.reverse_step(frac, score, width, next_width, noise, eta)


def _kept(
    symmetry: Invariance | None,
    given: Given | None,
    y: Tensor,
    n_atoms: Tensor,
    scale: LatticeScale,
) -> _Free:
    if symmetry is not None:
        return _Kept(symmetry, n_atoms, scale)
    return _Free() if given is None else _Held(given, y)


class _Free:
    """A chain without symmetry: every step is taken as it comes."""

    def moved(self, frac: Tensor, there: Tensor) -> Tensor:
        """Where the coordinates are after a step."""
        return there

    def shared(self, values: Tensor) -> Tensor:
        """Values of all atoms, (B, n, …)."""
        return values

    def cells(self, y: Tensor) -> Tensor:
        """The lattice vector, (B, 6)."""
        return y


@dataclass(frozen=True)
class _Kept(_Free):
    """A chain whose steps keep the symmetry of its state."""

    symmetry: Invariance
    n_atoms: Tensor
    scale: LatticeScale

    def moved(self, frac: Tensor, there: Tensor) -> Tensor:
        return frac + self.symmetry.steps(there - frac)

    def shared(self, values: Tensor) -> Tensor:
        return self.symmetry.shared(values)

    def cells(self, y: Tensor) -> Tensor:
        return self.symmetry.cells(y, self.n_atoms, self.scale)


@dataclass(frozen=True)
class _Held(_Free):
    """A chain that leaves alone what is given."""

    given: Given
    y: Tensor

    def moved(self, frac: Tensor, there: Tensor) -> Tensor:
        # Predictions are free of a rigid shift: that of the atoms held says how large it is.
        held = self.given.coords[..., None]
        step = there - frac
        shift = (step * held).sum(1, keepdim=True) / held.sum(1, keepdim=True).clamp_min(1)
        return torch.where(held, frac, frac + step - shift)

    def cells(self, y: Tensor) -> Tensor:
        return torch.where(self.given.cell[:, None], self.y, y)
