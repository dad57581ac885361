"""What passes between the corruption processes and a predictor: noised batches, predictions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pigen.model.diffusion.invariance import Invariance


@dataclass(frozen=True)
class Given:
    """What of a noised batch is clean at any time, because it was given.

    Attributes:
        types: (B, n), True where the element is. coords: (B, n), where the coordinates are.
        cell: (B,), True where the lattice is.
    """

    types: Tensor
    coords: Tensor
    cell: Tensor

    def __getitem__(self, rows: slice) -> Given:
        """Some of the crystals."""
        return Given(self.types[rows], self.coords[rows], self.cell[rows])


@dataclass(frozen=True)
class Noised:
    """A batch of noised crystals, padded to n atoms.

    Attributes:
        types: (B, n) classes; 0 is the mask and the padding.
        frac: (B, n, 3).
        lattice: (B, 3, 3) Å, rows a, b, c, in any orientation.
        shape: (B, 5): standardised traceless part of log P, see `pigen.model.diffusion.lattice`.
        mask: (B, n), True for real atoms.
        t: (B,) time in [0, 1] of all that is not given.
        given: what is clean; None where nothing is.
        symmetry: of the crystals, exact in this state; None where none is known.
    """

    types: Tensor
    frac: Tensor
    lattice: Tensor
    shape: Tensor
    mask: Tensor
    t: Tensor
    given: Given | None = None
    symmetry: Invariance | None = None


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of a noised batch. Not a crystal.

    Attributes:
        logits: (B, n, E) over the elements of the vocabulary (classes 1 … E).
        coords: (B, n, 3) fractional; −σ∇log p over its root mean square, zero mean per crystal.
        lattice: (B, 6), the velocity of the standardised lattice vector y.
    """

    logits: Tensor
    coords: Tensor
    lattice: Tensor

    def float(self) -> Prediction:
        """In single precision, whatever the network computed in."""
        return Prediction(self.logits.float(), self.coords.float(), self.lattice.float())
