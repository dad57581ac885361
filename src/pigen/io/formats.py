"""Texts other than CIF to structures: POSCAR, extended XYZ, pymatgen's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pigen.io.cif import parse_cif
from pigen.io.entry import (
    ID_KEYS,
    Limits,
    Parsed,
    Refused,
    Structure,
    check_count,
    check_occupancy,
    check_size,
    checked,
    lattice_from_parameters,
    to_fractional,
)
from pigen.io.extxyz import parse_extxyz
from pigen.io.poscar import parse_poscar
from pigen.io.species import atomic_number
from pigen.runtime.bounded import parse_json as json_value


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
