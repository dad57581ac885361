"""Training structures as tensors, and the order in which batches take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen.crystal.crystals import Crystals
from pigen.crystal.templates import Template
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.lattice import to_vector
from pigen.model.loss import Clean
from pigen.model.spec import ModelSpec

_POOL = 32
"""Batches whose structures are sorted by size together, so that little padding is computed on."""


@dataclass(frozen=True)
class SymmetricData:
    """The symmetry of M structures with N atoms in all, and the structures made exactly so.

    Matrices are kept once each, however many atoms and structures share them.

    Attributes:
        frac: (N, 3) places with the whole symmetry. y: (M, 6) lattices with it.
        known: (M,) True where a structure has a template.
        source: (N,) uint8 representative of each atom's orbit, counted within the structure.
        turn: (N,) which of ``matrices`` (K, 3, 3) is its row of `Template.turns`.
        site: (N,) the same for `Template.sites`.
        mean: (M,) which of ``means`` (L, 6, 6), see `Template.metric_mean`.
    """

    frac: Tensor
    y: Tensor
    known: Tensor
    source: Tensor
    turn: Tensor
    site: Tensor
    matrices: Tensor
    mean: Tensor
    means: Tensor

    @classmethod
    def of(
        cls,
        crystals: Crystals,
        templates: Sequence[Template | None],
        ideal: NDArray[np.float64],
        spec: ModelSpec,
        dtype: torch.dtype = torch.float32,
    ) -> SymmetricData:
        """From Niggli-reduced crystals, their templates and places there (N, 3)."""
        matrices, means = _Distinct(np.eye(3)), _Distinct(np.eye(6))
        n_atoms = crystals.n_atoms
        source = np.arange(len(ideal)) - np.repeat(crystals.ptr[:-1], n_atoms)
        turn, site = np.zeros((2, len(ideal)), dtype=np.int64)
        mean = np.zeros(len(crystals), dtype=np.int64)
        lattice = crystals.lattice.copy()
        for i, template in enumerate(templates):
            if template is not None:
                atoms = slice(crystals.ptr[i], crystals.ptr[i + 1])
                source[atoms] = template.source
                turn[atoms] = [matrices.place(one) for one in template.turns]
                site[atoms] = [matrices.place(one) for one in template.sites]
                mean[i] = means.place(template.metric_mean)
                lattice[i] = template.cell(lattice[i])
        y = to_vector(torch.from_numpy(lattice), torch.from_numpy(n_atoms.copy()), spec.lattice)
        return cls(
            frac=torch.from_numpy(ideal.copy()).to(dtype),
            y=y.to(dtype),
            known=torch.tensor([one is not None for one in templates]),
            source=torch.from_numpy(source.astype(np.uint8)),
            turn=torch.from_numpy(turn.astype(np.int32)),
            site=torch.from_numpy(site.astype(np.int32)),
            matrices=torch.from_numpy(np.array(matrices.matrices)).to(dtype),
            mean=torch.from_numpy(mean.astype(np.int32)),
            means=torch.from_numpy(np.array(means.matrices)).to(dtype),
        )

    def to(self, device: torch.device) -> SymmetricData:
        """The same on another device."""
        return SymmetricData(*(getattr(self, one.name).to(device) for one in fields(self)))


class _Distinct:
    """Matrices seen so far, to 1e-6; the first one is given."""

    def __init__(self, first: NDArray[np.float64]) -> None:
        self.matrices: list[NDArray[np.float64]] = []
        self._places: dict[bytes, int] = {}
        self.place(first)

    def place(self, matrix: NDArray[np.float64]) -> int:
        """Its place in ``matrices``."""
        key = np.rint(matrix * 1e6).astype(np.int64).tobytes()
        found = self._places.setdefault(key, len(self.matrices))
        if found == len(self.matrices):
            self.matrices.append(matrix)
        return found


@dataclass(frozen=True)
class TrainingData:
    """M structures with N atoms in all, compact: what a padded `Clean` batch is cut from.

    Attributes:
        types: (N,) uint8 classes. frac: (N, 3). ptr: (M + 1,), where the atoms of each begin.
        y: (M, 6). labels: (M, n_labels) standardised, NaN where missing.
        symmetry: of the structures; None where training needs none.
    """

    types: Tensor
    frac: Tensor
    ptr: Tensor
    y: Tensor
    labels: Tensor
    symmetry: SymmetricData | None = None

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

        def there(part: Any) -> Any:
            return None if part is None else part.to(device)

        return TrainingData(*(there(getattr(self, one.name)) for one in fields(self)))

    def __len__(self) -> int:
        """Number of structures M."""
        return len(self.y)

    @property
    def n_atoms(self) -> Tensor:
        """Atoms per structure, (M,)."""
        return self.ptr.diff()

    def batch(self, rows: Tensor, symmetric: Tensor | None = None) -> tuple[Clean, Tensor]:
        """The chosen structures, padded to the largest of them, and their labels.

        Those with True in ``symmetric`` come with exact symmetry, where one is known, and with what
        their noise has to keep.
        """
        first = self.ptr[rows]
        n_atoms = self.ptr[rows + 1] - first
        place = torch.arange(int(n_atoms.max()), device=first.device)
        mask = place < n_atoms[:, None]
        atoms = torch.where(mask, first[:, None] + place, 0)
        frac, y, symmetry = self.frac[atoms], self.y[rows], None
        if symmetric is not None and self.symmetry is not None:
            found = self.symmetry
            symmetric = symmetric & found.known[rows]
            frac = torch.where(symmetric[:, None, None], found.frac[atoms], frac)
            y = torch.where(symmetric[:, None], found.y[rows], y)
            symmetry = Invariance(
                symmetric=symmetric,
                source=torch.where(symmetric[:, None] & mask, found.source[atoms].long(), place),
                turns=found.matrices[found.turn[atoms].long()],
                sites=found.matrices[found.site[atoms].long()],
                metric_mean=found.means[found.mean[rows].long()],
            )
        clean = Clean(
            types=self.types[atoms].long() * mask,
            frac=frac * mask[..., None],
            y=y,
            mask=mask,
            symmetry=symmetry,
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
