"""Templates of many crystals in one small file, with numbers that say how likely each is."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, mendeleev_numbers
from pigen.crystal.templates import Template
from pigen.runtime.errors import UsageError
from pigen.runtime.files import write_atomically

FORMAT = "pigen-templates-2"
FILE_NAME = "templates.npz"
"""Of the library of a training set, beside the model that was trained on it."""

_SHAPES = {
    "number": 1, "operations_ptr": 1, "rotations": 3, "translations": 2, "group": 1, "atoms_ptr": 1,
    "orbit": 1, "operation": 1, "orbits_ptr": 1, "projector": 1, "projectors": 3, "special": 1,
    "specials": 2, "element": 1, "labels": 2,
}  # fmt: skip
"""Dimensions of each array."""


@dataclass(frozen=True, eq=False)
class TemplateLibrary:
    """M templates with a row of labels each.

    What templates share is kept once: groups (operations in one cell), projectors, special points.

    Attributes:
        number: (S,) space group of each group. operations_ptr: (S + 1,) where its operations begin.
        rotations: (K, 3, 3). translations: (K, 3).
        group: (M,). atoms_ptr, orbits_ptr: (M + 1,). orbit, operation: (N,), see `Template`.
        projector, special: (O,) rows of ``projectors`` and ``specials``.
        element: (O,) atomic number on the orbit in the structure that the template is of: no part
            of the template, it says how likely the template is for a composition.
        labels: (M, n_labels), NaN where missing. names: of the labels.
    """

    number: NDArray[np.int64]
    operations_ptr: NDArray[np.int64]
    rotations: NDArray[np.int8]
    translations: NDArray[np.float64]
    group: NDArray[np.int64]
    atoms_ptr: NDArray[np.int64]
    orbit: NDArray[np.int64]
    operation: NDArray[np.int64]
    orbits_ptr: NDArray[np.int64]
    projector: NDArray[np.int64]
    projectors: NDArray[np.float64]
    special: NDArray[np.int64]
    specials: NDArray[np.float64]
    element: NDArray[np.int64]
    labels: NDArray[np.float64]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        crystals: Crystals,
        templates: Sequence[Template | None],
        labels: NDArray[np.float64],
        names: Sequence[str],
    ) -> TemplateLibrary:
        """From crystals, what `templates_of` says of them, and their labels (B, names).

        One of them at least has a template.
        """
        groups: dict[bytes, int] = {}
        operations: list[Template] = []
        rows, group, elements = [], [], []
        for i, template in enumerate(templates):
            if template is None:
                continue
            rows.append(i)
            key = template.rotations.tobytes() + np.rint(template.translations * 1e6).tobytes()
            group.append(groups.setdefault(key, len(groups)))
            if len(groups) > len(operations):
                operations.append(template)
            elements.append(crystals.atomic_numbers[crystals.ptr[i] + template.representative])
        kept = [template for template in templates if template is not None]
        projectors, projector = _once([t.projector.reshape(-1, 9) for t in kept], 9)
        specials, special = _once([t.special for t in kept], 3)
        return cls(
            number=np.array([t.space_group for t in operations], dtype=np.int64),
            operations_ptr=_pointers([len(t.rotations) for t in operations]),
            rotations=np.concatenate(
                [np.zeros((0, 3, 3), "i1"), *(t.rotations for t in operations)]
            ),
            translations=np.concatenate([np.zeros((0, 3)), *(t.translations for t in operations)]),
            group=np.array(group, dtype=np.int64),
            atoms_ptr=_pointers([t.n_atoms for t in kept]),
            orbit=np.concatenate([t.orbit for t in kept]),
            operation=np.concatenate([t.operation for t in kept]),
            orbits_ptr=_pointers([len(t.representative) for t in kept]),
            projector=projector,
            projectors=projectors.reshape(-1, 3, 3),
            special=special,
            specials=specials,
            element=np.concatenate(elements).astype(np.int64),
            labels=labels[rows],
            names=tuple(names),
        )

    def __len__(self) -> int:
        """Number of templates M."""
        return len(self.group)

    def __getitem__(self, row: int) -> Template:
        """One of them."""
        group = self.group[row]
        operations = slice(self.operations_ptr[group], self.operations_ptr[group + 1])
        orbit = self.orbit[self.atoms_ptr[row] : self.atoms_ptr[row + 1]]
        orbits = slice(self.orbits_ptr[row], self.orbits_ptr[row + 1])
        return Template(
            space_group=int(self.number[group]),
            rotations=self.rotations[operations],
            translations=self.translations[operations],
            orbit=orbit,
            representative=np.unique(orbit, return_index=True)[1],
            operation=self.operation[self.atoms_ptr[row] : self.atoms_ptr[row + 1]],
            projector=self.projectors[self.projector[orbits]],
            special=self.specials[self.special[orbits]],
        )

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """(M,) atoms of each."""
        return np.diff(self.atoms_ptr)

    @property
    def space_group(self) -> NDArray[np.int64]:
        """(M,) space group of each."""
        return self.number[self.group]

    @cached_property
    def multiplicities(self) -> list[tuple[int, ...]]:
        """Atoms in each orbit of each template."""
        starts = np.repeat(self.orbits_ptr[:-1], self.n_atoms)
        counts = np.bincount(starts + self.orbit, minlength=self.orbits_ptr[-1])
        return [tuple(part.tolist()) for part in np.split(counts, self.orbits_ptr[1:-1])]

    def elements(self, row: int) -> NDArray[np.int64]:
        """Atomic number on each orbit in the structure that a template is of."""
        return self.element[self.orbits_ptr[row] : self.orbits_ptr[row + 1]]

    @cached_property
    def element_shares(self) -> NDArray[np.float64]:
        """Share of all atoms, by atomic number, in the structures that the templates are of."""
        atoms = [size for sizes in self.multiplicities for size in sizes]
        counts = np.bincount(self.element, weights=atoms)
        return np.asarray(counts / counts.sum())

    @cached_property
    def of_counts(self) -> dict[tuple[int, ...], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Sorted numbers of atoms of k elements → rows (R,) of the structures that have them.

        With their elements (R, k): those with fewer atoms first, of as many metals first.
        """
        place = mendeleev_numbers()
        found: dict[tuple[int, ...], tuple[list[int], list[list[int]]]] = {}
        for row, sizes in enumerate(self.multiplicities):
            counts: Counter[int] = Counter()
            for z, size in zip(self.elements(row).tolist(), sizes, strict=True):
                counts[z] += size
            ordered = sorted(counts, key=lambda z: (counts[z], place[z]))
            rows, elements = found.setdefault(tuple(counts[z] for z in ordered), ([], []))
            rows.append(row)
            elements.append(ordered)
        return {key: (np.array(rows), np.array(zs)) for key, (rows, zs) in found.items()}

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickles."""
        arrays: dict[str, Any] = {name: _narrow(getattr(self, name)) for name in _SHAPES}
        arrays["labels"] = self.labels.astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, format=FORMAT, names=np.array(self.names, dtype=str), **arrays)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> TemplateLibrary:
        """Read what `save` wrote; UsageError if it is anything else."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if str(file["format"]) != FORMAT:
                    raise ValueError(f"format {file['format']}")
                arrays: dict[str, Any] = {name: _wide(file[name]) for name in _SHAPES}
                names = tuple(map(str, file["names"]))
        except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
            said = " ".join(str(error).split())[:200]
            raise UsageError(f"{path}: not a library of templates ({said})") from None
        library = cls(**arrays, names=names)
        library._check(path)
        return library

    def _check(self, path: Path) -> None:
        """UsageError unless every number that leads to another array leads into it."""
        m = len(self)
        into = (
            (self.group, len(self.number)),
            (self.projector, len(self.projectors)),
            (self.special, len(self.specials)),
            (self.element, MAX_Z + 1),
        )
        fine = all(getattr(self, name).ndim == ndim for name, ndim in _SHAPES.items())
        fine = fine and all(not len(a) or (a.min() >= 0 and a.max() < n) for a, n in into)
        fine = fine and len(self.atoms_ptr) == len(self.orbits_ptr) == m + 1
        fine = fine and self.labels.shape == (m, len(self.names))
        ends = (
            (self.atoms_ptr, len(self.orbit)),
            (self.atoms_ptr, len(self.operation)),
            (self.orbits_ptr, len(self.element)),
            (self.operations_ptr, len(self.rotations)),
        )
        fine = fine and all(p[0] == 0 and p[-1] == n and (np.diff(p) > 0).all() for p, n in ends)
        if not fine:
            raise UsageError(f"{path}: not a library of templates (arrays that do not fit)")


def _pointers(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _once(
    parts: Sequence[NDArray[np.float64]], width: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct rows, to 1e-9, of all parts, and which of them each row is."""
    rows = np.concatenate(parts).reshape(-1, width)
    keys = np.rint(rows * 1e9).astype(np.int64)
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return rows[first], which.reshape(-1)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers from 0 on in the smallest type that holds them."""
    if array.dtype != np.int64:
        return array
    return array.astype(np.min_scalar_type(int(array.max())))


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.int8:  # rotations
        return array
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
