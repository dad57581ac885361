"""The one type that flows through PIGEN: a ragged batch of periodic crystals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pigen.crystal.elements import MAX_Z, SYMBOLS

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


@dataclass(frozen=True, kw_only=True, eq=False)
class Crystals:
    """B crystals with N atoms in all, immutable.

    Attributes:
        lattice: (B, 3, 3) Å; rows are the cell vectors a, b, c, so ``cart = frac @ lattice``.
        frac_coords: (N, 3), each in [0, 1).
        atomic_numbers: (N,) in 1 … 103.
        ptr: (B + 1,); atoms of crystal i are ``ptr[i]:ptr[i + 1]``.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    atomic_numbers: NDArray[np.uint8]
    ptr: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check shapes and values; raise ValueError saying what was expected and what came."""
        lattice = np.array(self.lattice, dtype=np.float64)
        frac = wrap(np.asarray(self.frac_coords, dtype=np.float64))
        numbers = np.asarray(self.atomic_numbers)
        ptr = np.array(self.ptr, dtype=np.int64)
        if lattice.ndim != 3 or lattice.shape[1:] != (3, 3):
            raise ValueError(f"lattice must have shape (B, 3, 3), got {lattice.shape}")
        if ptr.shape != (len(lattice) + 1,):
            raise ValueError(f"ptr must have shape ({len(lattice) + 1},), got {ptr.shape}")
        if ptr[0] != 0 or np.any(np.diff(ptr) < 0):
            raise ValueError("ptr must start at 0 and never decrease")
        if frac.shape != (ptr[-1], 3):
            raise ValueError(f"frac_coords must have shape ({ptr[-1]}, 3), got {frac.shape}")
        if numbers.shape != (ptr[-1],):
            raise ValueError(f"atomic_numbers must have shape ({ptr[-1]},), got {numbers.shape}")
        if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
            raise ValueError("lattice and frac_coords must be finite")
        if numbers.size and not (1 <= numbers.min() and numbers.max() <= MAX_Z):
            raise ValueError(
                f"atomic numbers must lie in 1 … {MAX_Z}, got {numbers.min()} … {numbers.max()}"
            )
        for name, array in (
            ("lattice", lattice),
            ("frac_coords", frac),
            ("atomic_numbers", numbers.astype(np.uint8)),
            ("ptr", ptr),
        ):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    # -- shape ---------------------------------------------------------------------------------
    def __len__(self) -> int:
        """Number of crystals B."""
        return len(self.lattice)

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """Atoms per crystal, (B,)."""
        return np.diff(self.ptr)

    @property
    def batch(self) -> NDArray[np.int64]:
        """Crystal index of every atom, (N,)."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def volume(self) -> NDArray[np.float64]:
        """Cell volume |det L| in Å^3, (B,): cells may be left-handed."""
        return np.asarray(np.abs(np.linalg.det(self.lattice)))

    def __getitem__(self, index: int | slice | NDArray[np.bool_] | NDArray[np.int64]) -> Crystals:
        """The chosen crystals, in the order asked for."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        atoms = np.concatenate(
            [np.arange(self.ptr[i], self.ptr[i + 1]) for i in rows] or [np.arange(0)]
        )
        return Crystals(
            lattice=self.lattice[rows],
            frac_coords=self.frac_coords[atoms],
            atomic_numbers=self.atomic_numbers[atoms],
            ptr=np.concatenate([[0], np.cumsum(self.n_atoms[rows])]),
        )

    def __iter__(self) -> Iterator[Crystals]:
        """Crystals one at a time, each a batch of one."""
        return (self[i] for i in range(len(self)))

    # -- making --------------------------------------------------------------------------------
    @classmethod
    def empty(cls) -> Crystals:
        """A batch of no crystals."""
        return cls(
            lattice=np.zeros((0, 3, 3)),
            frac_coords=np.zeros((0, 3)),
            atomic_numbers=np.zeros(0, dtype=np.uint8),
            ptr=np.zeros(1, dtype=np.int64),
        )

    @classmethod
    def single(
        cls, lattice: ArrayLike, frac_coords: ArrayLike, atomic_numbers: ArrayLike
    ) -> Crystals:
        """A batch of one crystal from (3, 3), (n, 3) and (n,) arrays."""
        numbers = np.asarray(atomic_numbers)
        return cls(
            lattice=np.asarray(lattice, dtype=np.float64)[None],
            frac_coords=np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3),
            atomic_numbers=numbers,
            ptr=np.array([0, len(numbers)]),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Crystals]) -> Crystals:
        """One batch of all parts, in order."""
        if not parts:
            return cls.empty()
        return cls(
            lattice=np.concatenate([p.lattice for p in parts]),
            frac_coords=np.concatenate([p.frac_coords for p in parts]),
            atomic_numbers=np.concatenate([p.atomic_numbers for p in parts]),
            ptr=np.concatenate([[0], np.cumsum(np.concatenate([p.n_atoms for p in parts]))]),
        )

    def replaced(self, rows: NDArray[np.int64], others: Crystals) -> Crystals:
        """The batch with the crystals of some rows (k,) replaced by k others."""
        at = np.arange(len(self))
        at[rows] = len(self) + np.arange(len(rows))
        return Crystals.concatenate([self, others])[at]

    # -- the edge: other libraries -------------------------------------------------------------
    @classmethod
    def from_pymatgen(cls, structures: Iterable[Structure]) -> Crystals:
        """From ordered pymatgen structures; ValueError for a disordered or unknown species."""
        parts = []
        for structure in structures:
            if not structure.is_ordered:
                raise ValueError("disordered structure: a site is shared or partly occupied")
            numbers = [int(site.specie.Z) for site in structure]
            parts.append(cls.single(structure.lattice.matrix, structure.frac_coords, numbers))
        return cls.concatenate(parts)

    def to_pymatgen(self) -> list[Structure]:
        """One pymatgen Structure per crystal."""
        from pymatgen.core import Lattice, Structure

        return [
            Structure(
                Lattice(one.lattice[0]),
                [SYMBOLS[z] for z in one.atomic_numbers],
                one.frac_coords,
            )
            for one in self
        ]

    def to_ase(self) -> list[Atoms]:
        """One periodic ASE Atoms per crystal."""
        from ase import Atoms

        return [
            Atoms(
                numbers=one.atomic_numbers,
                scaled_positions=one.frac_coords,
                cell=one.lattice[0],
                pbc=True,
            )
            for one in self
        ]

    def reduced_formulas(self) -> list[str]:
        """Reduced formula of each crystal, elements in alphabetical order, e.g. ``Cl1Na1``.

        One fixed order makes it a key for look-ups; it is the integer-ratio formula, so O2 and O
        share ``O1``.
        """
        return [
            reduced_formula(self.atomic_numbers[start:stop])
            for start, stop in zip(self.ptr[:-1], self.ptr[1:], strict=True)
        ]


def wrap(frac_coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map fractional coordinates (any shape) into [0, 1): what rounds up to 1 becomes 0."""
    wrapped = np.remainder(frac_coords, 1.0)
    wrapped[wrapped >= 1.0] = 0.0
    return wrapped


def reduced_formula(atomic_numbers: NDArray[np.uint8]) -> str:
    """Canonical reduced formula of atoms (n,), as in `Crystals.reduced_formulas`."""
    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    divisor = gcd(*counts.tolist()) if len(counts) else 1
    parts = sorted((SYMBOLS[z], n // divisor) for z, n in zip(numbers, counts, strict=True))
    return "".join(f"{symbol}{n}" for symbol, n in parts)
