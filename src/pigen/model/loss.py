"""Noising a batch and the loss of a prediction, with the physics-informed compactness term."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import pi
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pigen.config import DiffusionConfig, LossConfig
from pigen.model.diffusion import coords, lattice, types
from pigen.model.diffusion.lattice import LatticeScale
from pigen.model.diffusion.state import Noised, Prediction

_T = TypeVar("_T", "Clean", "Corruption", Noised)

_FOCUS = 0.5
"""How much denser than at the ends training times lie around t = 1/2; 0 is uniform."""


@dataclass(frozen=True)
class Clean:
    """A padded batch of training crystals.

    Attributes:
        types: (B, n) classes, 0 in the padding. frac: (B, n, 3). y: (B, 6) standardised lattice.
        mask: (B, n), True for real atoms.
    """

    types: Tensor
    frac: Tensor
    y: Tensor
    mask: Tensor

    @property
    def n_atoms(self) -> Tensor:
        """Atoms per crystal, (B,)."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class Corruption:
    """The random numbers of one noising: t (B,), uniforms (B, n), normals (B, n, 3) and (B, 6)."""

    t: Tensor
    types: Tensor
    coords: Tensor
    lattice: Tensor

    @classmethod
    def draw(cls, clean: Clean, generator: torch.Generator) -> Corruption:
        """Stratified times and the noise for a batch; the generator lives on the CPU."""
        b, n = clean.types.shape
        like = clean.frac

        def place(x: Tensor) -> Tensor:
            return x.to(dtype=like.dtype, device=like.device)

        strata = (torch.randperm(b, generator=generator) + torch.rand(b, generator=generator)) / b
        # Denser by 1/(1 - focus) at t = 1/2: there, not at the ends, a structure is won or lost.
        warped = strata + _FOCUS / (2 * pi) * torch.sin(2 * pi * strata)
        return cls(
            t=place(warped.clamp(0.0, 1.0)),
            types=place(torch.rand(b, n, generator=generator)),
            coords=place(torch.randn(b, n, 3, generator=generator)),
            lattice=place(torch.randn(b, 6, generator=generator)),
        )


def add_noise(
    clean: Clean, draw: Corruption, scale: LatticeScale, config: DiffusionConfig
) -> Noised:
    """The batch at times ``draw.t``; types and lattice at time t ** time_power."""
    tau = draw.t**config.time_power
    width = coords.sigma(draw.t, clean.n_atoms, config.sigma_min, config.sigma_max)
    a, s = lattice.signal(tau)
    y_t = a[:, None] * clean.y + s[:, None] * draw.lattice
    return Noised(
        types=types.corrupt(clean.types, tau[:, None], draw.types),
        frac=torch.remainder(clean.frac + width[:, None, None] * draw.coords, 1.0),
        lattice=lattice.to_lattice(y_t, clean.n_atoms, scale),
        shape=y_t[:, 1:],
        mask=clean.mask,
        t=draw.t,
    )


@dataclass(frozen=True)
class Counts:
    """What the means of `losses` go over; of a whole batch, where its parts are computed apart.

    Attributes:
        crystals: how many. atoms: how many real atoms. hidden: how many of them have no element.
    """

    crystals: int
    atoms: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, noised: Noised) -> Counts:
        """Those of a batch; the tensors are scalars of its type."""
        hidden = (noised.types == types.MASK) & noised.mask
        like = noised.frac.dtype
        return cls(len(noised.mask), noised.mask.sum().to(like), hidden.sum().to(like))


@dataclass(frozen=True)
class NoisedBatch:
    """A batch of training crystals with its noise, or a part of one.

    Attributes:
        labels: (B, n_labels) standardised, NaN where missing or hidden.
        counts: those of the whole batch.
    """

    clean: Clean
    labels: Tensor
    draw: Corruption
    noised: Noised
    counts: Counts

    @classmethod
    def make(
        cls,
        clean: Clean,
        labels: Tensor,
        scale: LatticeScale,
        config: DiffusionConfig,
        generator: torch.Generator,
    ) -> NoisedBatch:
        """A whole batch, with noise drawn for it on the CPU."""
        draw = Corruption.draw(clean, generator)
        noised = add_noise(clean, draw, scale, config)
        return cls(clean, labels, draw, noised, Counts.of(noised))

    def part(self, rows: slice) -> NoisedBatch:
        """Some of its crystals, in the padding they have here."""
        return NoisedBatch(
            _rows(self.clean, rows),
            self.labels[rows],
            _rows(self.draw, rows),
            _rows(self.noised, rows),
            self.counts,
        )


