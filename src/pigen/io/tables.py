"""Tables with a column of structures, as CSV. They are streamed, whatever their size."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pigen.bundle import Reject
from pigen.config.files import Limits
from pigen.io.entry import ID_KEYS, plain_number
from pigen.io.files import (
    Record,
    Source,
    clean_name,
    encoding_of,
    stem,
)
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import READ_ERRORS, open_bytes

STRUCTURE_COLUMNS = ("cif", "structure", "atoms")
"""Where a table keeps its structures, as CIF or as JSON; the first found is read."""
DESCRIPTOR_COLUMNS = frozenset(
    (
        *("c", "mled", "h_p", "h_s", "motif", "spp", "k", "novel", "min_distance"),
        *("prototype", "prototype_rank", "space_group"),
        *("elements", "n_elements", "charge_balanced", "stoichiometry"),
    )
)
"""Names that belong to PIGEN's descriptors. A table's column of such a name is read as
``imported_<name>``: "k" may be somebody's bulk modulus, and a filter must not take it for K."""
UNITS = {
    "formation_energy_per_atom": "eV/atom",
    "energy_per_atom": "eV/atom",
    "e_above_hull": "eV/atom",
    "energy_above_hull": "eV/atom",
    "band_gap": "eV",
    "energy": "eV",
    "entropy_sum": "bits",
}
"""Units of columns of the public data sets this package is used with."""
MAX_COLUMNS = 1000

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_A_NUMBER = frozenset(("nan", "inf", "-inf", "+inf"))


class Header:
    """Which columns of a table hold the structure, the id and values."""

    def __init__(self, path: Path, names: Sequence[str], layout: Sequence[str] = ()) -> None:
        """Take the names of columns; ``layout`` names those that make a structure together.

        Raises:
            UsageError: no column holds structures, or there are too many.
        """
        if len(names) > MAX_COLUMNS:
            raise UsageError(f"{path} has {len(names)} columns; MAX_COLUMNS is {MAX_COLUMNS}")
        lowered = [name.strip().lower() for name in names]
        structures = [lowered.index(name) for name in STRUCTURE_COLUMNS if name in lowered]
        if not structures and layout:
            structures = [lowered.index(name) for name in layout]
        if not structures:
            listed = ", ".join(clean_name(name, "(unnamed)") for name in names[:20])
            raise UsageError(f"{path} has no column 'cif' or 'structure'; its columns: {listed}")
        self.structure = structures[0]
        named = [lowered.index(key) for key in ID_KEYS if key in lowered]
        unnamed = [i for i, name in enumerate(lowered) if name in ("", "__index_level_0__")]
        # An index written without a name counts rows of its file: alone it is no one's name.
        self.id_prefix = "" if named else f"{stem(path)}-"
        self.id: int | None = next(iter(named or unnamed), None)
        taken = {*structures, self.id, *unnamed[:1]}
        self.kept = [
            i for i, name in enumerate(lowered) if i not in taken and not name.startswith("cif.")
        ]
        self.names = _unique([_column_name(names[i], i) for i in self.kept])

    def leave_out(self, columns: Collection[str], names: Sequence[str]) -> None:
        """Keep none of these columns: they are the structure."""
        self.kept = [i for i in self.kept if names[i] not in columns]
        self.names = _unique([_column_name(names[i], i) for i in self.kept])

    def id_of(self, row: Sequence[Any], index: int, name: str) -> str:
        """The id of a row; by its place in the file where it has none."""
        value = row[self.id] if self.id is not None else None
        if value is None or value == "":
            return f"{name}-{index}"
        return clean_name(f"{self.id_prefix}{value}", f"{name}-{index}")


def structure_form(text: str) -> str:
    """The form of a structure in a table's field."""
    return "json" if text.lstrip()[:1] in ("{", "[") else "cif"


