"""A structure that a parser has read, and the checks that it must pass."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.crystal.crystals import wrap
from pigen.crystal.elements import MAX_Z
from pigen.runtime.files import clean_text

MAX_LENGTH = 10_000.0
"""Å: no crystal has so long a period."""
MIN_VOLUME = 0.1
"""Å^3: no crystal comes near it."""
MIN_FLATNESS = 1e-4
"""Volume over a·b·c below which the cell vectors lie in a plane."""
SAME_PLACE = 0.01
"""Å: two atoms closer than this are one atom written twice."""

ID_KEYS = ("material_id", "id", "entry_id", "jid", "immutable_id")
"""Where a document or a table keeps the name of a structure."""
MAX_LINE = 2**16
"""Characters of a line of POSCAR or extended XYZ."""
EXACT_INTEGER = 2**53
"""Integers beyond this one are no exact float64; they are kept as text."""
NOTE = "import_note"
"""Column that says what was assumed when a structure was read."""


class Refused(Exception):
    """An entry that does not become a crystal. Its text is the reason: ``kind: detail``."""

    def __init__(self, reason: str) -> None:
        """Keep the reason to one line of reasonable length: it may quote a hostile file."""
        super().__init__(" ".join(clean_text(reason).split())[:200])


@dataclass(frozen=True, eq=False)
class Structure:
    """One parsed structure, not yet checked.

    Attributes:
        lattice: (3, 3) Å, rows a b c.
        frac_coords: (n, 3).
        atomic_numbers: (n,).
        values: what came with it, by column name.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    values: dict[str, float | str] = field(default_factory=dict)


Parsed = list[tuple[str, Structure | Refused]]
"""What a text held: each structure, or why it is none, with what names it.

The name is "" for the only one, "#…" for what is to follow the name of the source, and else a name
of its own.
"""


def checked(structure: Structure, limits: Limits) -> Structure:
    """The structure with coordinates in [0, 1), if it can be a crystal.

    Raises:
        Refused: empty, oversized, not finite, without volume, or with two atoms at one place.
    """
    lattice, n = structure.lattice, len(structure.atomic_numbers)
    if n == 0:
        raise Refused("empty: no atoms")
    check_size(n, limits)
    if lattice.shape != (3, 3) or structure.frac_coords.shape != (n, 3):
        raise Refused(f"no coordinates: not three numbers for each of {n} atoms")
    if not (np.isfinite(lattice).all() and np.isfinite(structure.frac_coords).all()):
        raise Refused("not finite: NaN or infinity in cell or coordinates")
    lengths = np.linalg.norm(lattice, axis=1)
    if lengths.max() > MAX_LENGTH:
        raise Refused(f"impossible cell: a vector of {lengths.max():.3g} Å")
    volume, box = abs(float(np.linalg.det(lattice))), float(lengths.prod())
    if volume < MIN_VOLUME or volume < MIN_FLATNESS * box:
        raise Refused(f"zero volume: {volume:.3g} Å^3")
    frac = wrap(structure.frac_coords)
    if n > 1:
        # Rounding gives the nearest image for distances much shorter than the cell: all we ask for.
        delta = frac[:, None] - frac
        delta -= np.round(delta)
        vectors = delta @ lattice
        squares = np.einsum("ijk,ijk->ij", vectors, vectors)
        squares.flat[:: n + 1] = np.inf
        if squares.min() < SAME_PLACE**2:
            raise Refused(f"overlapping: two atoms closer than {SAME_PLACE} Å")
    return Structure(lattice, frac, structure.atomic_numbers, structure.values)


