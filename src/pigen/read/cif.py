"""CIF text to structures: gemmi reads the syntax, the crystallography is done here.

Together they are about ten times as fast as pymatgen's parser (benchmarks/read_cif.py), which stays
the reference in the tests. Unlike there, contradictions are refused, not guessed at: an unknown
space group, symmetry that does not fit the cell, an ambiguous label.
"""

from __future__ import annotations

import math
import re

import gemmi
import numpy as np
from numpy.typing import NDArray

from pigen.read.entry import (
    Limits,
    Parsed,
    Refused,
    Structure,
    atomic_number,
    check_count,
    check_occupancy,
    check_size,
    lattice_from_parameters,
    near,
)

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_H-M",
)
_NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_MAGNETIC = (
    "_space_group_symop_magn_operation.xyz",
    "_space_group_symop_magn_operation_xyz",
    "_space_group_symop.magn_operation_xyz",
)

MAX_OPERATIONS = 192
"""Of a space group in its conventional cell (Fm-3m)."""
SPECIAL_POSITION = 0.2
"""Å: images of one site closer than this are one atom on a special position, to the rounding of
the file. Atoms that really are so close share their place and have occupancies below 1."""
METRIC = 0.02
"""Relative error of the metric tensor under an operation beyond which it cannot be a symmetry."""

_UNQUOTED = re.compile(r"([ \t]*_\S+)[ \t]+([^\s'\";#][^'\"]*)")
_BLOCK = re.compile(r"[ \t]*data_\S*", re.IGNORECASE)


def parse_cif(text: str, limits: Limits) -> Parsed:
    """Every structure of a CIF, or why it is none, in the order of the blocks.

    Blocks that describe no structure (a publication's header, a powder pattern) are passed over.
    Sites of occupancy 0 are absent; deuterium and tritium become hydrogen.

    Raises:
        Refused: the text is not CIF, or no block describes a structure.
    """
    blocks = [block for block in _blocks(text, limits) if _has_structure(block)]
    check_count(len(blocks), limits.max_structures, "structures")
    if not blocks:
        raise Refused("no structure: no cell and no atoms in the file")
    found: Parsed = []
    for block in blocks:
        name = f"#{block.name}" if len(blocks) > 1 else ""
        try:
            found.append((name, _structure(block, limits)))
        except Refused as reason:
            found.append((name, reason.with_traceback(None)))
    return found


def _blocks(text: str, limits: Limits) -> list[gemmi.cif.Block]:
    if not text.isascii():  # names and comments; gemmi takes ASCII only
        text = text.replace("\u00a0", " ").encode("ascii", "replace").decode("ascii")
    check_count(_words(text), limits.max_values, "values")
    try:
        # Level 0 lets pass a repeated or missing value of a tag that may not matter to us.
        return list(gemmi.cif.read_string(text, 0))
    except (ValueError, RuntimeError):
        pass
    try:
        return list(gemmi.cif.read_string(_repaired(text), 0))
    except (ValueError, RuntimeError) as error:
        raise Refused(f"unreadable CIF: {error}") from None


def _words(text: str) -> int:
    """Words of an ASCII text, counted without making them."""
    space = np.frombuffer(text.encode(), dtype=np.uint8) <= ord(" ")
    return int(np.count_nonzero(space[:-1] & ~space[1:])) + 1


def _repaired(text: str) -> str:
    """The text with the usual slips of programs and language models mended.

    Words before the first block, code fences, and values of several words without quotes.
    """
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _BLOCK.match(line)), 0)
    return "\n".join(_mended(line) for line in lines[start:])


def _mended(line: str) -> str:
    if line.startswith(("```", "save_")):
        return ""
    block = _BLOCK.match(line)
    if block:
        return block.group()
    tag = _UNQUOTED.fullmatch(line.rstrip())
    if tag and len(tag[2].split(None, 1)) == 2:
        return f"{tag[1]} '{tag[2]}'"
    return line


def _has_structure(block: gemmi.cif.Block) -> bool:
    return any(len(block.find_values(tag)) for tag in (_LENGTHS[0], "_atom_site_fract_x"))


def _structure(block: gemmi.cif.Block, limits: Limits) -> Structure:
    lattice = lattice_from_parameters(
        [_number(block, tag) for tag in _LENGTHS], [_number(block, tag) for tag in _ANGLES]
    )
    frac, numbers = _sites(block, limits)
    operations = _operations(block, lattice)
    if len(operations) > 1:
        frac, numbers = _expand(frac, numbers, operations, lattice, limits)
    return Structure(lattice, frac, numbers)


def _number(block: gemmi.cif.Block, tag: str) -> float:
    values = block.find_values(tag)
    return float(gemmi.cif.as_number(values[0])) if len(values) else math.nan


def _sites(block: gemmi.cif.Block, limits: Limits) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    axes = [list(block.find_values(f"_atom_site_fract_{axis}")) for axis in "xyz"]
    n = len(axes[0])
    if n == 0 or any(len(axis) != n for axis in axes):
        raise Refused("no coordinates: the fractional coordinates of the atoms are missing")
    labels = [gemmi.cif.as_string(v) for v in block.find_values("_atom_site_label")]
    types = [gemmi.cif.as_string(v) for v in block.find_values("_atom_site_type_symbol")]
    occupancies = [gemmi.cif.as_number(v, 1.0) for v in block.find_values("_atom_site_occupancy")]
    if len(types) != n and len(labels) != n:
        raise Refused("no elements: the atoms have neither type symbols nor labels")
    frac: list[list[float]] = []
    numbers: list[int] = []
    for i in range(n):
        where = labels[i] if len(labels) == n else types[i]
        occupancy = occupancies[i] if len(occupancies) == n else 1.0
        if occupancy == 0:
            continue
        check_occupancy(occupancy, where)
        check_size(len(frac) + 1, limits)
        position = [gemmi.cif.as_number(axis[i]) for axis in axes]
        if not np.isfinite(position).all():
            raise Refused(f"no coordinates: of {where[:20]}")
        frac.append(position)
        known = len(types) == n and types[i] not in ("", "?", ".")
        numbers.append(atomic_number(types[i]) if known else _of_label(where))
    return np.array(frac).reshape(-1, 3), np.array(numbers, dtype=np.int64)


