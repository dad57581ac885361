"""A chunk of a stream, from the structures that were read and the entries that were refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pigen.bundle import Bundle, Column, Reject, strings
from pigen.crystal.crystals import Crystals
from pigen.io.entry import Refused, Structure
from pigen.io.tables import DESCRIPTOR_COLUMNS, MAX_COLUMNS, UNITS
from pigen.runtime.files import clean_text


@dataclass
class Found:
    """The structures and rejects that were read so far.

    Attributes:
        ids: of the structures. structures: checked ones. rejects: entries that became none.
    """

    ids: list[str] = field(default_factory=list)
    structures: list[Structure] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def add(self, key: str, one: Structure | Refused) -> bool:
        """Take in an entry of this name; return whether it is a structure."""
        if isinstance(one, Structure) and len(self._names | one.values.keys()) > MAX_COLUMNS:
            one = Refused(f"oversized: more than {MAX_COLUMNS} values by name (MAX_COLUMNS)")
        if isinstance(one, Refused):
            self.rejects.append(Reject(key, str(one)))
            return False
        self._names.update(one.values)
        self.ids.append(key)
        self.structures.append(one)
        return True

    def bundle(self, columns: Mapping[str, Column]) -> Bundle:
        """The chunk, with these columns and those of the structures' values."""
        columns = {**columns, **_value_columns(self.structures)}
        parents = columns.pop("parent", None)
        return Bundle(
            crystals=_crystals(self.structures),
            ids=strings(self.ids),
            parents=parents.values if parents and parents.kind == "str" else strings([]),
            columns=columns,
            rejects=tuple(self.rejects),
        )


def _crystals(structures: Sequence[Structure]) -> Crystals:
    if not structures:
        return Crystals.empty()
    return Crystals(
        lattice=np.array([s.lattice for s in structures]),
        frac_coords=np.concatenate([s.frac_coords for s in structures]),
        atomic_numbers=np.concatenate([s.atomic_numbers for s in structures]).astype(np.uint8),
        ptr=np.cumsum([0, *(len(s.atomic_numbers) for s in structures)]),
    )


def column_of(name: str, kind: str, values: Sequence[str | float]) -> Column:
    """A column of values that came from outside."""
    unit = UNITS.get(name, "")
    if kind == "float64":
        return Column(np.array(values, dtype=np.float64), unit, "imported")
    return Column(strings(clean_text(str(value)) for value in values), unit, "imported")


def _value_columns(structures: Sequence[Structure]) -> dict[str, Column]:
    """Columns from what came with the structures: scalars of a comment line or a document."""
    keys = dict.fromkeys(key for structure in structures for key in structure.values)
    columns = {}
    for key in keys:
        values = [structure.values.get(key) for structure in structures]
        text = any(isinstance(value, str) for value in values)
        missing: str | float = "" if text else np.nan
        name = clean_text(key).replace("/", "_").strip()
        name = "value" if name in ("", ".") else name
        name = f"imported_{name}" if name in DESCRIPTOR_COLUMNS else name
        # In a column of texts a bare NaN is a formula: sodium nitride's.
        words = ["NaN" if text and value != value else value for value in values]
        filled = [missing if word is None else word for word in words]
        columns[name] = column_of(name, "str" if text else "float64", filled)
    return columns
