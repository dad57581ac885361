"""A table of numbers by id, such as measured or computed properties of structures in CIF files."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column
from pigen.config.files import MAX_ENTRY_BYTES
from pigen.io.entry import ID_KEYS
from pigen.io.formats import text_form
from pigen.io.tables import DESCRIPTOR_COLUMNS, UNITS, Lines
from pigen.runtime.errors import UsageError
from pigen.runtime.files import READ_ERRORS, open_bytes, sha256_of

MAX_FIELDS = 5_000_000
"""Largest size of a table, which is held in memory."""


@dataclass(frozen=True)
class Values:
    """Numbers by the id of a structure.

    Attributes:
        name: of the file, and its hash.
        row: id → row of the columns.
        columns: name → (rows,) numbers, NaN where a field is empty.
        left_out: columns that are not all numbers, each with its first field that is no number.
    """

    name: str
    row: Mapping[str, int]
    columns: Mapping[str, NDArray[np.float64]]
    left_out: Mapping[str, str]

    def join(self, bundle: Bundle) -> Bundle:
        """The bundle with a column for each of the table's, NaN for a structure without a row.

        Raises:
            UsageError: the bundle has a column of such a name already.
        """
        taken = sorted(bundle.columns.keys() & self.columns.keys())
        if taken:
            raise UsageError(f"column {taken[0]!r} is in the source and in {self.name}")
        rows = np.array([self.row.get(key, -1) for key in bundle.ids], dtype=np.int64)
        return bundle.with_columns(
            {
                name: Column(np.append(column, np.nan)[rows], UNITS.get(name, ""), self.name)
                for name, column in self.columns.items()
            }
        )

    def missing(self, bundle: Bundle) -> Counter[str]:
        """How many structures have no row, or an empty field, by reason."""
        rows = [self.row[key] for key in bundle.ids if key in self.row]
        lacking = Counter({self.no_row: len(bundle) - len(rows)})
        for name, column in self.columns.items():
            lacking[f"no {name}, an empty field"] = int(np.isnan(column[rows]).sum())
        return +lacking

    def check_apart(self, columns: Iterable[str]) -> None:
        """Raise UsageError if one of these columns, which are to be computed, is in the table."""
        for name in columns:
            if name in self.columns:
                raise UsageError(f"column {name!r} is to be computed and is in {self.name}")

    def lines(self, joined: int) -> Iterator[str]:
        """Lines for people: how many rows belong to structures, and which columns are left out."""
        yield f"{self.name}: {joined} of {len(self.row)} rows joined, {', '.join(self.columns)}"
        if not joined:
            yield f"  no id is that of a structure; the first is {next(iter(self.row), '')!r}"
        for name, text in self.left_out.items():
            yield f"  column {name} left out: {text!r} is no number"

    @property
    def no_row(self) -> str:
        """The reason of a structure that the table does not name."""
        return f"no row in {self.name.split(' ')[0]}"


def read_values(path: Path) -> Values:
    """A CSV file (.gz too) with a column ``id`` and columns of numbers.

    An id may be the name of a structure file: its suffix is left out, as where such a file is read.
    A column of a name that belongs to a descriptor of PIGEN's is named ``imported_<name>``.

    Raises:
        UsageError: unreadable, no column of ids or none of numbers, an id twice, or a row of
            another length; the message names the line.
    """
    rows = _rows(path)
    header = [name.strip() for name in rows[0][1]] if rows else []
    lowered = [name.lower() for name in header]
    ids = next((lowered.index(key) for key in ID_KEYS if key in lowered), None)
    if ids is None:
        listed = ", ".join(header[:20]) or "none"
        raise UsageError(f"{path}: no column {' or '.join(ID_KEYS)}; its columns: {listed}")
    row: dict[str, int] = {}
    fields: list[list[str]] = []
    for line, values in rows[1:]:
        if len(values) != len(header):
            raise UsageError(f"{path}: line {line}: {len(values)} fields, expected {len(header)}")
        key = _stem(values[ids].strip())
        if key in row:
            raise UsageError(f"{path}: line {line}: id {key!r} was there before")
        row[key] = len(fields)
        fields.append(values)
    columns: dict[str, NDArray[np.float64]] = {}
    left_out: dict[str, str] = {}
    for i, name in enumerate(header):
        if i == ids or not name:
            continue
        named = f"imported_{name}" if name in DESCRIPTOR_COLUMNS else name.replace("/", "_")
        if named in columns or named in left_out:
            raise UsageError(f"{path}: two columns {name!r}")
        numbers = [_number(values[i]) for values in fields]
        text = next((v[i] for v, x in zip(fields, numbers, strict=True) if x is None), None)
        if text is None:
            columns[named] = np.array(numbers, dtype=np.float64)
        else:
            left_out[named] = text.strip()[:40]
    if not columns:
        said = ", ".join(f"{name} has {text!r}" for name, text in left_out.items())
        raise UsageError(f"{path}: no column of numbers{f': {said}' if said else ''}")
    return Values(f"{path.name} sha256 {sha256_of(path)}", row, columns, left_out)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and fields of every row that is not empty."""
    try:
        with open_bytes(path) as stream:
            lines = Lines(stream, MAX_ENTRY_BYTES)
            reader = csv.reader(lines)
            rows: list[tuple[int, list[str]]] = []
            n_fields = 0
            for row in reader:
                lines.since_row = 0
                n_fields += len(row)
                if n_fields > MAX_FIELDS:
                    raise UsageError(f"{path}: more than {MAX_FIELDS} fields (MAX_FIELDS)")
                if any(map(str.strip, row)):
                    rows.append((reader.line_num, row))
            return rows
    except (*READ_ERRORS, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def _number(text: str) -> float | None:
    """The number in a field; NaN if the field is empty, None if it holds no finite number."""
    if not text.strip():
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) or math.isnan(number) else None


def _stem(key: str) -> str:
    name = key[:-3] if key.lower().endswith(".gz") else key
    return name.rpartition(".")[0] if text_form(name) and "." in name else key
