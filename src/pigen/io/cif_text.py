"""Crystals as CIF text: all atoms in P 1, or one of each orbit with the operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pigen.config.files import Limits
from pigen.crystal.crystals import Crystals, wrap
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.symmetry import spglib_dataset
from pigen.io.cif_symmetry import Group, Sites, Stated, expand, find_group
from pigen.io.entry import Refused

SYMPREC = 0.01
"""Å: the tolerance within which symmetry is looked for when a file is written."""


@dataclass(frozen=True, eq=False)
class _Contents:
    """What a CIF lists.

    Attributes:
        lattice: (3, 3) rows in Å. frac: (n, 3). numbers: (n,) atomic numbers.
        triplets: the operations. number: of the space group. name: its symbol, "" if the cell is in
            no setting that has one. multiplicities: (n,), None if they are all 1.
    """

    lattice: NDArray[np.float64]
    frac: NDArray[np.float64]
    numbers: NDArray[np.int64]
    triplets: Sequence[str] = ("x, y, z",)
    number: int = 1
    name: str = "P 1"
    multiplicities: Sequence[int] | None = None


def to_cif(crystal: Crystals, name: str, symprec: float | None = None) -> str:
    """CIF text of one crystal.

    Args:
        crystal: a batch of one.
        name: of the block.
        symprec: None for P 1 with all atoms. Else the tolerance in Å of the symmetry search by
            spglib: the file lists the operations in the crystal's own cell, and one atom of each
            orbit, moved by less than the tolerance onto its symmetric place. The origin moves to
            one that the space group allows. If no symmetry is found, the file is in P 1.
    """
    lattice, frac = right_handed(crystal)
    numbers = crystal.atomic_numbers.astype(np.int64)
    found = _symmetric(lattice, frac, numbers, symprec) if symprec is not None else None
    return _text(found or _Contents(lattice, frac, numbers), name)


def right_handed(crystal: Crystals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) cell and (n, 3) coordinates of the same atoms in a right-handed cell.

    CIF has no left-handed cells and VASP refuses them. The cell reversed through the origin holds
    the same crystal, not its mirror image.
    """
    lattice, frac = crystal.lattice[0], crystal.frac_coords
    if np.linalg.det(lattice) < 0:
        return -lattice, wrap(-frac)
    return lattice, frac


def _text(contents: _Contents, name: str) -> str:
    lengths = np.linalg.norm(contents.lattice, axis=1)
    unit = contents.lattice / lengths[:, None]
    pairs = ((1, 2), (0, 2), (0, 1))
    angles = [np.degrees(np.arccos(np.clip(unit[i] @ unit[j], -1, 1))) for i, j in pairs]
    cell = [f"_cell_length_{axis} {x:.10f}" for axis, x in zip("abc", lengths, strict=True)]
    cell += [
        f"_cell_angle_{angle} {x:.10f}"
        for angle, x in zip(("alpha", "beta", "gamma"), angles, strict=True)
    ]
    times = contents.multiplicities
    atoms = [
        f"{SYMBOLS[z]} {SYMBOLS[z]}{i}{f' {times[i - 1]}' if times else ''} "
        f"{x:.12f} {y:.12f} {w:.12f} 1"
        for i, (z, (x, y, w)) in enumerate(
            zip(contents.numbers, contents.frac, strict=True), start=1
        )
    ]
    block = re.sub(r"[^!-~]", "_", name)[:75]
    return "\n".join(
        [
            f"data_{block}",
            *cell,
            *([f"_symmetry_space_group_name_H-M '{contents.name}'"] if contents.name else []),
            f"_symmetry_Int_Tables_number {contents.number}",
            "loop_",
            "_symmetry_equiv_pos_as_xyz",
            *(f"'{triplet}'" for triplet in contents.triplets),
            "loop_",
            "_atom_site_type_symbol",
            "_atom_site_label",
            *(["_atom_site_symmetry_multiplicity"] if times else []),
            "_atom_site_fract_x",
            "_atom_site_fract_y",
            "_atom_site_fract_z",
            "_atom_site_occupancy",
            *atoms,
            "",
        ]
    )


