"""A user's own energies as a reference: a CSV, or pymatgen's computed entries as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pigen.config.files import MIN_VALUE_BYTES
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.formulas import TERM, canonical_formula
from pigen.energy.hull.reference import Entry, Reference, read_entries
from pigen.io.entry import Refused
from pigen.io.source import clean_name
from pigen.io.species import atomic_number
from pigen.runtime.bounded import MAX_SIDE_FILE_BYTES, parse_json, read_text
from pigen.runtime.errors import UsageError

_BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def import_reference(
    path: Path, level: str = "", max_bytes: int = MAX_SIDE_FILE_BYTES
) -> Reference:
    """The reference in a file.

    Args:
        path: a CSV with the columns formula and energy (or formation_energy_per_atom; eV/atom),
            perhaps id; or JSON, a list of
            pymatgen's ComputedEntry or ComputedStructureEntry, whose corrected energies are taken.
            Either may be gzipped.
        level: of theory, as the source of the energies to compare with names it.
        max_bytes: of the file, unpacked.

    Raises:
        UsageError: the file is of neither kind, or an entry of it is broken (named).
    """
    try:
        text = read_text(path, max_bytes, "--max-file-mib")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if text.lstrip()[:1] in ("[", "{"):
        entries = _computed_entries(text, path, max_bytes // MIN_VALUE_BYTES)
    else:
        entries = tuple(read_entries(io.StringIO(text, newline=""), path))
    if not entries:
        raise UsageError(f"{path}: no entries")
    note = f"imported from {path.name}: {len(entries)} entries, as complete as that file"
    return Reference(entries, level, note, {"made_by": "pigen hull import", "file": path.name})


def _computed_entries(text: str, path: Path, most: int) -> tuple[Entry, ...]:
    """Entries of pymatgen's JSON, read as plain data: its own decoder imports what a file names."""
    try:
        listed: Any = parse_json(text, most)
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    if isinstance(listed, dict):
        listed = listed.get("entries", [listed])
    if not isinstance(listed, list):
        raise UsageError(f"{path}: expected a list of pymatgen's computed entries")
    found = []
    for i, entry in enumerate(listed):
        try:
            found.append(_entry(entry))
        except (*_BROKEN, Refused) as error:
            raise UsageError(
                f"{path}: entry {i} is not one of pymatgen's computed entries: {error!r:.200}"
            ) from None
    return tuple(found)


def _entry(entry: Mapping[str, Any]) -> Entry:
    """One entry: its energy is uncorrected, and ``correction`` sums all adjustments."""
    amounts = entry.get("composition") or _composition(entry["structure"])
    if isinstance(amounts, str):
        amounts = {symbol: float(n or 1) for symbol, n in TERM.findall(amounts)}
    amounts = {str(symbol): float(n) for symbol, n in amounts.items() if float(n)}
    n_atoms = sum(amounts.values())
    if not all(n > 0 and n == int(n) for n in amounts.values()):
        raise ValueError("no whole numbers of atoms")
    formula = canonical_formula("".join(f"{symbol}{int(n)}" for symbol, n in amounts.items()))
    energy = (float(entry["energy"]) + float(entry.get("correction") or 0)) / n_atoms
    if not isfinite(energy):
        raise ValueError(f"energy {energy}")
    name = entry.get("entry_id") or (entry.get("data") or {}).get("material_id") or formula
    return Entry(formula, energy, clean_name(name, formula))


def _composition(structure: Mapping[str, Any]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for site in structure["sites"]:
        for species in site["species"]:
            symbol = SYMBOLS[atomic_number(str(species["element"]))]
            amounts[symbol] = amounts.get(symbol, 0.0) + float(species["occu"])
    return amounts
