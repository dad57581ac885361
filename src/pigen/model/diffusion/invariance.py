"""Noise that keeps a space group: what a batch needs to know of its crystals' symmetry.

The denoiser is equivariant, so on an exactly invariant state its prediction is invariant as well.
If the noise added is invariant too, every state of a chain is. Coordinates move as their orbit's
representative does, along what its site allows; the lattice's metric is averaged over the point
group, its volume kept; the atoms of an orbit share the draws of their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pigen.crystal.templates import Template
from pigen.model.diffusion import lattice
from pigen.model.diffusion.lattice import LatticeScale

_ROWS, _COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
"""Places of the six numbers of a metric, in the order of `Template.metric_mean`."""


@dataclass(frozen=True)
class Invariance:
    """Symmetry of a batch of B crystals, padded to n atoms; some may have none.

    Attributes:
        symmetric: (B,) True where there is a group to keep; the rest of such a row says nothing.
        source: (B, n) the representative of each atom's orbit.
        turns: (B, n, 3, 3) rotation of an operation that takes the representative to the atom.
        sites: (B, n, 3, 3) part of an atom's displacement that its site allows.
        metric_mean: (B, 6, 6) mean over the point group, see `Template.metric_mean`.
    """

    symmetric: Tensor
    source: Tensor
    turns: Tensor
    sites: Tensor
    metric_mean: Tensor

    @classmethod
    def of(cls, templates: Sequence[Template | None], n: int, like: Tensor) -> Invariance:
        """For a batch padded to n atoms, with dtype and device of ``like``."""
        b = len(templates)
        source = np.tile(np.arange(n), (b, 1))
        turns = np.tile(np.eye(3), (b, n, 1, 1))
        sites = turns.copy()
        mean = np.tile(np.eye(6), (b, 1, 1))
        for row, one in enumerate(templates):
            if one is not None:
                source[row, : one.n_atoms] = one.source
                turns[row, : one.n_atoms] = one.turns
                sites[row, : one.n_atoms] = one.sites
                mean[row] = one.metric_mean
        return cls(
            symmetric=torch.tensor([one is not None for one in templates], device=like.device),
            source=torch.from_numpy(source).to(like.device),
            turns=torch.as_tensor(turns, dtype=like.dtype, device=like.device),
            sites=torch.as_tensor(sites, dtype=like.dtype, device=like.device),
            metric_mean=torch.as_tensor(mean, dtype=like.dtype, device=like.device),
        )

    def __getitem__(self, rows: slice) -> Invariance:
        """Some of the crystals."""
        return Invariance(
            self.symmetric[rows],
            self.source[rows],
            self.turns[rows],
            self.sites[rows],
            self.metric_mean[rows],
        )

    def allowed(self, cell: Tensor) -> Tensor:
        """Cartesian projectors (B, n, 3, 3) onto what each atom's site allows a vector to be.

        In exact arithmetic the denoiser's vectors lie there by themselves. Where a site allows
        none, rounding would be all that is left of them, and be scaled up from layer to layer.
        """
        return self._cartesian(self.sites, cell)

    def turned(self, cell: Tensor) -> Tensor:
        """Cartesian rotations (B, n, 3, 3) that take the representative's vectors to the atom's."""
        return self._cartesian(self.turns, cell)

    def _cartesian(self, fractional: Tensor, cell: Tensor) -> Tensor:
        there, back = cell.mT[:, None], torch.linalg.inv(cell).mT[:, None]
        whole = torch.eye(3, dtype=cell.dtype, device=cell.device)
        return torch.where(self.symmetric[:, None, None, None], there @ fractional @ back, whole)

    def steps(self, steps: Tensor) -> Tensor:
        """Displacements (B, n, 3) that keep the group, from those of the representatives."""
        moves = self.sites @ self.turns
        moved = torch.einsum("bnij,bnj->bni", moves, at(steps, self.source))
        return torch.where(self.symmetric[:, None, None], moved, steps)

    def shared(self, values: Tensor) -> Tensor:
        """Values (B, n, …) of the representatives, for all atoms of their orbits."""
        rows = self.symmetric.view(-1, *(1,) * (values.dim() - 1))
        return torch.where(rows, at(values, self.source), values)

    def cells(self, y: Tensor, n_atoms: Tensor, scale: LatticeScale) -> Tensor:
        """Standardised lattice vectors (B, 6) whose metric the point group keeps; same volume."""
        cell = lattice.to_lattice(y, n_atoms, scale)
        metric = cell @ cell.mT
        six = torch.einsum("bij,bj->bi", self.metric_mean, metric[:, _ROWS, _COLUMNS])
        averaged = torch.empty_like(metric)
        averaged[:, _ROWS, _COLUMNS] = six
        averaged[:, _COLUMNS, _ROWS] = six
        # log P = (log G) / 2, so the polar factor of the metric itself is twice as long.
        log_metric = lattice.log_symmetric(averaged)
        shape = 0.5 * torch.einsum("bij,kij->bk", log_metric, lattice.traceless_basis(y))
        kept = torch.cat([y[:, :1], shape / scale.shape_sd], dim=1)
        return torch.where(self.symmetric[:, None], kept, y)


def at(values: Tensor, places: Tensor) -> Tensor:
    """(B, k, …) of values (B, n, …), at places (B, k)."""
    index = places.view(*places.shape, *(1,) * (values.dim() - 2))
    return values.gather(1, index.expand(*places.shape, *values.shape[2:]))
