"""Texts other than CIF to structures: POSCAR, extended XYZ, pymatgen's JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pigen.io.cif import parse_cif
from pigen.io.entry import (
    Limits,
    Parsed,
    Refused,
    Structure,
    check_count,
    check_number,
    check_occupancy,
    check_size,
    checked,
    lattice_from_parameters,
    to_fractional,
)
from pigen.io.species import atomic_number
from pigen.runtime.bounded import parse_json as json_value

ID_KEYS = ("material_id", "id", "entry_id")
"""Where a document or a table keeps the name of a structure."""


def parse(text: str, form: str, limits: Limits) -> Parsed:
    """Every structure of a text in a form of `PARSERS`, checked, or the reason it is refused.

    Never raises for what the text holds: whatever goes wrong in a parser, ours or a library's, is
    the reason of a reject.
    """
    with np.errstate(all="ignore"):  # numbers beyond all bounds are refused where they end up
        try:
            found = PARSERS[form](text, limits)
        except Exception as error:
            return [("", _refusal(error, form))]
        return [(name, _check(one, form, limits)) for name, one in found]


def _check(one: Structure | Refused, form: str, limits: Limits) -> Structure | Refused:
    if isinstance(one, Refused):
        return one
    try:
        return checked(one, limits)
    except Exception as error:
        return _refusal(error, form)


def _refusal(error: Exception, form: str) -> Refused:
    if isinstance(error, Refused):
        return error.with_traceback(None)  # which would keep all that the parser held
    return Refused(f"unreadable {form}: {error or type(error).__name__}")


MAX_LINE = 2**16
"""Characters of a line of POSCAR or extended XYZ."""


def _lines(text: str, most: int) -> list[str]:
    """The first lines of a text, which may hold millions."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n", most)[:most]
    if not lines[-1]:
        lines.pop()
    longest = max(map(len, lines), default=0)
    if longest > MAX_LINE:
        raise Refused(f"oversized: a line of {longest} characters, MAX_LINE is {MAX_LINE}")
    return lines


# -- POSCAR --------------------------------------------------------------------------------------
def parse_poscar(text: str, limits: Limits) -> Parsed:
    """The structure of a VASP POSCAR or CONTCAR.

    Symbols come from their own line (VASP 5) or else from the comment (VASP 4).

    Raises:
        Refused: it names no elements, or more or fewer than it has counts.
    """
    lines = _lines(text, limits.max_atoms + 9)
    if len(lines) < 7:
        raise Refused(f"unreadable POSCAR: {len(lines)} lines")
    lattice = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
    scale = [float(x) for x in lines[1].split()[:3] if _is_number(x)]
    if len(scale) == 1 and scale[0] < 0:  # the volume
        scale = [(-scale[0] / abs(float(np.linalg.det(lattice)))) ** (1 / 3)]
    if len(scale) not in (1, 3):
        raise Refused(f"unreadable POSCAR: scale {lines[1][:30]!r}")
    factors = np.array(scale)
    lattice = lattice * factors
    has_symbols = not lines[5].split()[0].isdigit()
    symbols = lines[5 if has_symbols else 0].split()
    at = 6 if has_symbols else 5
    counts = [int(word) for word in lines[at].split() if word.isdigit()]
    if len(symbols) != len(counts):
        raise Refused(f"no elements: {len(symbols)} symbols for {len(counts)} counts")
    n = sum(counts)
    check_size(n, limits)
    at += 2 if lines[at + 1].strip()[:1].lower() == "s" else 1  # selective dynamics
    cartesian = lines[at].strip()[:1].lower() in ("c", "k")
    rows = [[float(x) for x in line.split()[:3]] for line in lines[at + 1 : at + 1 + n]]
    if len(rows) != n or any(len(row) != 3 for row in rows):
        raise Refused(f"no coordinates: fewer than {n} rows of three")
    positions = np.array(rows).reshape(-1, 3)
    if cartesian:
        positions = to_fractional(positions * factors, lattice)
    # "Fe_pv" and "Fe/1a2b" name a potential too.
    numbers = [atomic_number(symbol.replace("_", "/").split("/")[0]) for symbol in symbols]
    return [("", Structure(lattice, positions, np.repeat(numbers, counts)))]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word  # Python's 1_000 is nobody else's number


# -- extended XYZ --------------------------------------------------------------------------------
_PAIR = re.compile(
    r"""(?<![^\s"'=])([^\s="']+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|'([^']*)'|(\S+))"""
)
_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"


