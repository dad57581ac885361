"""What the network computes: every atom of a crystal, or one of each orbit where it has symmetry.

An equivariant network gives the atoms of an orbit the same scalars, and vectors that the operations
carry into one another. One atom of each orbit is enough, if the sums over neighbours and the means
over a crystal go over all atoms: a node counts as often as it has atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pigen.model.diffusion.invariance import at
from pigen.model.diffusion.state import Noised


@dataclass(frozen=True)
class Orbits:
    """Which nodes stand for which atoms of a batch of B crystals, padded to n atoms and m nodes.

    Attributes:
        first: (B, m) an atom of each orbit. node: (B, n) the orbit of each atom.
        turned: (B, n, 3, 3) Cartesian rotations that take a node's vectors to the atom's.
        members: (B, n, m) 1 where an atom is of an orbit, 0 elsewhere and for padding.
    """

    first: Tensor
    node: Tensor
    turned: Tensor
    members: Tensor


@dataclass(frozen=True)
class Nodes:
    """The m nodes of each of B crystals, padded.

    Attributes:
        mask: (B, n), True for real atoms.
        weights: (B, m) share of the crystal's atoms that a node stands for; 0 for padding.
        allowed: (B, m, 3, 3) Cartesian projectors onto what a node's site lets a vector be; None
            where all is allowed.
        orbits: None where each atom is a node.
    """

    mask: Tensor
    weights: Tensor
    allowed: Tensor | None = None
    orbits: Orbits | None = None

    @classmethod
    def of(cls, noised: Noised) -> Nodes:
        """Of a noised batch."""
        mask, like, symmetry = noised.mask, noised.lattice, noised.symmetry
        size = mask.sum(1, keepdim=True).clamp_min(1).to(like.dtype)
        if symmetry is None:
            return cls(mask, mask.to(like.dtype) / size)
        allowed = symmetry.allowed(like)
        place = torch.arange(mask.shape[1], device=mask.device)
        is_first = (symmetry.source == place) & mask
        m = int(is_first.sum(1).max())
        if m == mask.shape[1]:
            return cls(mask, mask.to(like.dtype) / size, allowed)
        first = torch.argsort(is_first.int(), dim=1, descending=True, stable=True)[:, :m]
        node = (is_first.cumsum(1) - 1).gather(1, symmetry.source).clamp(0, m - 1)
        members = one_hot(node, m).to(like.dtype) * mask[..., None]
        orbits = Orbits(first, node, symmetry.turned(like), members)
        return cls(mask, members.sum(1) / size, at(allowed, first), orbits)

    @property
    def real(self) -> Tensor:
        """(B, m), True for nodes that have an atom."""
        return self.weights > 0

    def take(self, values: Tensor) -> Tensor:
        """Values (B, n, …) of atoms at the nodes, (B, m, …)."""
        return values if self.orbits is None else at(values, self.orbits.first)

    def scalars(self, values: Tensor) -> Tensor:
        """Values (B, m, …) of nodes for all atoms, (B, n, …), where no rotation changes them."""
        return values if self.orbits is None else at(values, self.orbits.node)

    def vectors(self, values: Tensor) -> Tensor:
        """Cartesian vectors (B, m, 3) of nodes, for all atoms (B, n, 3)."""
        if self.orbits is None:
            return values
        return (self.orbits.turned.to(values.dtype) @ self.scalars(values)[..., None])[..., 0]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the atoms of each crystal, of scalars (B, m, …) at its nodes."""
        return torch.einsum("bm...,bm->b...", values, self.weights.to(values.dtype))

    def tensor_mean(self, values: Tensor) -> Tensor:
        """Mean (B, 3, 3) over the atoms of each crystal, of Cartesian tensors (B, m, 3, 3)."""
        if self.orbits is None:
            return self.mean(values)
        turned = self.orbits.turned.to(values.dtype)
        each = turned @ self.scalars(values) @ turned.mT
        real = self.mask[..., None, None].to(values.dtype)
        return (each * real).sum(1) / real.sum(1).clamp_min(1)

    def project(self, v: Tensor) -> Tensor:
        """Vectors (B, m, 3, V) without what the nodes' sites forbid."""
        return v if self.allowed is None else self.allowed.to(v.dtype) @ v
