"""POSCAR and CONTCAR: VASP 4 and 5, and the layouts of pymatgen, ASE and AFLOW."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.io.entry import (
    Parsed,
    Refused,
    Structure,
    check_size,
    first_lines,
    lattice_from_parameters,
    number,
    to_fractional,
)
from pigen.io.formats import reader
from pigen.io.species import atomic_number

_COMMENT = re.compile(r"[!#].*")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d+)+")
_TERM = re.compile(r"([A-Z][a-z]?)(\d+)")


@reader("poscar", ".vasp", ".poscar", ".contcar", names=r"(POSCAR|CONTCAR)([._-].*)?")
def parse_poscar(text: str, limits: Limits) -> Parsed:
    """The structure of a VASP POSCAR or CONTCAR.

    Symbols come from their own line (VASP 5), else from the ends of the rows, else from the comment
    if it is a list of elements that fits the counts (VASP 4).

    Raises:
        Refused: no symbols, or contradictory ones; more rows than counts, or fewer.
    """
    lines = first_lines(text, 2 * limits.max_atoms + 10)
    if len(lines) < 6:
        raise Refused(f"unreadable POSCAR: {len(lines)} lines")
    scale = _scale(lines[1])
    lattice, at = _lattice(lines)
    if len(scale) == 1 and scale[0] < 0:  # the volume
        volume = abs(float(np.linalg.det(lattice)))
        scale = [(-scale[0] / volume) ** (1 / 3)] if volume else [1.0]
    factors = np.array(scale)
    if (factors <= 0).any():
        raise Refused(f"unreadable POSCAR: scale {lines[1][:30]!r}")
    lattice = lattice * factors
    words = _words(lines, at)
    named: list[str] = []
    if words and not words[0].isdecimal():
        named, at = words, at + 1
        words = _words(lines, at)
    counts = [int(word) for word in words if word.isdecimal() and len(word) < 10]
    if not counts or len(counts) != len(words):
        shown = lines[at][:30] if at < len(lines) else ""
        raise Refused(f"unreadable POSCAR: {shown!r} where the counts of atoms belong")
    n = sum(counts)
    check_size(n, limits)
    at += 1
    if at < len(lines) and lines[at].strip()[:1].lower() == "s":  # selective dynamics
        at += 1
    cartesian = at < len(lines) and lines[at].strip()[:1].lower() in ("c", "k")
    rows = [_COMMENT.sub("", line).split() for line in lines[at + 1 : at + 1 + n]]
    if len(rows) != n or any(len(row) < 3 for row in rows):
        raise Refused(f"no coordinates: fewer than {n} rows of three")
    _check_end(lines, at + 1 + n, n)
    positions = np.array([[number(x) for x in row[:3]] for row in rows]).reshape(-1, 3)
    if cartesian:
        positions = to_fractional(positions * factors, lattice)
    numbers = _numbers(named, lines[0], counts, rows)
    return [("", Structure(lattice, positions, numbers))]


def _words(lines: Sequence[str], at: int) -> list[str]:
    """Words of a line before its comment."""
    return _COMMENT.sub("", lines[at]).split() if at < len(lines) else []


def _scale(line: str) -> list[float]:
    """One factor, or three; what follows is a comment."""
    found = []
    for word in line.split()[:3]:
        try:
            found.append(number(word))
        except ValueError:
            break
    if len(found) == 2:
        found = found[:1]
    if not found or not np.isfinite(found).all():
        raise Refused(f"unreadable POSCAR: scale {line[:30]!r}")
    return found


def _lattice(lines: Sequence[str]) -> tuple[NDArray[np.float64], int]:
    """The cell before scaling, and the line after it.

    AFLOW may write lengths and angles in one line in place of three vectors.
    """
    first = [number(x) for x in lines[2].split()[:6]] if _is_row(lines[2], 6) else []
    if first and not _is_row(lines[3], 3):
        return lattice_from_parameters(first[:3], first[3:]), 3
    try:
        rows = [[number(x) for x in line.split()[:3]] for line in lines[2:5]]
    except ValueError as error:
        raise Refused(f"unreadable POSCAR: cell: {error}") from None
    if any(len(row) != 3 for row in rows):
        raise Refused("unreadable POSCAR: fewer than three numbers in a cell vector")
    return np.array(rows), 5


def _is_row(line: str, n: int) -> bool:
    words = line.split()[:n]
    try:
        return len(words) == n and bool(np.isfinite([number(word) for word in words]).all())
    except ValueError:
        return False


def _check_end(lines: Sequence[str], at: int, n: int) -> None:
    """Velocities stand after an empty line; what follows the rows at once is another atom."""
    if at < len(lines) and _is_row(lines[at], 3):
        raise Refused(f"contradictory counts: more rows than the {n} atoms of the counts")


# -- elements ------------------------------------------------------------------------------------
def _numbers(
    named: Sequence[str], comment: str, counts: Sequence[int], rows: Sequence[Sequence[str]]
) -> NDArray[np.int64]:
    """Atomic numbers (n,) from the symbols' line, the ends of the rows, or the comment."""
    at_ends = _at_ends(rows)
    if named:
        if len(named) != len(counts):
            raise Refused(f"no elements: {len(named)} symbols for {len(counts)} counts")
        # "Fe_pv" and "Fe/1a2b" name a potential too.
        symbols = [atomic_number(word.replace("_", "/").split("/")[0]) for word in named]
    elif at_ends is not None:
        return at_ends
    else:
        symbols = _of_comment(comment, counts)
    numbers = np.repeat(np.array(symbols, dtype=np.int64), counts)
    if at_ends is not None and (numbers != at_ends).any():
        i = int((numbers != at_ends).argmax())
        raise Refused(
            f"contradictory elements: row {i + 1} ends in {SYMBOLS[at_ends[i]]}, "
            f"the symbols' line says {SYMBOLS[numbers[i]]}"
        )
    return numbers


def _at_ends(rows: Sequence[Sequence[str]]) -> NDArray[np.int64] | None:
    """Atomic numbers that the rows end with, behind the flags; None if one has no element there."""
    found = []
    for row in rows:
        rest = list(row[3:])
        if len(rest) >= 3 and all(word.strip(".").upper()[:1] in ("T", "F") for word in rest[:3]):
            rest = rest[3:]
        word = rest[0].replace("_", "/").split("/")[0] if rest else ""
        word = word.rstrip("0123456789+-")
        if word not in Z_OF:
            return None
        found.append(Z_OF[word])
    return np.array(found, dtype=np.int64)


def _of_comment(comment: str, counts: Sequence[int]) -> list[int]:
    """The elements that a comment lists, if it is a list of elements and fits the counts.

    A formula such as "Na1 Cl2" fits if its amounts are the counts, all different: else its order
    may not be theirs.
    """
    words = comment.strip().lstrip("!#").split()
    if len(words) == len(counts) and all(word in Z_OF for word in words):
        return [Z_OF[word] for word in words]
    formula = (
        "".join(words[: len(counts)]) if len(words) >= len(counts) else words[0] if words else ""
    )
    if _FORMULA.fullmatch(formula):
        terms = _TERM.findall(formula)
        fits = [int(amount) for _, amount in terms] == list(counts)
        different = len(set(counts)) == len(counts)
        if fits and different and all(symbol in Z_OF for symbol, _ in terms):
            return [Z_OF[symbol] for symbol, _ in terms]
    raise Refused(
        f"no elements: no line of symbols, and the comment {comment.strip()[:30]!r} is no list of "
        f"elements for {len(counts)} counts"
    )
