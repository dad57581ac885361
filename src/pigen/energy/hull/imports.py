"""A user's own energies as a reference: a CSV, JSON as databases write it, or structures."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from pigen.config.files import MIN_VALUE_BYTES, Limits
from pigen.crystal.elements import SYMBOLS, TERM, canonical_formula, formula_amounts
from pigen.energy.hull.reference import Entry, Reference, read_entries
from pigen.io import open_source, read, stream
from pigen.io.entry import ID_KEYS, Refused
from pigen.io.files import clean_name
from pigen.io.forms.documents import documents, load_json, structure_of
from pigen.runtime.errors import UsageError
from pigen.runtime.files import MAX_SIDE_FILE_BYTES, read_text

PER_ATOM = ("energy_per_atom", "final_energy_per_atom", "optb88vdw_total_energy")
"""Names of energies in eV/atom, the last one JARVIS'."""
_ABOVE = "e_above_hull"
"""Column of published energies above the hull, eV/atom."""
MAX_CELL = 10_000
"""Atoms in the cell of a compound; only its formula is kept."""
_STRUCTURES = (".parquet", ".pq", ".zip", ".h5", ".extxyz", ".xyz", ".tar", ".tgz", ".db", ".traj")
"""Ends of names of files whose structures are read, with their energies in a column."""
_FORMULAS = ("formula", "formula_pretty", "pretty_formula", "chemical_formula_reduced")
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def import_reference(
    path: Path,
    level: str = "",
    max_bytes: int = MAX_SIDE_FILE_BYTES,
    *,
    elements: Path | None = None,
    origin: str = "",
) -> Reference:
    """The reference in a file.

    Args:
        path: a CSV with the columns formula and energy (or formation_energy_per_atom; eV/atom),
            perhaps id; or JSON as databases write it: pymatgen's ComputedEntry and
            ComputedStructureEntry (corrected energies are taken) in lists, lines or
            ``{"entries": …}``, documents of the Materials Project, JARVIS, OPTIMADE; either may be
            gzipped. Or structures in parquet, extended XYZ, an archive or a bundle, with a column
            ``energy`` (eV per cell) or ``energy_per_atom``.
        level: of theory, as the source of the energies to compare with names it.
        max_bytes: of the file, unpacked.
        elements: CSV with the columns formula and energy of the elements, from which the energies
            in the file count (formation energies); None for total energies.
        origin: what the file holds, for the note; its name by default.

    Raises:
        UsageError: a file is of neither kind, or an entry of it is broken (named).
    """
    if path.suffix.lower() in _STRUCTURES:
        entries = tuple(_of_structures(path, max_bytes))
    else:
        try:
            text = read_text(path, max_bytes, "--max-file-mib")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        if text.lstrip()[:1] in ("[", "{"):
            entries = _documents(text, path, max_bytes // MIN_VALUE_BYTES)
        else:
            entries = tuple(read_entries(io.StringIO(text, newline=""), path))
    if not entries:
        raise UsageError(f"{path}: no entries")
    made = {"made_by": "pigen hull import", "file": path.name}
    if elements is not None:
        made["elements"] = elements.name
        entries = _from_formation(entries, import_reference(elements, "", max_bytes).entries, path)
    note = f"imported from {origin or path.name}: {len(entries)} entries, as complete as that file"
    return Reference(entries, level, note, made)


def _from_formation(
    entries: Sequence[Entry], elements: Sequence[Entry], path: Path
) -> tuple[Entry, ...]:
    """Total energies of formation energies, and the elements themselves.

    An element that has an entry but no energy, as a noble gas may, is left out.
    """
    base = {entry.formula: entry.energy for entry in elements}
    found = {entry.formula: entry for entry in elements}
    for entry in entries:
        amounts = formula_amounts(entry.formula)
        lacking = [symbol for symbol in amounts if f"{symbol}1" not in base]
        if not lacking:
            total = sum(n * base[f"{symbol}1"] for symbol, n in amounts.items())
            energy = entry.energy + total / sum(amounts.values())
            known = found.get(entry.formula)
            if known is None or energy < known.energy:
                found[entry.formula] = replace(entry, energy=energy)
        elif len(amounts) > 1:
            raise UsageError(f"{path}: {entry.formula}: no energy of {lacking[0]} (--elements)")
    return tuple(found[formula] for formula in sorted(found))


def _documents(text: str, path: Path, most: int) -> tuple[Entry, ...]:
    """Entries of JSON, read as plain data: pymatgen's own decoder imports what a file names."""
    try:
        listed = list(documents(load_json(text, most)))
    except (ValueError, Refused) as error:
        raise UsageError(f"{path}: no JSON with energies: {error}") from None
    found = []
    for i, (name, document) in enumerate(listed):
        try:
            found.append(_entry(document, name))
        except (*_BROKEN, Refused) as error:
            raise UsageError(
                f"{path}: entry {i} is no compound with an energy: {error!r:.200}"
            ) from None
    return tuple(found)


def _entry(document: Mapping[str, Any], name: str) -> Entry:
    """One compound. Of a pymatgen entry the energy is uncorrected; ``correction`` sums all."""
    facts = {**document, **(document.get("attributes") or {})}
    amounts = _amounts(facts)
    n_atoms = sum(amounts.values())
    if not all(n > 0 and n == int(n) for n in amounts.values()):
        raise ValueError("no whole numbers of atoms")
    formula = canonical_formula("".join(f"{symbol}{int(n)}" for symbol, n in amounts.items()))
    per_atom = next((facts[key] for key in PER_ATOM if facts.get(key) is not None), None)
    if "energy" in facts:
        energy = (float(facts["energy"]) + float(facts.get("correction") or 0)) / n_atoms
    elif per_atom is not None:
        energy = float(per_atom)
    else:
        raise ValueError(f"no energy, nor {', '.join(PER_ATOM)}")
    if not isfinite(energy):
        raise ValueError(f"energy {energy}")
    inner = (facts.get("data") or {}).get("material_id")
    named = next((facts[key] for key in ("entry_id", *ID_KEYS) if facts.get(key)), inner)
    given = "" if name.startswith("#") else name
    return Entry(formula, energy, clean_name(named or given or formula, formula))


def _amounts(facts: Mapping[str, Any]) -> dict[str, float]:
    """Atoms of each element: of the composition, else of the structure, else of a formula."""
    amounts = facts.get("composition")
    if not amounts:
        try:
            numbers = structure_of(facts, Limits(max_atoms=MAX_CELL)).atomic_numbers
            return {SYMBOLS[z]: float(n) for z, n in Counter(numbers.tolist()).items()}
        except Refused:
            amounts = next((facts[key] for key in _FORMULAS if facts.get(key)), None)
            if amounts is None:
                raise
    if isinstance(amounts, str):
        return {symbol: float(n or 1) for symbol, n in TERM.findall(amounts)}
    return {str(symbol): float(n) for symbol, n in amounts.items() if float(n)}


def _of_structures(path: Path, max_bytes: int) -> Iterator[Entry]:
    """Entries of structures in any file that is read, with their energies in a column."""
    limits = Limits(max_file_bytes=max_bytes, max_atoms=MAX_CELL)
    for chunk in stream([open_source(path, limits)], limits=limits):
        columns = {name: c.values for name, c in chunk.columns.items() if c.kind == "float64"}
        name = next((name for name in ("energy", *PER_ATOM) if name in columns), None)
        if name is None and len(chunk):
            raise UsageError(f"{path}: no column energy (eV) or {', '.join(PER_ATOM)} (eV/atom)")
        if chunk.rejects:
            raise UsageError(f"{path}: {chunk.rejects[0].id}: {chunk.rejects[0].reason}")
        for i, formula in enumerate(chunk.crystals.reduced_formulas()):
            energy = float(columns[str(name)][i])
            if name == "energy":
                if "correction" in columns:
                    energy += float(np.nan_to_num(columns["correction"][i]))
                energy /= int(chunk.crystals.n_atoms[i])
            if not isfinite(energy):
                raise UsageError(f"{path}: {chunk.ids[i]}: no {name}")
            yield Entry(canonical_formula(formula), energy, str(chunk.ids[i]))


def published_energies(sources: Sequence[Path]) -> dict[str, float]:
    """Id → published energy above the hull, eV/atom, of structures that have one.

    Raises:
        UsageError: a source has no column of numbers ``e_above_hull``.
    """
    found: dict[str, float] = {}
    for source in sources:
        bundle = read(source)
        column = bundle.columns.get(_ABOVE)
        if column is None or column.kind == "str" or column.per_atom:
            raise UsageError(f"{source}: no column of numbers {_ABOVE!r} (--published)")
        rows = zip(bundle.ids, column.values, strict=True)
        found.update((str(name), float(value)) for name, value in rows if isfinite(value))
    return found
