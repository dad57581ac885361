"""Structures that are in memory already: those of pymatgen, ASE and PIGEN."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pigen.bundle import Bundle, strings
from pigen.config.files import Limits
from pigen.crystal.crystals import Crystals
from pigen.io.chunk import Found
from pigen.io.entry import (
    ID_KEYS,
    Refused,
    Structure,
    check_number,
    check_occupancy,
    check_periodic,
    checked,
    to_fractional,
)
from pigen.io.files import Source, clean_name
from pigen.io.forms.documents import scalars
from pigen.io.species import atomic_number
from pigen.runtime.errors import UsageError

_CHUNK = 1000
"""Structures in a chunk."""


def is_object(source: object) -> bool:
    """Whether an object is one that `open_objects` takes."""
    return isinstance(source, Bundle | Crystals) or _is_pymatgen(source) or _is_ase(source)


def open_objects(objects: Sequence[object], limits: Limits) -> Source:
    """`Bundle`, `Crystals`, pymatgen Structures and ASE Atoms as one source.

    They are checked as files are: what is not a crystal (a disordered site, no cell) is a reject.
    A structure is named by the key ``material_id``, ``id`` or ``entry_id`` of its ``properties``
    or ``info``, else by its place. The scalars there become columns.

    Raises:
        UsageError: an object is of another type.
    """
    for one in objects:
        if not is_object(one):
            raise UsageError(f"cannot read structures from {type(one).__name__}")
    bundles = [one for one in objects if isinstance(one, Bundle)]
    criteria = frozenset(one for bundle in bundles for one in bundle.criteria.values())
    return Source((), _chunks(objects, limits), None, criteria)


def _chunks(objects: Sequence[object], limits: Limits) -> Iterator[Bundle]:
    found = Found()
    for i, one in enumerate(objects):
        if isinstance(one, Bundle | Crystals):
            if found.ids or found.rejects:
                yield found.bundle({})
                found = Found()
            if isinstance(one, Crystals):
                one = Bundle(crystals=one, ids=strings(f"crystal-{k}" for k in range(len(one))))
            yield one
            continue
        facts: Any = one.properties if _is_pymatgen(one) else one.info  # type: ignore[attr-defined]
        key = next((str(facts[key]) for key in ID_KEYS if key in facts), f"structure-{i}")
        found.add(clean_name(key, f"structure-{i}"), _structure(one, limits))
        if len(found.ids) >= _CHUNK:
            yield found.bundle({})
            found = Found()
    if found.ids or found.rejects:
        yield found.bundle({})


def _structure(one: object, limits: Limits) -> Structure | Refused:
    """A structure of another library, checked, or why it is no crystal."""
    try:
        with np.errstate(all="ignore"):
            return checked(_of_pymatgen(one) if _is_pymatgen(one) else _of_ase(one), limits)
    except Refused as reason:
        return reason.with_traceback(None)
    except Exception as error:
        return Refused(f"unreadable {type(one).__name__}: {error!r:.150}")


def _of_pymatgen(structure: Any) -> Structure:
    check_periodic(structure.lattice.pbc)
    numbers = []
    for site in structure:
        species = site.species
        if len(species) != 1:
            raise Refused(f"disordered: {len(species)} species on one site")
        ((specie, amount),) = species.items()
        check_occupancy(float(amount), str(specie))
        numbers.append(atomic_number(specie.symbol))
    return Structure(
        np.array(structure.lattice.matrix, dtype=np.float64),
        np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3),
        np.array(numbers, dtype=np.int64),
        scalars(structure.properties),
    )


def _of_ase(atoms: Any) -> Structure:
    lattice = np.array(atoms.cell, dtype=np.float64)
    if not lattice.any():
        raise Refused("no cell: the Atoms have none")
    check_periodic(atoms.pbc.tolist())
    numbers = [check_number(int(z)) for z in atoms.numbers]
    frac = to_fractional(np.array(atoms.positions, dtype=np.float64), lattice)
    return Structure(lattice, frac, np.array(numbers, dtype=np.int64), scalars(atoms.info))


def _is_pymatgen(one: object) -> bool:
    core = sys.modules.get("pymatgen.core")  # who has a Structure has imported it
    return core is not None and isinstance(one, core.IStructure)


def _is_ase(one: object) -> bool:
    ase = sys.modules.get("ase")
    return ase is not None and isinstance(one, ase.Atoms)
