"""Templates: the symmetry of a crystal without its elements, free coordinates and lengths.

A template is a space group in one cell together with the sites that its atoms occupy. Operations
act on fractional coordinates as x → R x + t. The origin is that of the group's standard setting, so
that R is whole and t a fraction like 1/2 or 1/3, and the group is closed to rounding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals

SYMPREC = 0.1
"""Å: how far atoms may be from where the symmetry of a template wants them."""

WHOLE = 12
"""Makes every projector of a site whole."""

_MOST_CELLS = 24
"""Primitive cells that a stored cell may hold, to the tolerance."""

_SIX = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Places of the six numbers of a metric."""


@dataclass(frozen=True, eq=False)
class Template:
    """A space group of G operations in one cell, and the m orbits of its n atoms.

    Attributes:
        space_group: its number, 1 … 230.
        rotations: (G, 3, 3) whole numbers. translations: (G, 3) in [0, 1).
        orbit: (n,) the orbit of each atom.
        representative: (m,) an atom of each orbit.
        operation: (n,) an operation that takes the representative to the atom.
        projector: (m, 3, 3) takes a displacement to its part that the site allows.
        special: (m, 3) a point on the special position; x = special + projector e for some e.
    """

    space_group: int
    rotations: NDArray[np.int8]
    translations: NDArray[np.float64]
    orbit: NDArray[np.int64]
    representative: NDArray[np.int64]
    operation: NDArray[np.int64]
    projector: NDArray[np.float64]
    special: NDArray[np.float64]

    @property
    def n_atoms(self) -> int:
        """Atoms in the cell."""
        return len(self.orbit)

    @property
    def source(self) -> NDArray[np.int64]:
        """(n,) the representative of each atom's orbit."""
        return self.representative[self.orbit]

    @property
    def multiplicities(self) -> NDArray[np.int64]:
        """(m,) atoms in each orbit."""
        return np.bincount(self.orbit, minlength=len(self.representative))

    @cached_property
    def turns(self) -> NDArray[np.float64]:
        """(n, 3, 3): rotation of the operation that takes the representative to each atom."""
        return self.rotations[self.operation].astype(float)

    @cached_property
    def moves(self) -> NDArray[np.float64]:
        """(n, 3, 3): displacement of each atom when the representative's is proposed."""
        return self.turns @ self.projector[self.orbit]

    @cached_property
    def sites(self) -> NDArray[np.float64]:
        """(n, 3, 3): takes a displacement of each atom to its part that the atom's site allows."""
        return np.asarray(self.moves @ np.linalg.inv(self.turns))

    @cached_property
    def offsets(self) -> NDArray[np.float64]:
        """(n, 3): each atom's place when all free coordinates are 0."""
        turned = np.einsum("nij,nj->ni", self.turns, self.special[self.orbit])
        return np.asarray(turned + self.translations[self.operation])

    @cached_property
    def metric_mean(self) -> NDArray[np.float64]:
        """(6, 6): takes a metric a·a, b·b, c·c, b·c, a·c, a·b to its mean over the point group."""
        rotations = np.unique(self.rotations, axis=0).astype(float)
        mean = np.empty((6, 6))
        for column, (i, j) in enumerate(_SIX):
            metric = np.zeros((3, 3))
            metric[i, j] = metric[j, i] = 1.0
            averaged = np.einsum("gki,kl,glj->ij", rotations, metric, rotations) / len(rotations)
            mean[:, column] = [averaged[place] for place in _SIX]
        return mean

    def place(self, frac: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n, 3) with the whole symmetry, from those of the representatives.

        Args:
            frac: (n, 3) near such coordinates; only the representatives' free parts count.
        """
        moved = np.einsum("nij,nj->ni", self.moves, frac[self.source])
        return np.asarray(self.offsets + moved)

    def cell(self, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
        """The lattice (3, 3) Å with the mean metric, of the same volume and orientation P U."""
        metric = lattice @ lattice.T
        six = self.metric_mean @ np.array([metric[place] for place in _SIX])
        averaged = np.empty((3, 3))
        for value, (i, j) in zip(six, _SIX, strict=True):
            averaged[i, j] = averaged[j, i] = value
        old, new = _root(metric), _root(averaged)
        scale = (np.linalg.det(old) / np.linalg.det(new)) ** (1 / 3)
        return np.asarray(scale * new @ np.linalg.inv(old) @ lattice)


def _root(metric: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(metric)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def template_of(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    atomic_numbers: NDArray[np.uint8],
    symprec: float = SYMPREC,
) -> tuple[Template, NDArray[np.float64]]:
    """The template of one crystal and its atoms' places (n, 3) there, at the template's origin.

    The cell is kept. The group is spglib's at ``symprec`` Å, taken from its tables of groups.
    ValueError, with the reason, where there is none.
    """
    found = _dataset(lattice, frac_coords, atomic_numbers, symprec)
    inverse, cells = _whole_change(np.linalg.inv(found.transformation_matrix))
    rotations, translations = _operations(found.hall_number, inverse, cells)
    frac = frac_coords + np.linalg.inv(found.transformation_matrix) @ found.origin_shift
    images = np.einsum("gij,nj->gni", rotations, frac) + translations[:, None]
    landed = _landings(images, frac, lattice, atomic_numbers, 3 * symprec)
    source = landed.min(0)
    representative, orbit = np.unique(source, return_inverse=True)
    operation = (landed[:, source] == np.arange(len(frac))).argmax(0)
    projector = np.empty((len(representative), 3, 3))
    special = np.empty((len(representative), 3))
    back = np.rint(np.linalg.inv(rotations))
    for k, atom in enumerate(representative):
        came = np.einsum("gij,gj->gi", back, frac[landed[:, atom]] - translations) - frac[atom]
        ideal = frac[atom] + (came - np.rint(came)).mean(0)
        own = landed[:, atom] == atom
        shift = rotations[own] @ ideal + translations[own] - ideal
        projector[k] = rotations[own].mean(0)
        special[k] = (translations[own] - np.rint(shift)).mean(0)
        if len(rotations) != own.sum() * (orbit == k).sum():
            raise ValueError("the operations found do not form a group")
        frac[atom] = ideal
    template = Template(
        space_group=int(found.number),
        rotations=rotations.astype(np.int8),
        translations=translations,
        orbit=orbit,
        representative=representative,
        operation=operation,
        projector=projector,
        special=special,
    )
    return template, template.place(frac)


def _dataset(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    atomic_numbers: NDArray[np.uint8],
    symprec: float,
) -> Any:
    # spglib's C code prints its inner retries to the terminal unless told not to.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "false")
    import spglib

    cell: Any = (lattice, frac_coords, atomic_numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except spglib.SpglibError as error:
        raise ValueError(f"symmetry search failed: {error}") from None
    if found is None:
        raise ValueError("symmetry search failed")
    return found


def _whole_change(inverse: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The change of basis from the standard cell, as a matrix of fractions with one denominator."""
    for cells in range(1, _MOST_CELLS + 1):
        whole = np.rint(cells * inverse)
        if np.abs(whole - cells * inverse).max() < 0.02:
            return whole / cells, cells
    raise ValueError("the cell is not made of standard cells")


