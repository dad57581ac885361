"""What a hull is made of: compositions with energies at one level of theory, in a folder.

reference.json  level of theory, how complete it is, how it was made
entries.csv.gz  formula, energy (eV/atom), id, relaxed (0 or 1: energy of the structure as given)
phases.h5       structures of the phases on the hull, a bundle; imported references may lack it
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from pigen.crystal.elements import canonical_formula
from pigen.runtime import resources
from pigen.runtime.checked import REQUIRED, read_checked, setting
from pigen.runtime.errors import UsageError
from pigen.runtime.files import read_text, write_atomically

FORMAT = "pigen-hull-1"
META, ENTRIES, PHASES = "reference.json", "entries.csv.gz", "phases.h5"
"""Files of a reference folder."""

MAX_REFERENCE_ENTRIES = 2_000_000
"""Of a reference: they are held in memory."""
COLUMNS = {
    "formula": ("formula", "element"),
    "energy": ("energy", "formation_energy_per_atom", "energy_per_atom"),
}
"""Of a CSV → how they may be named, as the Materials Project does; the first there is counts."""
_FIELDS = ["formula", "energy", "id", "relaxed"]
_DECIMALS = 6  # of an energy in the file: 1 µeV/atom


@dataclass(frozen=True, slots=True)
class Entry:
    """A compound of the reference.

    Attributes:
        formula: reduced, as `Crystals.reduced_formulas` writes it.
        energy: eV/atom.
        id: of the structure it belongs to.
        relaxed: whether it is the energy of the relaxed structure, not of the structure as given.
    """

    formula: str
    energy: float
    id: str
    relaxed: bool = True


@dataclass(frozen=True)
class Reference:
    """Compounds of one level of theory.

    Attributes:
        entries: any number for each formula; the lowest counts.
        level: of theory, as the source of a column of energies names it; "" if not known.
        note: what the reference holds and what it lacks, to stand beside every figure.
        provenance: how it was made.
        phases: bundle with the structures of its stable phases, None if it has none.
    """

    entries: tuple[Entry, ...]
    level: str
    note: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    phases: Path | None = None

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of level and entries."""
        return hashlib.sha256(self.level.encode() + _table(self.entries).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Write ``reference.json`` and ``entries.csv.gz``; equal references make equal bytes."""
        folder.mkdir(exist_ok=True)
        meta = {
            "format": FORMAT,
            "level": self.level,
            "note": self.note,
            "provenance": dict(self.provenance),
        }
        table = gzip.compress(_table(self.entries).encode(), mtime=0)
        write_atomically(folder / ENTRIES, table)
        write_atomically(folder / META, json.dumps(meta, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class _Meta:
    format: str = setting(REQUIRED, "Of the folder.", choices=(FORMAT,))
    level: str = setting(REQUIRED, "As of `Reference`.")
    note: str = setting(REQUIRED, "As of `Reference`.")
    provenance: Mapping[str, str] = setting(REQUIRED, "As of `Reference`.")


def load_reference(folder: Path | None = None) -> Reference:
    """The reference in a folder; the shipped one by default.

    Raises:
        UsageError: the folder holds no reference, or a damaged one; names file and line.
    """
    folder = folder or resources.HULL
    path = folder / META
    otherwise = "no reference of a hull; `pigen hull build` and `pigen hull import` make one"
    meta = read_checked(_Meta, path, otherwise=otherwise, error=UsageError)
    path = folder / ENTRIES
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    entries = tuple(read_entries(io.StringIO(text, newline=""), path))
    phases = folder / PHASES
    stable = phases if phases.exists() else None
    return Reference(entries, meta.level, meta.note, meta.provenance, stable)


def read_entries(file: io.TextIOBase, path: Path) -> Iterator[Entry]:
    """Entries of a CSV with the columns formula and energy (eV/atom), perhaps id and relaxed.

    `COLUMNS` names what may stand for formula and energy.

    An entry without id is named after its formula; one without ``relaxed`` is taken as relaxed.

    Raises:
        UsageError: a column is missing, or a line holds no formula or no number (named).
    """
    try:
        yield from _entries(file, path)
    except csv.Error as error:
        raise UsageError(f"{path}: unreadable row: {error}") from None


def _entries(file: io.TextIOBase, path: Path) -> Iterator[Entry]:
    rows = csv.DictReader(line.replace("\0", "\ufffd") for line in file)
    named = rows.fieldnames or ()
    column = {key: next((n for n in names if n in named), "") for key, names in COLUMNS.items()}
    missing = [key for key, name in column.items() if not name]
    if missing:
        raise UsageError(
            f"{path}: no column {' and '.join(sorted(missing))}; expected formula,energy with "
            "energies in eV/atom"
        )
    for n, row in enumerate(rows, start=1):
        where = f"{path}: line {rows.line_num}"
        if n > MAX_REFERENCE_ENTRIES:
            raise UsageError(f"{where}: more entries than MAX_REFERENCE_ENTRIES, {n - 1}")
        formula, text = ((row[column[key]] or "").strip() for key in ("formula", "energy"))
        try:
            formula = canonical_formula(formula)
        except ValueError:
            raise UsageError(f"{where}: {formula[:40]!r} is not a formula") from None
        try:
            energy = float(text)
        except ValueError:
            energy = float("nan")
        if not isfinite(energy):
            raise UsageError(f"{where}: {text[:40]!r} is not an energy in eV/atom")
        yield Entry(formula, energy, row.get("id") or formula, row.get("relaxed") != "0")


def _table(entries: tuple[Entry, ...]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_FIELDS)
    for entry in entries:
        energy = f"{entry.energy:.{_DECIMALS}f}"
        id_ = "" if entry.id == entry.formula else entry.id  # as `_entries` names it
        rows.writerow([entry.formula, energy, id_, int(entry.relaxed)])
    return text.getvalue()
