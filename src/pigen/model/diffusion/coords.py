"""Fractional coordinates F: variance-exploding wrapped normal on the torus.

q(f_t | f_0) = Σ_k N(f_t − f_0 + k; σ²) per axis. The width (8/n)^{1/3} σ_min^{1−t} σ_max^t is in
fractional units; its first factor makes it about as many Å in cells of any number of atoms n.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_IMAGES = 8
"""Images summed on each side; at σ = 1.3, the widest in use, the next one weighs e^-21."""

_LOG_SIGMA_GRID = np.linspace(np.log(0.05), np.log(1.2), 500)


def sigma(t: Tensor, n_atoms: Tensor, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise width (fractional) at time t in [0, 1] in cells of n atoms; shapes broadcast."""
    scale = (8.0 / n_atoms.to(t.dtype)) ** (1.0 / 3.0)
    ratio = float(np.log(sigma_max / sigma_min))
    return scale * sigma_min * torch.exp(t * ratio)


def wrapped_score(displacement: Tensor, width: Tensor) -> Tensor:
    """σ ∇ log q of a wrapped normal at ``displacement`` = f_t − f_0, elementwise and unit-free.

    For small σ this is −displacement/σ (to the nearest image); for large σ it goes to zero.
    """
    nearest = displacement - torch.round(displacement)
    images = torch.arange(-_IMAGES, _IMAGES + 1, dtype=nearest.dtype, device=nearest.device)
    shifted = (nearest[..., None] + images) / width[..., None]
    weights = torch.softmax(-0.5 * shifted**2, dim=-1)
    return -(weights * shifted).sum(-1)


@lru_cache(maxsize=1)
def _log_rms_table() -> NDArray[np.float64]:
    """Log root mean square of `wrapped_score` over its own distribution, on the grid of log σ."""
    grid = (np.arange(1000) + 0.5) / 1000 - 0.5
    images = np.arange(-_IMAGES, _IMAGES + 1)
    table = np.empty(len(_LOG_SIGMA_GRID))
    for row, log_sigma in enumerate(_LOG_SIGMA_GRID):
        width = np.exp(log_sigma)
        shifted = (grid[:, None] + images) / width
        gauss = np.exp(-0.5 * shifted**2)
        density = gauss.sum(1) / (width * np.sqrt(2 * np.pi))
        score = -(gauss * shifted).sum(1) / gauss.sum(1)
        table[row] = 0.5 * np.log(np.mean(density * score**2))
    return table


def score_rms(width: Tensor) -> Tensor:
    """sqrt(E[(σ ∇ log q)²]) at each width, by quadrature (not Monte Carlo); shape of ``width``."""
    wide = width.detach().cpu().double().numpy()
    table = np.exp(np.interp(np.log(wide), _LOG_SIGMA_GRID, _log_rms_table()))  # 1 below the grid
    # Above 1 the density is 1 + 2 exp(−2π²σ²) cos 2πx, and quadrature would only cancel digits.
    limit = np.sqrt(8.0) * np.pi * wide * np.exp(-2 * np.pi**2 * np.minimum(wide, 3.0) ** 2)
    values = np.where(wide > 1.0, limit, table)
    return torch.as_tensor(np.maximum(values, 1e-12), dtype=width.dtype, device=width.device)


def reverse_step(
    frac: Tensor, score: Tensor, width: Tensor, next_width: Tensor, noise: Tensor, eta: float
) -> Tensor:
    """One ancestral step from ``width`` to ``next_width`` (0 ends the chain).

    Args:
        frac: coordinates, any shape. ``score`` is σ ∇ log p at ``frac``, ``noise`` standard normal.
        eta: factor on the added noise; 1 samples the posterior, 0 keeps its mean.

    Returns:
        Coordinates at the next time, not wrapped.
    """
    shrink = width**2 - next_width**2
    spread = torch.sqrt(shrink.clamp_min(0.0)) * next_width / width
    return frac + shrink / width * score + eta * spread * noise