def lattice_from_parameters(lengths: Sequence[float], angles: Sequence[float]) -> NDArray[Any]:
    """Rows a, b, c (3, 3) in Å from lengths in Å and angles in degrees: c along z, a in xz.

    Raises:
        Refused: one is missing (NaN), or no cell has these.
    """
    if not all(map(math.isfinite, (*lengths, *angles))):
        raise Refused("no cell: a length or an angle is missing")
    a, b, c = lengths
    alpha, beta, gamma = (math.radians(angle) for angle in angles)
    if (
        min(a, b, c) <= 0
        or max(a, b, c) > MAX_LENGTH
        or not all(0 < angle < math.pi for angle in (alpha, beta, gamma))
    ):
        raise Refused(f"impossible cell: {[*lengths, *angles]}")
    cos_gamma_star = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (
        math.sin(alpha) * math.sin(beta)
    )
    if not -1 < cos_gamma_star < 1:
        raise Refused(f"impossible cell: {[*lengths, *angles]}")
    sin_gamma_star = math.sqrt(1 - cos_gamma_star**2)
    return np.array(
        [
            [a * math.sin(beta), 0.0, a * math.cos(beta)],
            [
                -b * math.sin(alpha) * cos_gamma_star,
                b * math.sin(alpha) * sin_gamma_star,
                b * math.cos(alpha),
            ],
            [0.0, 0.0, c],
        ]
    )


def to_fractional(positions: NDArray[np.float64], lattice: NDArray[Any]) -> NDArray[np.float64]:
    """Fractional coordinates (…, 3) of positions in Å. Raises Refused for a flat cell."""
    try:
        return np.asarray(positions @ np.linalg.inv(lattice))
    except np.linalg.LinAlgError:
        raise Refused("zero volume: the cell vectors lie in a plane") from None


def first_lines(text: str, most: int) -> list[str]:
    """The first lines of a text, which may hold millions. Raises Refused for an endless one."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n", most)[:most]
    if not lines[-1]:
        lines.pop()
    longest = max(map(len, lines), default=0)
    if longest > MAX_LINE:
        raise Refused(f"oversized: a line of {longest} characters, MAX_LINE is {MAX_LINE}")
    return lines


def number(word: str) -> float:
    """A number as programs write it, Fortran's 1.5D+00 too. Raises ValueError for another word."""
    if "_" in word:  # Python's 1_000 is nobody else's number
        raise ValueError(f"could not convert string to float: {word[:20]!r}")
    try:
        return float(word)
    except ValueError:
        return float(word.replace("d", "e").replace("D", "e"))


def plain_number(word: str) -> float | str | None:
    """The number that a word is, None if it is none; an integer too long for a float is text."""
    if re.fullmatch(r"[+-]?\d+", word, re.ASCII):
        whole = int(word) if len(word) < 300 else None
        return word if whole is None or abs(whole) > EXACT_INTEGER else whole
    try:
        return number(word)
    except ValueError:
        return None


def check_size(n_atoms: int, limits: Limits) -> None:
    """Raise Refused if a cell has too many atoms."""
    if n_atoms > limits.max_atoms:
        raise Refused(f"oversized: {n_atoms} atoms, --max-atoms is {limits.max_atoms}")


def check_periodic(flags: Sequence[object]) -> None:
    """Raise Refused unless all three flags are true."""
    if len(flags) != 3:
        raise Refused(f"no cell: {len(flags)} flags of periodicity, three are needed")
    if not all(flags):
        kind = {0: "a molecule", 1: "a chain", 2: "a slab"}[sum(map(bool, flags))]
        shown = " ".join("T" if flag else "F" for flag in flags)
        raise Refused(f"not periodic in three directions: pbc is {shown}, {kind}")


def check_count(n: int, most: int, what: str) -> None:
    """Raise Refused if a text holds too many values or structures."""
    if n > most:
        raise Refused(f"oversized: {n} {what} in one text, more than --max-file-mib allows")


def check_number(z: float) -> int:
    """An atomic number given as a number. Raises Refused as `atomic_number`."""
    if not 1 <= z <= MAX_Z:
        raise Refused(f"unknown element: Z = {z}")
    return int(z)


def check_occupancy(occupancy: float, where: str) -> None:
    """Raise Refused unless a site is wholly one atom's."""
    if abs(occupancy - 1.0) > 1e-3:
        raise Refused(f"disordered: occupancy {occupancy:g} at {where[:20]}")
