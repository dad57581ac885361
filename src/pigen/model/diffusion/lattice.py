"""Lattice L: variance-preserving diffusion of the symmetric logarithm of its polar factor.

A cell with rows a, b, c factors as L = P U with P = (L Lᵀ)^{1/2} symmetric positive and U
orthogonal. S = log P does not change when the crystal is rotated, and its trace is the logarithm of
the volume, so every S is a valid cell of positive volume and compactness is smooth in it. S is
stored as six numbers y: y_0 the logarithm of the volume per atom (over 3), y_1…5 the traceless part
in an orthonormal basis; both are standardised with constants of the training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_R2, _R6 = 1 / sqrt(2), 1 / sqrt(6)
_TRACELESS = np.array(
    [
        [[0, _R2, 0], [_R2, 0, 0], [0, 0, 0]],
        [[0, 0, _R2], [0, 0, 0], [_R2, 0, 0]],
        [[0, 0, 0], [0, 0, _R2], [0, _R2, 0]],
        [[_R2, 0, 0], [0, -_R2, 0], [0, 0, 0]],
        [[-_R6, 0, 0], [0, -_R6, 0], [0, 0, 2 * _R6]],
    ]
)
"""Orthonormal (Frobenius) basis of symmetric traceless matrices, (5, 3, 3)."""


@dataclass(frozen=True)
class LatticeScale:
    """Constants that standardise y: mean and deviation of log(V/n)/3, deviation of the rest."""

    mean: float
    volume_sd: float
    shape_sd: float

    @classmethod
    def fit(cls, lattice: NDArray[np.float64], n_atoms: NDArray[np.int64]) -> LatticeScale:
        """From training cells, (B, 3, 3) Å, and their numbers of atoms, (B,)."""
        raw = to_vector(
            torch.from_numpy(lattice.copy()), torch.from_numpy(n_atoms.copy()), UNSCALED
        )
        deviations = (float(part.std()) for part in (raw[:, 0], raw[:, 1:]))
        return cls(float(raw[:, 0].mean()), *(max(sd, LEAST_SD) for sd in deviations))


LEAST_SD = 0.01
"""Least deviation, a strain of 1 %: all cells of a training set may have one shape or volume."""
UNSCALED = LatticeScale(0.0, 1.0, 1.0)


def traceless_basis(like: Tensor) -> Tensor:
    """The (5, 3, 3) basis with dtype and device of ``like``."""
    return torch.as_tensor(_TRACELESS, dtype=like.dtype, device=like.device)


def polar(lattice: Tensor) -> tuple[Tensor, Tensor]:
    """S = log P, (…, 3, 3), and the orthogonal factor U of L = P U, for (…, 3, 3) lattices."""
    # In bfloat16 U would not be orthogonal.
    with torch.autocast(lattice.device.type, enabled=False):
        values, vectors = torch.linalg.eigh(lattice @ lattice.mT)
        log_p = vectors @ (0.5 * values.clamp_min(1e-12).log()[..., None] * vectors.mT)
        inverse_p = vectors @ (values.clamp_min(1e-12).rsqrt()[..., None] * vectors.mT)
        return log_p, inverse_p @ lattice


def log_symmetric(matrix: Tensor) -> Tensor:
    """Logarithm of symmetric positive matrices (…, 3, 3)."""
    with torch.autocast(matrix.device.type, enabled=False):
        values, vectors = torch.linalg.eigh(matrix)
        found: Tensor = vectors @ (values.clamp_min(1e-24).log()[..., None] * vectors.mT)
        return found


def to_vector(lattice: Tensor, n_atoms: Tensor, scale: LatticeScale) -> Tensor:
    """Standardised y, (B, 6), of lattices (B, 3, 3) Å with n atoms (B,)."""
    log_p, _ = polar(lattice)
    per_atom = (log_p.diagonal(dim1=-2, dim2=-1).sum(-1) - n_atoms.to(lattice.dtype).log()) / 3
    shape = torch.einsum("bij,kij->bk", log_p, traceless_basis(lattice))
    return torch.cat(
        [((per_atom - scale.mean) / scale.volume_sd)[:, None], shape / scale.shape_sd], dim=1
    )


def log_volume(y: Tensor, n_atoms: Tensor, scale: LatticeScale) -> Tensor:
    """Logarithm of the cell volume in Å^3, (B,), of standardised y (B, 6)."""
    return 3 * (y[:, 0] * scale.volume_sd + scale.mean) + n_atoms.to(y.dtype).log()


def to_lattice(y: Tensor, n_atoms: Tensor, scale: LatticeScale) -> Tensor:
    """Symmetric lattices exp(S), (B, 3, 3) Å, of standardised y (B, 6)."""
    shape = torch.einsum("bk,kij->bij", y[:, 1:] * scale.shape_sd, traceless_basis(y))
    length = torch.exp(log_volume(y, n_atoms, scale) / 3)
    lattice: Tensor = length[:, None, None] * torch.linalg.matrix_exp(shape)
    return lattice


def signal(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine schedule, elementwise: y_t = a y_0 + s ε with a = cos(πt/2), s = sin(πt/2)."""
    angle = 0.5 * torch.pi * t
    return torch.cos(angle), torch.sin(angle)


def velocity(y0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """v = a ε − s y_0, the training target; y_0 and ε (B, 6), ``t`` (B, 1)."""
    a, s = signal(t)
    return a * noise - s * y0


def clean_estimate(y_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """ŷ_0 = a y_t − s v; y_t and v (B, 6), ``t`` (B, 1)."""
    a, s = signal(t)
    return a * y_t - s * v


def reverse_step(
    y_t: Tensor, v: Tensor, t: Tensor, t_next: Tensor, noise: Tensor, eta: float
) -> Tensor:
    """One ancestral step of y (B, 6) from t to t_next (B, 1) given v; ``eta`` scales the noise."""
    a, s = signal(t)
    a_next, s_next = signal(t_next)
    y0 = a * y_t - s * v
    epsilon = s * y_t + a * v
    kept = (a / a_next.clamp_min(1e-12)) ** 2
    variance = (s_next / s.clamp_min(1e-12)) ** 2 * (1 - kept).clamp_min(0.0)
    drift = torch.sqrt((s_next**2 - variance).clamp_min(0.0))
    return a_next * y0 + drift * epsilon + eta * variance.sqrt() * noise