def _of_label(label: str) -> int:
    """Atomic number from a label like "Fe1" or "OW2", where no type symbol is given."""
    letters = re.match(r"[A-Za-z]*", label)
    word = letters.group() if letters else ""
    readings = []
    for symbol in dict.fromkeys((word[:2], word[:1])):
        try:
            readings.append(atomic_number(symbol))
        except Refused:
            continue
    if not readings:
        raise Refused(f"unknown element: {label[:20]!r}")
    # "Ca1" is calcium; "CA1" may be that or the alpha carbon.
    if len(readings) == 2 and word[1:2].isupper():
        raise Refused(f"ambiguous element: label {label[:20]!r} without a type symbol")
    return readings[0]


# -- symmetry ------------------------------------------------------------------------------------
def _operations(block: gemmi.cif.Block, lattice: NDArray[np.float64]) -> list[gemmi.Op]:
    """The symmetry operations the block states, checked against its cell."""
    operations = _stated_operations(block)
    metric = lattice @ lattice.T
    for operation in operations:
        rotation = np.array(operation.rot) / gemmi.Op.DEN
        error = np.abs(rotation.T @ metric @ rotation - metric).max()
        if error > METRIC * metric.max():
            raise Refused(f"impossible symmetry: {operation.triplet()} does not fit the cell")
    return operations


def _stated_operations(block: gemmi.cif.Block) -> list[gemmi.Op]:
    triplets = _first(block, _OPERATIONS)
    if len(triplets) > MAX_OPERATIONS:
        raise Refused(f"impossible symmetry: {len(triplets)} operations")
    if triplets:
        try:
            return [gemmi.Op(triplet) for triplet in triplets]
        except (ValueError, RuntimeError) as error:
            raise Refused(f"impossible symmetry: {error}") from error
    if _first(block, _MAGNETIC):
        raise Refused("magnetic symmetry: only nuclear structures are read")
    stated = ""
    for hall in _first(block, _HALL)[:1]:
        stated = hall
        try:
            return list(gemmi.symops_from_hall(hall))
        except (ValueError, RuntimeError):
            continue
    for name in _first(block, _HERMANN_MAUGUIN)[:1]:
        stated = name
        if group := _group(block, name):
            return list(group.operations())
    for number in _first(block, _NUMBER)[:1]:
        stated = number
        by_number = gemmi.find_spacegroup_by_number(int(number) if number.isdigit() else 0)
        if by_number is not None and (group := _group(block, by_number.hm)):
            return list(group.operations())
    if stated:
        raise Refused(f"unknown space group: {stated[:30]!r}")
    return [gemmi.Op("x,y,z")]


def _group(block: gemmi.cif.Block, name: str) -> gemmi.SpaceGroup | None:
    """The space group of a Hermann-Mauguin symbol; the angles tell R on rhombohedral axes."""
    alpha, gamma = _number(block, _ANGLES[0]), _number(block, _ANGLES[2])
    group = gemmi.find_spacegroup_by_name(name.replace("_", ""), alpha=alpha, gamma=gamma)
    if group is not None and group.ext in "12" and ":" not in name:
        raise Refused(f"ambiguous origin: {name[:30]!r} has two and no operations are listed")
    return group


def _first(block: gemmi.cif.Block, tags: tuple[str, ...]) -> list[str]:
    """Values of the first of the tags that has any."""
    for tag in tags:
        values = [gemmi.cif.as_string(value) for value in block.find_values(tag)]
        if values := [value for value in values if value not in ("", "?", ".")]:
            return values
    return []


def _expand(
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    operations: list[gemmi.Op],
    lattice: NDArray[np.float64],
    limits: Limits,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All atoms of the cell: images of the listed sites, each place once."""
    seitz = np.array([operation.float_seitz() for operation in operations])
    atoms = np.zeros((0, 3))
    elements = np.zeros(0, dtype=np.int64)
    for site, z in zip(frac, numbers, strict=True):
        # Some files list the whole cell and the symmetry too.
        same = elements == z
        if near(site, atoms[same], lattice, SPECIAL_POSITION).any():
            continue
        orbit = _orbit(seitz[:, :3, :3] @ site + seitz[:, :3, 3], lattice)
        atoms = np.concatenate([atoms, orbit])
        elements = np.concatenate([elements, np.full(len(orbit), z)])
        check_size(len(atoms), limits)
    return atoms, elements


def _orbit(images: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distinct places among the images (m, 3) of a site, each the mean of those that meet there."""
    places = []
    left = np.ones(len(images), dtype=bool)
    while left.any():
        anchor = images[np.argmax(left)]
        meeting = left & near(anchor, images, lattice, SPECIAL_POSITION)
        offsets = images[meeting] - anchor
        places.append(anchor + (offsets - np.round(offsets)).mean(axis=0))
        left &= ~meeting
    return np.array(places)
