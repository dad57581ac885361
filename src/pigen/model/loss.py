"""Noising a batch and the loss of a prediction, with the physics-informed compactness term."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import pi
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pigen.config import DiffusionConfig, LossConfig
from pigen.model.diffusion import coords, lattice, types
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.lattice import LatticeScale
from pigen.model.diffusion.state import Given, Noised, Prediction

_T = TypeVar("_T", "Clean", "Corruption", Noised)

_FOCUS = 0.5
"""How much denser than at the ends training times lie around t = 1/2; 0 is uniform."""


@dataclass(frozen=True)
class Clean:
    """A padded batch of training crystals.

    Attributes:
        types: (B, n) classes, 0 in the padding. frac: (B, n, 3). y: (B, 6) standardised lattice.
        mask: (B, n), True for real atoms.
        symmetry: what the noise of these crystals has to keep; None where nothing.
    """

    types: Tensor
    frac: Tensor
    y: Tensor
    mask: Tensor
    symmetry: Invariance | None = None

    @property
    def n_atoms(self) -> Tensor:
        """Atoms per crystal, (B,)."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class Corruption:
    """The random numbers of one noising: t (B,), uniforms (B, n), normals (B, n, 3) and (B, 6).

    What is ``given`` gets no noise, whatever the numbers are.
    """

    t: Tensor
    types: Tensor
    coords: Tensor
    lattice: Tensor
    given: Given | None = None

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

    def keeping(
        self, clean: Clean, given: Given | None, scale: LatticeScale, config: DiffusionConfig
    ) -> Corruption:
        """The noise that leaves what is given alone and keeps the crystals' symmetry.

        The noised lattice a y_0 + s ε is made invariant, and ε is what leads there from y_0.
        """
        coords, uniform, normal = self.coords, self.types, self.lattice
        symmetry = clean.symmetry
        if symmetry is not None:
            coords, uniform = symmetry.steps(coords), symmetry.shared(uniform)
            a, s = (x[:, None] for x in lattice.signal(self.t**config.time_power))
            y = symmetry.cells(a * clean.y + s * normal, clean.n_atoms, scale)
            there = (y - a * clean.y) / s.clamp_min(1e-4)
            normal = torch.where(symmetry.symmetric[:, None], there, normal)
        if given is not None:
            coords = coords.masked_fill(given.coords[..., None], 0.0)
        return Corruption(self.t, uniform, coords, normal, given)


def add_noise(
    clean: Clean, draw: Corruption, scale: LatticeScale, config: DiffusionConfig
) -> Noised:
    """The batch at times ``draw.t``; types and lattice at time t ** time_power."""
    tau = draw.t**config.time_power
    width = coords.sigma(draw.t, clean.n_atoms, config.sigma_min, config.sigma_max)
    a, s = lattice.signal(tau)
    y_t = a[:, None] * clean.y + s[:, None] * draw.lattice
    masked = types.corrupt(clean.types, tau[:, None], draw.types)
    given = draw.given
    if given is not None:
        masked = torch.where(given.types, clean.types, masked)
        y_t = torch.where(given.cell[:, None], clean.y, y_t)
    return Noised(
        types=masked,
        frac=torch.remainder(clean.frac + width[:, None, None] * draw.coords, 1.0),
        lattice=lattice.to_lattice(y_t, clean.n_atoms, scale),
        shape=y_t[:, 1:],
        mask=clean.mask,
        t=draw.t,
        given=given,
        symmetry=clean.symmetry,
    )


def _lost(noised: Noised) -> tuple[Tensor, Tensor, Tensor]:
    """What there is to predict: elements (B, n), coordinates (B, n), lattices (B,)."""
    hidden = (noised.types == types.MASK) & noised.mask
    if noised.given is None:
        return hidden, noised.mask, torch.ones_like(noised.mask[:, 0])
    # Where some atoms are held, the others are predicted relative to them: all count.
    moved = (noised.mask & ~noised.given.coords).any(1)
    return hidden, noised.mask & moved[:, None], ~noised.given.cell


