"""A user's own energies as a reference: a CSV, or pymatgen's computed entries as JSON."""

from __future__ import annotations

import gzip
import io
import json
from math import isfinite
from pathlib import Path
from typing import Any

from pigen.descriptors.novelty import canonical_formula
from pigen.errors import UsageError
from pigen.hull.reference import Entry, Reference, read_entries


def import_reference(path: Path, level: str = "") -> Reference:
    """The reference in a file.

    Args:
        path: a CSV with the columns formula and energy (eV/atom), perhaps id; or JSON, a list of
            pymatgen's ComputedEntry or ComputedStructureEntry, whose corrected energies are taken.
            Either may be gzipped.
        level: of theory, as the source of the energies to compare with names it.

    Raises:
        UsageError: the file is of neither kind, or an entry of it is broken (named).
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if text.lstrip()[:1] in ("[", "{"):
        entries = _computed_entries(text, path)
    else:
        entries = tuple(read_entries(io.StringIO(text, newline=""), path))
    if not entries:
        raise UsageError(f"{path}: no entries")
    note = f"imported from {path.name}: {len(entries)} entries, as complete as that file"
    return Reference(entries, level, note, {"made_by": "pigen hull import", "file": path.name})


def _computed_entries(text: str, path: Path) -> tuple[Entry, ...]:
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    try:
        listed: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    if isinstance(listed, dict):
        listed = listed.get("entries", [listed])
    found = []
    for i, entry in enumerate(listed):
        try:
            kind = ComputedStructureEntry if "structure" in entry else ComputedEntry
            computed = kind.from_dict(entry)
            formula = canonical_formula(computed.composition.formula.replace(" ", ""))
            energy = float(computed.energy_per_atom)
            if not isfinite(energy):
                raise ValueError(f"energy {energy}")
        except Exception as error:  # whatever pymatgen raises on a broken entry
            raise UsageError(
                f"{path}: entry {i} is not one of pymatgen's computed entries: {error!r}"
            ) from None
        name = computed.entry_id or computed.data.get("material_id") or formula
        found.append(Entry(formula, energy, str(name)))
    return tuple(found)
