"""Structures that are in memory already, as other libraries hold them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pigen.bundle import Bundle, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS
from pigen.io.entry import ID_KEYS
from pigen.io.source import Record, Source
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms


def is_object(source: object) -> bool:
    """Whether `open_objects` takes it."""
    return isinstance(source, Bundle | Crystals) or _is_pymatgen(source) or _is_ase(source)


def open_objects(objects: Sequence[object]) -> Source:
    """`Bundle`, `Crystals`, pymatgen Structures and ASE Atoms as one source.

    They go the way of files: whatever can be no crystal (a disordered site, no cell) is a reject.
    A structure is named by the key ``material_id``, ``id`` or ``entry_id`` of its ``properties``
    or ``info``, else by its place. The scalars there become columns.

    Raises:
        UsageError: anything else among the objects.
    """
    for one in objects:
        if not is_object(one):
            raise UsageError(f"cannot read structures from {type(one).__name__}")
    bundles = [one for one in objects if isinstance(one, Bundle)]
    criteria = frozenset(one for bundle in bundles for one in bundle.criteria.values())
    return Source((), _entries(objects), None, criteria)


def _entries(objects: Sequence[object]) -> Iterator[Record | Bundle]:
    for i, one in enumerate(objects):
        if isinstance(one, Bundle):
            yield one
        elif isinstance(one, Crystals):
            ids = strings(f"crystal-{k}" for k in range(len(one)))
            yield Bundle(crystals=one, ids=ids)
        elif _is_pymatgen(one):
            structure: Any = one
            text = json.dumps(structure.as_dict(), default=str)
            yield Record(_name(structure.properties, i), text, "json")
        else:
            atoms: Any = one
            yield Record(_name(atoms.info, i), _extxyz(atoms), "extxyz")


def _is_pymatgen(one: object) -> bool:
    core = sys.modules.get("pymatgen.core")  # who has a Structure has imported it
    return core is not None and isinstance(one, core.IStructure)


def _is_ase(one: object) -> bool:
    ase = sys.modules.get("ase")
    return ase is not None and isinstance(one, ase.Atoms)


def _name(facts: dict[str, Any], place: int) -> str:
    return next((str(facts[key]) for key in ID_KEYS if key in facts), f"structure-{place}")


def _extxyz(atoms: Atoms) -> str:
    """One frame with all digits; of ``info`` the scalars."""
    cell = " ".join(repr(float(x)) for x in np.asarray(atoms.cell).ravel())
    words = [f'Lattice="{cell}"', f'pbc="{" ".join("FT"[int(p)] for p in atoms.pbc)}"']
    words += ["Properties=species:S:1:pos:R:3"]
    for key, value in atoms.info.items():
        if isinstance(value, np.generic):
            value = value.item()
        name = "_".join(str(key).split())
        if isinstance(value, bool | int | float):
            words.append(f"{name}={float(value)!r}")
        elif isinstance(value, str):
            escaped = " ".join(value.split()).replace("\\", "\\\\").replace('"', '\\"')
            words.append(f'{name}="{escaped}"')
    rows = [
        f"{SYMBOLS[z] if z <= MAX_Z else f'Z={z}'} {' '.join(repr(float(x)) for x in position)}"
        for z, position in zip(atoms.numbers, atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), " ".join(words), *rows, ""])