def parse_extxyz(text: str, limits: Limits) -> Parsed:
    """One frame of extended XYZ. Numbers and words of its comment line become values.

    Of the atoms only species and positions are read, of the comment no vectors.

    Raises:
        Refused: no cell, not periodic in three directions, or no species and positions.
    """
    lines = _lines(text, limits.max_atoms + 2)
    n = int(lines[0])
    check_size(n, limits)
    stated, values = _comment(lines[1])
    periodic = stated.get("pbc", "T T T").replace(",", " ").split()
    if "Lattice" not in stated or not all(word[:1].upper() in ("T", "1") for word in periodic):
        raise Refused("no cell: the frame is not periodic in three directions")
    lattice = np.array([float(x) for x in stated["Lattice"].split()]).reshape(3, 3)
    places = _places(stated.get("Properties", _DEFAULT_PROPERTIES))
    rows = [line.split() for line in lines[2 : 2 + n]]
    if len(rows) != n:
        raise Refused(f"no coordinates: {len(rows)} rows for {n} atoms")
    at = places["pos"]
    positions = np.array([[float(x) for x in row[at : at + 3]] for row in rows]).reshape(-1, 3)
    if "species" in places:
        numbers = [atomic_number(row[places["species"]]) for row in rows]
    else:
        numbers = [check_number(int(row[places["Z"]])) for row in rows]
    name = next((stated[key] for key in ID_KEYS if key in stated), "")
    frac = to_fractional(positions, lattice)
    return [(name, Structure(lattice, frac, np.array(numbers, dtype=np.int64), values))]


def _comment(line: str) -> tuple[dict[str, str], dict[str, float | str]]:
    """All pairs of a comment line as text, and those that are scalars of the structure.

    What stands in quotes is text even if it looks like a number: a formula may read NaN.
    """
    stated: dict[str, str] = {}
    values: dict[str, float | str] = {}
    for key, double, single, bare in _PAIR.findall(line):
        value = re.sub(r"\\(.)", r"\1", double) or single or bare
        stated[key] = value
        if key in ("Lattice", "Properties", "pbc", *ID_KEYS) or value[:1] in ("[", "{"):
            continue
        words = value.split()
        if bare and _is_number(bare):
            values[key] = float(bare)
        elif not (len(words) > 1 and all(_is_number(word) for word in words)):
            values[key] = value
    return stated, values


def _places(properties: str) -> dict[str, int]:
    """First column of each per-atom property, from e.g. "species:S:1:pos:R:3"."""
    words = properties.split(":")
    places, at = {}, 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        places[name] = at
        at += int(width)
    if "pos" not in places or not {"species", "Z"} & places.keys():
        raise Refused(f"no coordinates: Properties={properties[:60]}")
    return places


# -- pymatgen JSON -------------------------------------------------------------------------------
def parse_json(text: str, limits: Limits) -> Parsed:
    """Structures written by pymatgen: one, a list, or a mapping from id to structure.

    A structure may also stand under "structure" in a document, beside its id. The scalars among its
    "properties" become values.

    Raises:
        Refused: it holds none of these.
    """
    check_count(sum(map(text.count, ",[{")), limits.max_values, "values")
    data = json_value(text, limits.max_values)
    entries: Iterable[tuple[str, Any]] = [("", data)]
    if isinstance(data, list):
        entries = ((f"#{i}", one) for i, one in enumerate(data, start=1))
    elif isinstance(data, dict) and not ({"lattice", "structure"} & data.keys()):
        entries = data.items()
    if isinstance(data, list | dict):
        check_count(len(data), limits.max_structures, "structures")
    if not data:
        raise Refused("no structure: the JSON is empty")
    found: Parsed = []
    for name, one in entries:
        try:
            if not isinstance(one, dict):
                raise Refused("no structure: not a JSON object")
            named = next((str(one[key]) for key in ID_KEYS if key in one), name)
            found.append((named, _from_dict(one.get("structure", one), limits)))
        except Exception as error:
            found.append((name, _refusal(error, "json")))
    return found


def _from_dict(data: Mapping[str, Any], limits: Limits) -> Structure:
    if "lattice" not in data or "sites" not in data:
        raise Refused("no structure: no lattice and sites in the JSON object")
    cell, sites = data["lattice"], data["sites"]
    check_size(len(sites), limits)
    if "matrix" in cell:
        lattice = np.array(cell["matrix"], dtype=float).reshape(3, 3)
    else:
        lattice = lattice_from_parameters(
            [cell[key] for key in ("a", "b", "c")], [cell[k] for k in ("alpha", "beta", "gamma")]
        )
    frac, numbers = [], []
    for site in sites:
        species = site["species"]
        if len(species) != 1:
            raise Refused(f"disordered: {len(species)} species on one site")
        check_occupancy(float(species[0]["occu"]), str(species[0]["element"]))
        numbers.append(atomic_number(str(species[0]["element"])))
        if "abc" in site:
            frac.append(np.array(site["abc"], dtype=float))
        else:
            frac.append(to_fractional(np.array(site["xyz"], dtype=float), lattice))
    coords = np.array(frac).reshape(-1, 3)
    return Structure(lattice, coords, np.array(numbers, dtype=np.int64), _scalars(data))


def _scalars(data: Mapping[str, Any]) -> dict[str, float | str]:
    """Numbers and words among the ``properties`` of a structure."""
    stated = data.get("properties")
    values: dict[str, float | str] = {}
    for key, value in stated.items() if isinstance(stated, dict) else ():
        if isinstance(value, str):
            values[key] = value
        elif isinstance(value, bool | int | float) and abs(value) < 1e308:
            values[key] = float(value)
    return {key: value for key, value in values.items() if key not in ID_KEYS}


PARSERS: dict[str, Callable[[str, Limits], Parsed]] = {
    "cif": parse_cif,
    "poscar": parse_poscar,
    "extxyz": parse_extxyz,
    "json": parse_json,
}
"""The forms in which a structure is written as text."""
