"""Training structures as tensors, and the order in which batches take them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen.crystal.crystals import Crystals, wrap
from pigen.model.diffusion.lattice import to_vector
from pigen.model.loss import Clean
from pigen.model.spec import ModelSpec

_POOL = 32
"""Batches whose structures are sorted by size together, so that little padding is computed on."""


def niggli(crystals: Crystals) -> Crystals:
    """Every crystal in its Niggli-reduced cell (spglib); a cell that can't be reduced stays."""
    # Failures are to be exceptions: what spglib does unless told so is to warn on every call.
    os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "false")
    import spglib

    reduced = crystals.lattice.copy()
    for i, lattice in enumerate(crystals.lattice):
        with contextlib.suppress(spglib.SpglibError):
            reduced[i] = spglib.niggli_reduce(lattice)
    # spglib may rotate the cell; only the change of basis is wanted, in integers.
    change = np.tile(np.eye(3), (len(crystals), 1, 1))
    whole = np.linalg.det(crystals.lattice) != 0
    change[whole] = np.rint(reduced[whole] @ np.linalg.inv(crystals.lattice[whole]))
    change[~np.isclose(np.abs(np.linalg.det(change)), 1.0)] = np.eye(3)
    inverse = np.rint(np.linalg.inv(change))
    return Crystals(
        lattice=change @ crystals.lattice,
        frac_coords=wrap(np.einsum("na,nab->nb", crystals.frac_coords, inverse[crystals.batch])),
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


@dataclass(frozen=True)
class TrainingData:
    """M structures with N atoms in all, compact: what a padded `Clean` batch is cut from.

    Attributes:
        types: (N,) uint8 classes. frac: (N, 3). ptr: (M + 1,), where the atoms of each begin.
        y: (M, 6). labels: (M, n_labels) standardised, NaN where missing.
    """

    types: Tensor
    frac: Tensor
    ptr: Tensor
    y: Tensor
    labels: Tensor

    @classmethod
    def of(
        cls,
        crystals: Crystals,
        labels: NDArray[np.float64],
        spec: ModelSpec,
        dtype: torch.dtype = torch.float32,
    ) -> TrainingData:
        """From Niggli-reduced crystals and raw labels (M, n_labels)."""
        n_atoms = torch.from_numpy(crystals.n_atoms.copy())
        y = to_vector(torch.from_numpy(crystals.lattice.copy()), n_atoms, spec.lattice)
        classes = spec.classes(crystals.atomic_numbers)
        return cls(
            types=torch.from_numpy(classes.astype(np.uint8)),
            frac=torch.from_numpy(crystals.frac_coords.copy()).to(dtype),
            ptr=torch.from_numpy(crystals.ptr.copy()),
            y=y.to(dtype),
            labels=torch.from_numpy(spec.standardise(labels)).to(dtype),
        )

    def to(self, device: torch.device) -> TrainingData:
        """The same on another device."""
        return TrainingData(*(getattr(self, one.name).to(device) for one in fields(self)))

    def __len__(self) -> int:
        """Number of structures M."""
        return len(self.y)

    @property
    def n_atoms(self) -> Tensor:
        """Atoms per structure, (M,)."""
        return self.ptr.diff()

    def batch(self, rows: Tensor) -> tuple[Clean, Tensor]:
        """The chosen structures, padded to the largest of them, and their labels."""
        first = self.ptr[rows]
        n_atoms = self.ptr[rows + 1] - first
        place = torch.arange(int(n_atoms.max()), device=first.device)
        mask = place < n_atoms[:, None]
        atoms = torch.where(mask, first[:, None] + place, 0)
        clean = Clean(
            types=self.types[atoms].long() * mask,
            frac=self.frac[atoms] * mask[..., None],
            y=self.y[rows],
            mask=mask,
        )
        return clean, self.labels[rows]


def batches(
    n_atoms: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of every batch of an epoch: shuffled, of similar sizes, a function of (seed, epoch)."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(n_atoms))
    pools = [order[i : i + batch_size * _POOL] for i in range(0, len(order), batch_size * _POOL)]
    cut = []
    for pool in pools:
        ordered = pool[np.argsort(n_atoms[pool], kind="stable")]
        cut += [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    return (cut[i] for i in rng.permutation(len(cut)))


def drop_labels(labels: Tensor, p_drop: float, generator: torch.Generator) -> Tensor:
    """Labels (B, n), each hidden (NaN) with probability p_drop; the generator is on the CPU."""
    dropped = torch.rand(labels.shape, generator=generator).to(labels.device) < p_drop
    return torch.where(dropped, torch.full_like(labels, float("nan")), labels)