def _operations(
    hall_number: int, inverse: NDArray[np.float64], cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Operations of a tabulated group in the cell that ``inverse`` leads to, each once."""
    import spglib

    table: Any = spglib.get_symmetry_from_database(hall_number)
    forward = np.linalg.inv(inverse)
    rotations = inverse @ table["rotations"] @ forward
    kept = np.abs(rotations - np.rint(rotations)).max((1, 2)) < 1e-6
    rotations = np.rint(rotations[kept])
    translations = table["translations"][kept] @ inverse.T
    if cells > 1:  # the standard lattice has points inside this cell
        steps = np.indices((cells,) * 3).reshape(3, -1).T @ inverse.T
        steps = _distinct(steps)
        translations = (translations[:, None] + steps).reshape(-1, 3)
        rotations = np.repeat(rotations, len(steps), axis=0)
    translations -= np.floor(translations + 1e-9)
    rows = np.concatenate([rotations.reshape(-1, 9), np.rint(translations * 1e6)], axis=1)
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    return rotations[first], translations[first]


def _distinct(points: NDArray[np.float64]) -> NDArray[np.float64]:
    points = points - np.floor(points + 1e-9)
    return points[np.unique(np.rint(points * 1e6), axis=0, return_index=True)[1]]


def _landings(
    images: NDArray[np.float64],
    frac: NDArray[np.float64],
    lattice: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    tolerance: float,
) -> NDArray[np.int64]:
    """(G, n) the atom that each operation takes each atom to; ``images`` (G, n, 3)."""
    steps = images[:, :, None] - frac
    steps -= np.rint(steps)
    squared = ((steps @ lattice) ** 2).sum(-1)
    squared[:, numbers[:, None] != numbers] = np.inf
    landed = squared.argmin(-1)
    if np.take_along_axis(squared, landed[..., None], -1).max() > tolerance**2:
        raise ValueError("an operation leads away from the atoms")
    if not (np.sort(landed, axis=1) == np.arange(len(frac))).all():
        raise ValueError("two atoms land on one")
    return np.asarray(landed)


def templates_of(
    crystals: Crystals, symprec: float = SYMPREC
) -> tuple[list[Template | None], NDArray[np.float64]]:
    """The template of each of B crystals, None where there is none, and (N, 3) ideal places.

    Atoms of a crystal without a template stay where they are.
    """
    templates: list[Template | None] = []
    ideal = crystals.frac_coords.copy()
    for i in range(len(crystals)):
        atoms = slice(crystals.ptr[i], crystals.ptr[i + 1])
        try:
            template, ideal[atoms] = template_of(
                crystals.lattice[i],
                crystals.frac_coords[atoms],
                crystals.atomic_numbers[atoms],
                symprec,
            )
        except ValueError:
            templates.append(None)
        else:
            templates.append(template)
    return templates, ideal
