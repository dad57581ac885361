"""JSON as databases and programs write it: which documents it holds, and what each one is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pigen.config.files import Limits
from pigen.io.entry import EXACT_INTEGER, ID_KEYS, Parsed, Refused, Structure, check_count
from pigen.io.formats import reader
from pigen.io.forms.cif import parse_cif
from pigen.io.layouts import LAYOUTS
from pigen.runtime.files import parse_json as json_value

Document = tuple[str, Any]
"""What names it, in the manner of `Parsed`, and its value."""

LISTS = ("entries", "data", "structures", "response", "results", "docs", "documents", "materials")
"""Keys under which files and web services keep their list of documents."""
E_ABOVE_HULL = ("ehull", "_alexandria_hull_distance", "_oqmd_stability")
"""Names of the energy above hull, eV/atom, in JARVIS, Alexandria's and OQMD's OPTIMADE."""
_TEXTS = ("cif", "structure")
"""Where a document may keep its structure as text."""
_GENERATED = ("frac_coords", "atom_types", "num_atoms", "lengths", "angles")
"""Arrays of all structures together, as CDVAE and DiffCSP keep what they generate."""
_MISSING = ("na", "None", "")
"""What JARVIS and others write for no value."""


@reader("json", ".json")
def parse_json(text: str, limits: Limits) -> Parsed:
    """Every structure of a JSON text, or of one JSON text a line; `docs/inputs.md` has the layouts.

    The scalars of a document become values, those of its ``data`` and of its structure's
    ``properties`` too.

    Raises:
        Refused: it is no JSON, or of no layout that is known.
    """
    check_count(sum(map(text.count, ",[{")), limits.max_values, "values")
    found: Parsed = []
    for name, document in documents(load_json(text, limits.max_values)):
        check_count(len(found) + 1, limits.max_structures, "structures")
        if isinstance(document, Mapping):
            name = next((str(document[k]) for k in ID_KEYS if _is_scalar(document.get(k))), name)
        try:
            found.append((name, structure_of(document, limits)))
        except Refused as reason:
            found.append((name, reason.with_traceback(None)))
        except Exception as error:
            found.append((name, Refused(f"unreadable json: {error!r:.150}")))
    return found


def load_json(text: str, most: int) -> Any:
    """Python's value of a JSON text, or a list of those of its lines.

    Raises:
        ValueError: it is neither, is nested too deeply, or holds too many values.
    """
    try:
        return json_value(text, most)
    except json.JSONDecodeError as error:
        if "Extra data" not in error.msg:
            raise
    return [json_value(line, most) for line in text.splitlines() if line.strip()]


def documents(data: Any) -> Iterator[Document]:
    """What a JSON value holds, one structure each.

    Raises:
        Refused: it is empty, or of no layout that is known.
    """
    if not data:
        raise Refused("no structure: the JSON is empty")
    if isinstance(data, list):
        yield from ((f"#{i}", one) for i, one in enumerate(data, start=1))
    elif not isinstance(data, dict):
        raise Refused("no structure: the JSON is no object and no list")
    elif data.keys() >= set(_GENERATED):
        yield from _generated(data)
    elif is_document(data):
        yield "", data
    elif listed := next((data[key] for key in LISTS if _holds_documents(data.get(key))), None):
        yield from ((f"#{i}", one) for i, one in enumerate(_listed(data, listed), start=1))
    elif any(is_document(one) for one in data.values()):  # ids, or ASE's database
        ids = data.get("ids")
        kept = [str(i) for i in ids if str(i) in data] if isinstance(ids, list) else list(data)
        yield from ((f"#{key}" if isinstance(ids, list) else key, data[key]) for key in kept)
    elif table := next(
        (data[k] for k in (*_TEXTS, "atoms") if isinstance(data.get(k), dict)), None
    ):
        for row in table:  # a table by columns, as pandas writes it
            cells = {k: column[row] for k, column in data.items() if row in _as_dict(column)}
            yield f"#{row}", cells
    else:
        keys = ", ".join(map(str, list(data)[:5]))
        kind = data.get("@class") or data.get("@module")
        raise Refused(f"no structure: {f'a {kind}' if kind else 'JSON'} with the keys {keys[:100]}")


def is_document(data: Any) -> bool:
    """Whether a value is a structure in a known layout, or has one in it."""
    if not isinstance(data, dict):
        return False
    if any(data.keys() >= keys for keys, _ in LAYOUTS):
        return True
    if "@class" in data and "composition" in data and "energy" in data:
        return True  # an entry; it may lack its structure
    if isinstance(data.get("attributes"), dict):
        return True
    inner = next(
        (data[key] for key in ("structure", "atoms") if isinstance(data.get(key), dict)), None
    )
    if inner is not None:
        return any(inner.keys() >= keys for keys, _ in LAYOUTS) or "@class" in inner
    return any(isinstance(data.get(key), str) for key in _TEXTS)


def _holds_documents(value: Any) -> bool:
    return (isinstance(value, list) and bool(value)) or is_document(value)


def _listed(data: Mapping[str, Any], listed: Any) -> Sequence[Any]:
    """The documents of a list, or the rows of a table as pandas "splits" it."""
    if isinstance(listed, dict):
        return [listed]
    columns = data.get("columns")
    if isinstance(columns, list) and isinstance(listed[0], list):
        return [dict(zip(map(str, columns), row, strict=False)) for row in listed]
    return list(listed)


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# -- one document --------------------------------------------------------------------------------
def structure_of(document: Any, limits: Limits) -> Structure:
    """The structure in a document, with the scalars beside it.

    Raises:
        Refused: it holds none, or one that can be no crystal.
    """
    if not isinstance(document, dict):
        raise Refused("no structure: not a JSON object")
    inner, text = document, ""
    for key in ("attributes", "structure", "atoms", "cif"):
        if isinstance(document.get(key), dict):
            inner = document[key]
            break
        if key != "attributes" and isinstance(document.get(key), str) and document[key].strip():
            text = document[key]
            break
    if text and text.lstrip()[:1] == "{":
        inner, text = json_value(text, limits.max_values), ""
    structure = _of_cif(text, limits) if text else _of_layout(inner, limits)
    values = {**structure.values, **_values(document)}
    if inner is not document:
        values = {**values, **(_values(inner) if "attributes" in document else {})}
    for name in E_ABOVE_HULL:
        if name in values and not {"e_above_hull", "energy_above_hull"} & values.keys():
            values["e_above_hull"] = values.pop(name)
    return Structure(structure.lattice, structure.frac_coords, structure.atomic_numbers, values)


def _of_cif(text: str, limits: Limits) -> Structure:
    found = parse_cif(text, limits)
    if len(found) != 1:
        raise Refused(f"no structure: {len(found)} structures in one text")
    one = found[0][1]
    if isinstance(one, Refused):
        raise one
    return one


def _of_layout(data: Mapping[str, Any], limits: Limits) -> Structure:
    for layout, read in LAYOUTS:
        if data.keys() >= layout:
            return read(data, limits)
    kind = str(data.get("@class", ""))[:40]
    if kind == "ComputedEntry":
        raise Refused("no structure: a ComputedEntry has an energy alone; hull import reads it")
    if kind:
        raise Refused(f"no structure: a {kind}")
    keys = ", ".join(map(str, list(data)[:5]))
    raise Refused(f"no structure: no lattice and sites in the JSON object; its keys: {keys[:100]}")


def _values(document: Mapping[str, Any]) -> dict[str, float | str]:
    """The scalars of a document, of its ``data`` and of the ``properties`` of its structure."""
    values: dict[str, float | str] = {}
    structure = _as_dict(document.get("structure"))
    inner = ("properties", "data", "key_value_pairs")
    parts = (structure.get("properties"), *(document.get(key) for key in inner), document)
    for part in parts:
        values.update(scalars(_as_dict(part)))
    return values


def scalars(facts: Mapping[Any, Any]) -> dict[str, float | str]:
    """Numbers, flags and words among facts of a structure; names of structures are none."""
    values: dict[str, float | str] = {}
    for key, value in facts.items():
        key = str(key)
        if isinstance(value, np.generic):
            value = value.item()
        if key in ID_KEYS or key.startswith("@") or key in _TEXTS:
            continue
        if isinstance(value, bool):
            values[key] = float(value)
        elif isinstance(value, int) and abs(value) > EXACT_INTEGER:
            values[key] = str(value)[:400]
        elif isinstance(value, int | float) or (isinstance(value, str) and value not in _MISSING):
            values[key] = value
    return values


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _generated(data: Mapping[str, Any]) -> Iterator[Document]:
    """Structures of the arrays that CDVAE and DiffCSP save, with or without a batch axis."""
    frac = np.array(data["frac_coords"], dtype=np.float64).reshape(-1, 3)
    numbers = np.array(data["atom_types"], dtype=np.int64).reshape(-1)
    counts = np.array(data["num_atoms"], dtype=np.int64).reshape(-1)
    lengths, angles = (
        np.array(data[key], dtype=np.float64).reshape(-1, 3) for key in ("lengths", "angles")
    )
    if not len(frac) == len(numbers) == counts.sum() or not len(lengths) == len(angles) == len(
        counts
    ):
        raise Refused(
            f"no coordinates: {len(frac)} positions and {len(numbers)} elements of "
            f"{counts.sum()} atoms, {len(lengths)} cells of {len(counts)}"
        )
    if (counts < 0).any():
        raise Refused("no coordinates: a negative number of atoms")
    ends = np.cumsum(counts)
    for i, end in enumerate(ends.tolist()):
        part = slice(end - int(counts[i]), end)
        yield (
            f"#{i}",
            {
                "frac_coords": frac[part],
                "atom_types": numbers[part],
                "lengths": lengths[i],
                "angles": angles[i],
            },
        )
