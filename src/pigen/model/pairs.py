"""Pair basis: everything the network sees of the geometry, summed over periodic images.

With radial filters linear in the radial basis, the sum over periodic images commutes with them:

    Σ_images W·R(d) Y_lm(d̂) x_j  =  W · (Σ_images R(d) Y_lm(d̂)) x_j  =  W · B_ij x_j ,

so B_ij (per pair of atoms, not per image) is computed once per call and every layer's messages
become dense products whose cost doesn't depend on the number of images.
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor

from pigen.model.pairs_cpu import fill_basis

_MAX_IMAGES = 6
"""Images on each side at most: a cell flatter than a sixth of the cutoff loses the farthest."""


def radial_basis(distance: Tensor, cutoff: float, size: int) -> Tensor:
    """Gaussians evenly spaced up to ``cutoff`` times a smooth envelope; (…,) Å → (…, size)."""
    spacing = cutoff / size
    centres = (torch.arange(size, dtype=distance.dtype, device=distance.device) + 0.5) * spacing
    x = (distance / cutoff).clamp(max=1.0)
    envelope = 1 - 10 * x**3 + 15 * x**4 - 6 * x**5
    return torch.exp(-0.5 * ((distance[..., None] - centres) / spacing) ** 2) * envelope[..., None]


def _reach(lattice: Tensor, cutoff: float) -> Tensor:
    """Images on each side of the nearest that can lie within the cutoff, (B, 3)."""
    # 1/height along a, b, c; NaN must reach the loss, whose message says more than one from here.
    inverse_heights = torch.linalg.inv(lattice).norm(dim=-2).nan_to_num(0.0)
    reach: Tensor = (cutoff * inverse_heights + 0.5).floor().clamp(max=_MAX_IMAGES).long()
    return reach


def edges(
    frac: Tensor, lattice: Tensor, mask: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs (b, i, j, image) closer than ``cutoff`` Å, an atom and its own images included.

    Args:
        frac: (B, n, 3); lattice: (B, 3, 3) Å; mask: (B, n), True for real atoms.

    Returns:
        b, i, j, each (E,), and the vectors (E, 3) Å from atom i to the image of atom j.
    """
    reach = _reach(lattice, cutoff)
    most = int(reach.max())
    span = torch.arange(-most, most + 1, device=frac.device)
    grid = torch.cartesian_prod(span, span, span)
    cell, image = torch.nonzero((grid.abs()[None] <= reach[:, None]).all(-1), as_tuple=True)
    shift = torch.einsum("pa,pax->px", grid[image].to(frac.dtype), lattice[cell])
    delta = frac[:, None, :, :] - frac[:, :, None, :]
    nearest = (delta - torch.round(delta)) @ lattice[:, None]
    vectors = nearest[cell] + shift[:, None, None, :]
    squared = (vectors**2).sum(-1)
    near = (squared < cutoff**2) & (mask[:, :, None] & mask[:, None, :])[cell]
    itself = torch.eye(frac.shape[1], dtype=torch.bool, device=frac.device)
    near &= ~(itself & (grid[image] == 0).all(-1)[:, None, None])
    p, i, j = torch.nonzero(near, as_tuple=True)
    return cell[p], i, j, vectors[p, i, j]


def pair_basis(
    frac: Tensor, lattice: Tensor, mask: Tensor, *, cutoff: float, radial: int
) -> Tensor:
    """B_ij^{lm,k} = Σ_images R_k(d) Y_lm(d̂) for l ≤ 2, shape (B, n, n, 9, radial).

    Y are e3nn's real harmonics in "component" normalisation. Rotating the crystal rotates the lm
    axis by the Wigner matrices of ``o3.Irreps.spherical_harmonics(2)``. No gradient flows. Real
    atoms come first in ``mask``. On the CPU a compiled kernel does the work of `basis_of_edges`.
    """
    with torch.no_grad(), torch.autocast(frac.device.type, enabled=False):
        if frac.device.type != "cpu":
            return basis_of_edges(frac, lattice, mask, cutoff=cutoff, radial=radial)
        n = frac.shape[1]
        basis = frac.new_zeros(len(frac), n, n, 9, radial)
        fill_basis(
            frac.detach().numpy(),
            lattice.detach().numpy(),
            mask.sum(1).numpy(),
            _reach(lattice, cutoff).numpy(),
            cutoff,
            basis.numpy(),
        )
        return basis


def basis_of_edges(
    frac: Tensor, lattice: Tensor, mask: Tensor, *, cutoff: float, radial: int
) -> Tensor:
    """The same, (B, n, n, 9, radial), from `edges` and e3nn's harmonics, on any device."""
    b, i, j, vectors = edges(frac, lattice, mask, cutoff)
    distance = vectors.norm(dim=-1)
    harmonics = o3.spherical_harmonics(
        [0, 1, 2], vectors, normalize=True, normalization="component"
    )
    values = harmonics[:, :, None] * radial_basis(distance, cutoff, radial)[:, None, :]
    n = frac.shape[1]
    basis = frac.new_zeros(len(frac) * n * n, 9, radial)
    basis.index_add_(0, (b * n + i) * n + j, values)
    return basis.view(len(frac), n, n, 9, radial)