def noised_vector(noised: Noised, scale: LatticeScale) -> Tensor:
    """The standardised lattice vector y_t, (B, 6), of a noised batch."""
    n_atoms = noised.mask.sum(1).to(noised.lattice.dtype)
    per_atom = (torch.linalg.det(noised.lattice).abs().log() - n_atoms.log()) / 3
    return torch.cat([((per_atom - scale.mean) / scale.volume_sd)[:, None], noised.shape], dim=1)


def expected_compactness(
    logits: Tensor, known: Tensor, mask: Tensor, log_volume: Tensor, cubed_radii: Tensor
) -> Tensor:
    """Ĉ = (4π/3) Σ_a E[r_a³] / V̂, (B,), differentiable in the logits and the volume.

    Args:
        logits: (B, n, E). known: (B, n) classes already revealed (0: not), which count as certain.
        mask: (B, n). log_volume: (B,). cubed_radii: (E,) Å^3.
    """
    expected = torch.softmax(logits, dim=-1) @ cubed_radii
    certain = torch.cat([cubed_radii.new_zeros(1), cubed_radii])[known]
    cubes = torch.where(known == types.MASK, expected, certain) * mask.to(expected.dtype)
    return 4 * pi / 3 * cubes.sum(1) * torch.exp(-log_volume)


@dataclass(frozen=True)
class Losses:
    """Mean loss of each component over a batch (each a scalar tensor), before weighting.

    Of a part of a batch: its share in that mean, so that the parts add up to it.
    """

    types: Tensor
    coords: Tensor
    lattice: Tensor
    compactness: Tensor

    def total(self, weights: LossConfig) -> Tensor:
        """λ_A types + λ_F coords + λ_L lattice + λ_C compactness."""
        return (
            weights.types * self.types
            + weights.coords * self.coords
            + weights.lattice * self.lattice
            + weights.compactness * self.compactness
        )


def losses(
    prediction: Prediction,
    noised: Noised,
    clean: Clean,
    draw: Corruption,
    *,
    scale: LatticeScale,
    cubed_radii: Tensor,
    config: DiffusionConfig,
    counts: Counts | None = None,
) -> Losses:
    """The four losses of a prediction.

    The means go over the batch at hand, or over ``counts``, those of the batch it is a part of.

    Types: cross entropy over masked atoms. Coordinates: squared error of the normalised score, its
    mean over each crystal taken out (a rigid shift is no error). Lattice: squared error of the
    velocity. Compactness: |Ĉ0 − C_0|² with Ĉ0 from the estimate of the clean crystal.
    ``cubed_radii``: (E,) Å^3. Source: the paper's Methods; velocities, Salimans and Ho
    (arXiv:2202.00512).
    """
    counts = counts or Counts.of(noised)
    dtype = clean.frac.dtype
    real = clean.mask.to(dtype)
    hidden = ((noised.types == types.MASK) & clean.mask).to(dtype)
    surprise = cross_entropy(
        prediction.logits.transpose(1, 2), (clean.types - 1).clamp_min(0), reduction="none"
    )
    type_loss = (surprise * hidden).sum() / counts.hidden.clamp_min(1.0)

    width = coords.sigma(draw.t, clean.n_atoms, config.sigma_min, config.sigma_max)
    wide = width[:, None, None].expand_as(draw.coords)
    target = -coords.wrapped_score(wide * draw.coords, wide) * real[..., None]
    target = target / coords.score_rms(width)[:, None, None]
    target = (target - target.sum(1, keepdim=True) / real.sum(1)[:, None, None]) * real[..., None]
    coord_loss = ((prediction.coords - target) ** 2).sum() / (3 * counts.atoms)

    tau = draw.t**config.time_power
    velocity = lattice.velocity(clean.y, draw.lattice, tau[:, None])
    lattice_loss = ((prediction.lattice - velocity) ** 2).sum() / (6 * counts.crystals)

    y0 = lattice.clean_estimate(noised_vector(noised, scale), prediction.lattice, tau[:, None])
    n_atoms = clean.n_atoms
    guessed = expected_compactness(
        prediction.logits,
        noised.types,
        clean.mask,
        lattice.log_volume(y0, n_atoms, scale),
        cubed_radii,
    )
    true = expected_compactness(
        prediction.logits.detach(),
        clean.types,
        clean.mask,
        lattice.log_volume(clean.y, n_atoms, scale),
        cubed_radii,
    )
    compactness_loss = ((guessed - true) ** 2).sum() / counts.crystals
    return Losses(type_loss, coord_loss, lattice_loss, compactness_loss)


def _rows(batch: _T, rows: slice) -> _T:
    return type(batch)(*(getattr(batch, field.name)[rows] for field in fields(batch)))