# -- CSV -----------------------------------------------------------------------------------------
def open_csv(path: Path, limits: Limits) -> Source:
    """A CSV file, gzipped or not, with a header and a column "cif" or "structure".

    It is gone through once before the first entry is given, to see which columns are numbers: a
    column is float64 if every field is a number, nan, inf or empty, and one at least a number (or
    all empty); else str. So the text NaN, sodium nitride's formula, stays text among texts, and so
    do integers that no float64 holds.

    Raises:
        UsageError: no header, or no column of structures.
        PigenError: more rows than the limit.
    """
    header: Header | None = None
    numeric: list[bool] = []
    has_number: list[bool] = []
    has_text: list[bool] = []
    total = width = 0
    for row in _csv_rows(path, limits):
        if header is None:
            if isinstance(row, Reject):
                raise UsageError(f"{path}: {row.reason}")
            header = Header(path, row)
            numeric = [True] * len(header.kept)
            has_number, has_text = [False] * len(header.kept), [False] * len(header.kept)
            width = len(row)
            continue
        total += 1
        if total > limits.max_entries:
            raise PigenError(f"{path}: more than {limits.max_entries} entries (--max-entries)")
        if isinstance(row, Reject) or len(row) != width:
            continue
        for k, i in enumerate(header.kept):
            if numeric[k] and (field := row[i].strip()):
                if _NUMBER.fullmatch(field):
                    has_number[k] = True
                    numeric[k] = len(field) < 16 or not isinstance(plain_number(field), str)
                else:
                    has_text[k] = True
                    numeric[k] = field.lower() in _NOT_A_NUMBER
    if header is None:
        raise UsageError(f"{path} is empty")
    kinds = [
        "float64" if numeric[k] and (has_number[k] or not has_text[k]) else "str"
        for k in range(len(numeric))
    ]
    columns = tuple(zip(header.names, kinds, strict=True))
    return Source(columns, _csv_entries(path, header, width, kinds, limits), total)


def _csv_entries(
    path: Path, header: Header, width: int, kinds: Sequence[str], limits: Limits
) -> Iterator[Record | Reject]:
    name = stem(path)
    rows = _csv_rows(path, limits)
    next(rows)
    for index, row in enumerate(rows):
        if isinstance(row, Reject):
            yield Reject(f"{name}-{index}", row.reason)
        elif len(row) != width:
            yield Reject(f"{name}-{index}", f"unreadable row: {len(row)} fields, not {width}")
        else:
            values = tuple(
                (float(row[i]) if row[i].strip() else math.nan) if kind == "float64" else row[i]
                for i, kind in zip(header.kept, kinds, strict=True)
            )
            text = row[header.structure]
            yield Record(header.id_of(row, index, name), text, structure_form(text), values)


def _csv_rows(path: Path, limits: Limits) -> Iterator[list[str] | Reject]:
    """Rows of a CSV file; a reject, and no more, where it cannot be read on."""
    # The csv module has one limit for the process; ours bounds what a field may take of memory.
    csv.field_size_limit(limits.max_entry_bytes)
    try:
        with open_bytes(path) as stream:
            lines = Lines(stream, limits.max_entry_bytes)
            for row in csv.reader(lines):
                lines.since_row = 0
                if row:
                    yield row
    except (*READ_ERRORS, csv.Error) as error:
        reason = str(error)
        if "field larger than" in reason:
            limit = limits.max_entry_bytes // 2**20
            reason = f"a field or row over {limit} MiB (--max-entry-mib; a quote left open?)"
        yield Reject("", f"unreadable row: {reason}; the rest of the file was not read")


class Lines:
    """Lines of a CSV file, taken in blocks: neither a line nor a row may fill the memory.

    Attributes:
        since_row: characters taken since the reader of rows set it to 0.
    """

    def __init__(self, stream: io.BufferedReader, limit: int) -> None:
        """Read a stream; a row of more bytes than the limit raises csv.Error."""
        self._stream, self._limit, self.since_row = stream, limit, 0

    def __iter__(self) -> Iterator[str]:
        """Give each line with its line end."""
        rest = ""
        encoding = encoding_of(self._stream.peek(4)[:4])
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        # What can be had at once: all of it counts if the file then turns out to be damaged.
        while packed := self._stream.read1(_BLOCK):
            block = decoder.decode(packed)
            self.since_row += len(block)
            if self.since_row > self._limit + _BLOCK:
                raise csv.Error("field larger than field limit")
            lines = list(io.StringIO(rest + block.replace("\0", "\ufffd"), newline=""))
            # A line may go on, and so may the end of one: \r\n.
            rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
            yield from lines
        if rest:
            yield rest


_BLOCK = 2**18
"""Bytes of a CSV file taken at once."""


# -- names ---------------------------------------------------------------------------------------
def _column_name(name: str, index: int) -> str:
    cleaned = clean_name(name, f"column_{index + 1}").replace("/", "_")
    cleaned = f"column_{index + 1}" if cleaned == "." else cleaned
    return f"imported_{cleaned}" if cleaned in DESCRIPTOR_COLUMNS else cleaned


def _unique(names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        k, candidate = 1, name
        while candidate in found:
            k += 1
            candidate = f"{name}_{k}"
        found.append(candidate)
    return found
