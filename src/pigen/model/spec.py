"""What a model must know of its training set besides its weights; stored in every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS, atomic_radii
from pigen.model.diffusion.lattice import LatticeScale
from pigen.model.size_prior import SizePrior
from pigen.runtime.errors import UsageError

LABEL_UNITS = {"c": "", "mled": "bits", "e_hull": "eV/atom", "k": "bits/atom"}
"""Units of the labels that are ours; a checkpoint without units has no others."""


@dataclass(frozen=True)
class ModelSpec:
    """Vocabulary, standardisation constants and size distribution of a model.

    Attributes:
        elements: atomic numbers of the vocabulary; element ``elements[i]`` is class i + 1.
        lattice: constants of the lattice vector y.
        label_mean, label_sd: per label, in the order of ``ModelConfig.labels``.
        sizes: distribution of the number of atoms, alone and given targets.
        label_unit: per label, "" for a dimensionless one or where nothing is known.
    """

    elements: tuple[int, ...]
    lattice: LatticeScale
    label_mean: tuple[float, ...]
    label_sd: tuple[float, ...]
    sizes: SizePrior
    label_unit: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        crystals: Crystals,
        names: tuple[str, ...],
        labels: NDArray[np.float64],
        units: Sequence[str] = (),
    ) -> ModelSpec:
        """From a training set and its labels (B, names), NaN where missing, with their units.

        Raises:
            UsageError: a label that no structure has.
        """
        absent = [name for name, column in zip(names, labels.T, strict=True) if _no_data(column)]
        if absent:
            raise UsageError(
                f"the training set has no values for label {absent[0]!r}; "
                "label it with `pigen label`, or leave it out of model.labels"
            )
        mean = np.nanmean(labels, axis=0)
        sd = np.maximum(np.nanstd(labels, axis=0), 1e-6)
        return cls(
            elements=tuple(int(z) for z in np.unique(crystals.atomic_numbers)),
            lattice=LatticeScale.fit(crystals.lattice, crystals.n_atoms),
            label_mean=tuple(float(x) for x in mean),
            label_sd=tuple(float(x) for x in sd),
            sizes=SizePrior.fit(crystals.n_atoms, (labels - mean) / sd),
            label_unit=tuple(units or units_of(names)),
        )

    def classes(self, atomic_numbers: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Class of each atom, (n,); UsageError naming the first element the model doesn't know."""
        table = np.zeros(MAX_Z + 1, dtype=np.int64)
        table[list(self.elements)] = np.arange(len(self.elements)) + 1
        found = table[atomic_numbers]
        if (found == 0).any():
            symbol = SYMBOLS[int(atomic_numbers[found == 0][0])]
            raise UsageError(f"the model doesn't know element {symbol}")
        return found

    def standardise(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Labels (B, n_labels) in training deviations; NaN stays NaN."""
        scaled: NDArray[np.float64] = (labels - np.array(self.label_mean)) / self.label_sd
        return scaled

    def cubed_radii(self, like: Tensor) -> Tensor:
        """r³ in Å^3 of every element of the vocabulary, (E,); 0 for one without a radius."""
        cubes = np.nan_to_num(atomic_radii()[list(self.elements)]) ** 3
        return torch.as_tensor(cubes, dtype=like.dtype, device=like.device)


def units_of(names: Sequence[str]) -> tuple[str, ...]:
    """Units of labels that come without one."""
    return tuple(LABEL_UNITS.get(name, "") for name in names)


def _no_data(column: NDArray[np.float64]) -> bool:
    return bool(np.isnan(column).all())