# -- symmetry ------------------------------------------------------------------------------------
def _symmetric(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    symprec: float,
) -> _Contents | None:
    """One atom of each orbit and the operations; None if no symmetry holds within symprec."""
    try:
        dataset = spglib_dataset((lattice, frac, numbers), symprec)
        if dataset.number == 1 and len(dataset.rotations) == 1:
            return None
        origin = np.linalg.solve(dataset.transformation_matrix, dataset.origin_shift)
        group = _operations(dataset.rotations, dataset.translations, origin, lattice, symprec)
        moved = wrap(frac + origin)
        metric = _mean_metric(lattice @ lattice.T, group)
        cell = np.asarray(np.linalg.cholesky(metric), dtype=np.float64)
        orbits = np.asarray(dataset.crystallographic_orbits)
        first, times = np.unique(orbits, return_counts=True)
        sites = Sites(
            [""] * len(first), moved[first], numbers[first], np.zeros((len(first), 3)), times
        )
        atoms, elements, _ = expand(sites, group, cell, Limits(max_atoms=len(frac)))
    except (ValueError, Refused, np.linalg.LinAlgError):
        return None
    if group.number != dataset.number or not _same(atoms, elements, moved, numbers, cell, symprec):
        return None
    starts = np.cumsum([0, *times])[:-1]
    ops = [
        gemmi_op(rotation, translation)
        for rotation, translation in zip(group.rotations, group.translations, strict=True)
    ]
    known = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(ops))
    return _Contents(
        cell,
        wrap(atoms[starts]),
        elements[starts],
        [op.triplet() for op in ops],
        group.number,
        known.xhm() if known is not None else "",
        times.tolist(),
    )


def gemmi_op(rotation: ArrayLike, translation: ArrayLike) -> gemmi.Op:
    """An operation of (3, 3) and (3,), its translation rounded to a 24th."""
    op = gemmi.Op("x,y,z")
    op.rot = (np.rint(rotation).astype(int) * gemmi.Op.DEN).tolist()
    op.tran = (np.rint(np.asarray(translation) * gemmi.Op.DEN).astype(int) % gemmi.Op.DEN).tolist()
    return op


def _operations(
    rotations: NDArray[np.int64],
    translations: NDArray[np.float64],
    origin: NDArray[np.float64],
    lattice: NDArray[np.float64],
    symprec: float,
) -> Group:
    """The group of spglib's operations after a shift of the origin.

    Raises:
        Refused: a translation is no 24th, as in some supercells, or they make no group.
    """
    shifted = translations + origin - rotations @ origin
    off = shifted * gemmi.Op.DEN - np.rint(shifted * gemmi.Op.DEN)
    if np.linalg.norm(off / gemmi.Op.DEN @ lattice, axis=1).max() > 2 * symprec:
        raise Refused("impossible symmetry: a translation that no triplet can say")
    triplets = (gemmi_op(r, t).triplet() for r, t in zip(rotations, shifted, strict=True))
    return find_group(Stated(tuple(triplets)), lattice)


def _mean_metric(metric: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
    """The metric tensor (3, 3) that every operation leaves as it is, nearest to a given one."""
    rotations = group.rotations
    return np.asarray((rotations.transpose(0, 2, 1) @ metric @ rotations).mean(axis=0))


def _same(
    atoms: NDArray[np.float64],
    elements: NDArray[np.int64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    lattice: NDArray[np.float64],
    symprec: float,
) -> bool:
    """Whether two lists of atoms are the same within 2 symprec, in any order."""
    if len(atoms) != len(frac):
        return False
    delta = atoms[:, None] - frac
    delta -= np.round(delta)
    near = np.linalg.norm(delta @ lattice, axis=-1) < 2 * symprec
    near &= elements[:, None] == numbers
    return bool((near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all())
