"""One frame of extended XYZ, as its specification and the programs that write it have it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.io.entry import (
    ID_KEYS,
    Parsed,
    Refused,
    Structure,
    check_number,
    check_periodic,
    check_size,
    first_lines,
    number,
    plain_number,
    to_fractional,
)
from pigen.io.formats import reader
from pigen.io.species import atomic_number

_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
_NAMES = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
"""Keys that describe the frame, in lower case."""
_TOKEN = re.compile(
    r"""
    \s*(?P<key>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s=,"'\[\]{}]+)
    (?:\s*=\s*(?P<value>
        "(?:[^"\\]|\\.)*" | '[^']*' | \{[^{}]*\} | \[(?:[^\[\]]|\[[^\[\]]*\])*\]
        | (?:[^\s"'\\]|\\.)\S* ))?
    """,
    re.VERBOSE,
)
_TRUE, _FALSE = ("t", "true", "1"), ("f", "false", "0")


@reader("extxyz", ".xyz", ".extxyz")
def parse_extxyz(text: str, limits: Limits) -> Parsed:
    """One frame. Numbers, words and flags of its comment line become values.

    Of the atoms only species and positions are read, of the comment no vectors.

    Raises:
        Refused: no cell, not periodic in three directions, or no species and positions.
    """
    lines = first_lines(text, limits.max_atoms + 2)
    n = int(lines[0])
    check_size(n, limits)
    stated, values = _comment(lines[1] if len(lines) > 1 else "")
    lattice = _lattice(stated)
    rows = [line.split() for line in lines[2 : 2 + n]]
    if len(rows) != n:
        raise Refused(f"no coordinates: {len(rows)} rows for {n} atoms")
    places = _places(stated.get("Properties", _DEFAULT_PROPERTIES))
    at = places["pos"]
    if any(len(row) < at + 3 for row in rows):
        raise Refused(
            f"no coordinates: a row of fewer columns than {stated.get('Properties')!r:.60}"
        )
    positions = np.array([[number(x) for x in row[at : at + 3]] for row in rows]).reshape(-1, 3)
    if "species" in places:
        numbers = [_species(row[places["species"]]) for row in rows]
    else:
        numbers = [check_number(int(row[places["z"]])) for row in rows]
    name = next((stated[key] for key in ID_KEYS if key in stated), "")
    frac = to_fractional(positions, lattice)
    return [(name, Structure(lattice, frac, np.array(numbers, dtype=np.int64), values))]


def _species(word: str) -> int:
    return check_number(int(word)) if word.isdecimal() else atomic_number(word)


def _comment(line: str) -> tuple[dict[str, str], dict[str, float | str]]:
    """All pairs of a comment line as text, and those that are scalars of the structure.

    What stands in quotes is text even if it looks like a number: a formula may read NaN.
    """
    stated: dict[str, str] = {}
    values: dict[str, float | str] = {}
    at = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:  # a stray comma or bracket
            at += 1
            continue
        at = found.end()
        key, written = _text(found["key"]), found["value"]
        if not key:
            continue
        value = "T" if written is None else _text(written)
        key = _NAMES.get(key.lower(), key)
        stated[key] = value
        if key in (*_NAMES.values(), *ID_KEYS) or written is None:
            continue
        scalar = _scalar(written, value)
        if scalar is not None:
            values[key] = scalar
    return stated, values


def _text(written: str) -> str:
    """A key or a value without its quotes or brackets."""
    if written[:1] == '"' and written[-1:] == '"' and len(written) > 1:
        return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], written[1:-1])
    if written[:1] in ("'", "{") and len(written) > 1:
        return written[1:-1].strip()
    return written


def _scalar(written: str, value: str) -> float | str | None:
    """The number or text of a value; None for a list."""
    if written[0] == "[":
        return None
    words = value.split()
    if written[0] == "{" and len(words) != 1:
        return None
    if written[0] not in "\"'":
        plain = plain_number(value)
        return value if plain is None else plain
    if len(words) > 1 and all(plain_number(word) is not None for word in words):
        return None
    return value


def _lattice(stated: dict[str, str]) -> NDArray[np.float64]:
    """The cell (3, 3): nine numbers, three rows in brackets, or the three of a box."""
    if "Lattice" not in stated:
        raise Refused("no cell: the comment line has no Lattice")
    words = re.sub(r"[\[\],;]", " ", stated["Lattice"]).split()
    try:
        numbers = [number(word) for word in words]
    except ValueError:
        raise Refused(f"no cell: Lattice={stated['Lattice'][:60]!r}") from None
    if len(numbers) == 3:
        lattice: NDArray[Any] = np.diag(numbers)
    elif len(numbers) == 9:
        lattice = np.array(numbers).reshape(3, 3)
    else:
        raise Refused(f"no cell: {len(numbers)} numbers in Lattice, nine are needed")
    periodic = re.sub(r"[\[\],;]", " ", stated.get("pbc", "T T T")).lower().split()
    periodic = periodic * 3 if len(periodic) == 1 else periodic
    if len(periodic) != 3 or set(periodic) - {*_TRUE, *_FALSE}:
        raise Refused(f"no cell: pbc={stated['pbc'][:30]!r}, three of T and F are needed")
    check_periodic([word in _TRUE for word in periodic])
    return lattice


def _places(properties: str) -> dict[str, int]:
    """First column of each per-atom property, in lower case, e.g. of "species:S:1:pos:R:3"."""
    words = properties.split(":")
    places: dict[str, int] = {}
    at = 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        places.setdefault(name.lower(), at)
        at += int(width)
    for names, known in ((("positions",), "pos"), (("symbols", "element", "elements"), "species")):
        for name in names:
            if name in places:
                places.setdefault(known, places[name])
    if "numbers" in places:
        places.setdefault("z", places["numbers"])
    if "pos" not in places or not {"species", "z"} & places.keys():
        raise Refused(f"no coordinates: Properties={properties[:60]}")
    return places