@dataclass(frozen=True)
class Counts:
    """What the means of `losses` go over; of a whole batch, where its parts are computed apart.

    Attributes:
        crystals: how many. hidden: how many atoms have no element. atoms: how many are in crystals
            with noised coordinates. cells: how many lattices are noised.
    """

    crystals: int
    hidden: Tensor
    atoms: Tensor
    cells: Tensor

    @classmethod
    def of(cls, noised: Noised) -> Counts:
        """Those of a batch; the tensors are scalars of its type."""
        lost = (part.sum().to(noised.frac.dtype) for part in _lost(noised))
        return cls(len(noised.mask), *lost)


@dataclass(frozen=True)
class GivenShares:
    """Shares of training structures of which a part is given; what else is drawn is one network's.

    Attributes:
        types: all elements are given. geometry: coordinates and cell are, and elements noised.
        atoms: some atoms, with their elements, and the cell of half of these structures.
    """

    types: float = 0.0
    geometry: float = 0.0
    atoms: float = 0.0

    def draw(self, clean: Clean, generator: torch.Generator) -> Given:
        """What is given of each crystal of a batch; atoms of an orbit go together."""
        b, n = clean.types.shape
        which, cell, share = torch.rand(3, b, generator=generator).to(clean.y)
        atom = torch.rand(b, n, generator=generator).to(clean.y)
        if clean.symmetry is not None:
            atom = clean.symmetry.shared(atom)
        types = which < self.types
        geometry = ~types & (which < self.types + self.geometry)
        some = ~types & ~geometry & (which < self.types + self.geometry + self.atoms)
        held = some[:, None] & (atom < share[:, None])
        return Given(
            types=(types[:, None] | held) & clean.mask,
            coords=(geometry[:, None] | held) & clean.mask,
            cell=geometry | (some & (cell < 0.5)),
        )


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
        shares: GivenShares | None = None,
    ) -> NoisedBatch:
        """A whole batch, with noise drawn for it on the CPU; ``shares`` of it are given."""
        given = shares.draw(clean, generator) if shares else None
        draw = Corruption.draw(clean, generator).keeping(clean, given, scale, config)
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
    hidden, moved, deformed = (part.to(dtype) for part in _lost(noised))
    surprise = cross_entropy(
        prediction.logits.transpose(1, 2), (clean.types - 1).clamp_min(0), reduction="none"
    )
    type_loss = (surprise * hidden).sum() / counts.hidden.clamp_min(1.0)

    squared = ((prediction.coords - _score(clean, draw, config)) ** 2).sum(-1)
    coord_loss = (squared * moved).sum() / (3 * counts.atoms.clamp_min(1.0))

    tau = draw.t**config.time_power
    velocity = lattice.velocity(clean.y, draw.lattice, tau[:, None])
    squared = ((prediction.lattice - velocity) ** 2).sum(-1)
    lattice_loss = (squared * deformed).sum() / (6 * counts.cells.clamp_min(1.0))

    y0 = lattice.clean_estimate(noised_vector(noised, scale), prediction.lattice, tau[:, None])
    y0 = torch.where(deformed[:, None] > 0, y0, clean.y)
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


def _score(clean: Clean, draw: Corruption, config: DiffusionConfig) -> Tensor:
    """The normalised score of noised coordinates, (B, n, 3), without its mean over a crystal."""
    real = clean.mask.to(clean.frac.dtype)[..., None]
    width = coords.sigma(draw.t, clean.n_atoms, config.sigma_min, config.sigma_max)
    wide = width[:, None, None].expand_as(draw.coords)
    score = -coords.wrapped_score(wide * draw.coords, wide) * real
    score = score / coords.score_rms(width)[:, None, None]
    return (score - score.sum(1, keepdim=True) / real.sum(1, keepdim=True)) * real


def _rows(batch: _T, rows: slice) -> _T:
    def part(whole: Any) -> Any:
        return None if whole is None else whole[rows]

    return type(batch)(*(part(getattr(batch, field.name)) for field in fields(batch)))
