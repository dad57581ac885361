"""Training structures as padded tensors, and the order in which batches take them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen.crystals import Crystals, wrap
from pigen.diffusion.lattice import to_vector
from pigen.model.loss import Clean
from pigen.model.spec import ModelSpec

_POOL = 32
"""Batches whose structures are sorted by size together, so that little padding is computed on."""


def niggli(crystals: Crystals) -> Crystals:
    """Every crystal in its Niggli-reduced cell (spglib); a cell that can't be reduced stays."""
    # Failures are to be exceptions: what spglib does unless told so is to warn on every call.
    os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "false")
    import spglib

    lattice = crystals.lattice.copy()
    frac = crystals.frac_coords.copy()
    for i in range(len(crystals)):
        try:
            reduced = spglib.niggli_reduce(crystals.lattice[i])
        except spglib.SpglibError:
            continue
        atoms = slice(crystals.ptr[i], crystals.ptr[i + 1])
        # spglib may rotate the cell; only the change of basis is wanted, in integers.
        change = np.rint(reduced @ np.linalg.inv(crystals.lattice[i]))
        if not np.isclose(abs(np.linalg.det(change)), 1.0):
            continue
        lattice[i] = change @ crystals.lattice[i]
        frac[atoms] = wrap(frac[atoms] @ np.linalg.inv(change))
    return Crystals(
        lattice=lattice,
        frac_coords=frac,
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


@dataclass(frozen=True)
class TrainingData:
    """M structures, padded: what a `Clean` batch is cut from.

    Attributes:
        types: (M, n) int64. frac: (M, n, 3). y: (M, 6). n_atoms: (M,).
        labels: (M, n_labels) standardised, NaN where missing.
    """

    types: Tensor
    frac: Tensor
    y: Tensor
    n_atoms: Tensor
    labels: Tensor

    @classmethod
    def of(
        cls,
        crystals: Crystals,
        labels: NDArray[np.float64],
        spec: ModelSpec,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> TrainingData:
        """From Niggli-reduced crystals and raw labels (M, n_labels)."""
        widest = int(crystals.n_atoms.max())
        row = crystals.batch
        place = np.arange(len(row)) - crystals.ptr[row]
        types = np.zeros((len(crystals), widest), dtype=np.int64)
        frac = np.zeros((len(crystals), widest, 3))
        types[row, place] = spec.classes(crystals.atomic_numbers)
        frac[row, place] = crystals.frac_coords
        n_atoms = torch.from_numpy(crystals.n_atoms.copy())
        y = to_vector(torch.from_numpy(crystals.lattice.copy()), n_atoms, spec.lattice)
        return cls(
            types=torch.from_numpy(types).to(device),
            frac=torch.from_numpy(frac).to(device, dtype),
            y=y.to(device, dtype),
            n_atoms=n_atoms.to(device),
            labels=torch.from_numpy(spec.standardise(labels)).to(device, dtype),
        )

    def __len__(self) -> int:
        """Number of structures M."""
        return len(self.types)

    def batch(self, rows: Tensor) -> tuple[Clean, Tensor]:
        """The chosen structures, padded to the largest of them, and their labels."""
        n_atoms = self.n_atoms[rows]
        n = int(n_atoms.max())
        mask = torch.arange(n, device=n_atoms.device)[None] < n_atoms[:, None]
        clean = Clean(self.types[rows, :n], self.frac[rows, :n], self.y[rows], mask)
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
