"""Parquet with a column of structures, or with the columns of OPTIMADE, one batch at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pigen.bundle import Reject
from pigen.config.files import Limits
from pigen.io.entry import EXACT_INTEGER
from pigen.io.files import Record, Source, clean_name, decode, stem
from pigen.io.tables import STRUCTURE_COLUMNS, Header, structure_form
from pigen.runtime.errors import UsageError
from pigen.runtime.files import MAX_RATIO, READ_ERRORS, SMALL

OPTIMADE_COLUMNS = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
"""Columns that make a structure together, as in LeMat-Bulk."""
_OPTIMADE_MORE = ("species", "dimension_types", "structure_features")
_BATCH = 16
"""Rows read at once; few, for a few kilobytes of the file may stand for large, repeated texts."""


def open_parquet(path: Path, limits: Limits) -> Source:
    """A parquet file with a column "cif", "structure" or "atoms", or with OPTIMADE's columns.

    A structure may be text or a struct. Numbers are read as float64, integers that no float64 holds
    as text, null as NaN or "". Other lists and structs are left out: a row of them may stand for
    any number of values.

    Raises:
        UsageError: not parquet, no column of structures, or a bomb.
    """
    file, total = _opened(path)
    schema = file.schema_arrow
    if len(set(schema.names)) < len(schema.names):
        raise UsageError(f"{path} has two columns of one name")
    parts = _parts(path, schema)
    if _values_in(file, set(parts.values())) * 8 > MAX_RATIO * max(path.stat().st_size, SMALL):
        raise UsageError(f"{path} holds lists packed more than {MAX_RATIO} to 1 (MAX_RATIO)")
    names = [
        name
        for name, held in zip(schema.names, schema.types, strict=True)
        if not held.num_fields or name in parts.values()
    ]
    header = Header(path, names, tuple(parts))
    header.leave_out(set(parts.values()), names)
    kinds = [_kind(file, schema.field(names[i])) for i in header.kept]
    columns = tuple(zip(header.names, kinds, strict=True))
    made = {key: names.index(name) for key, name in parts.items()}
    return Source(columns, _entries(path, file, names, header, kinds, made, limits), total)


def _opened(path: Path) -> tuple[Any, int]:
    """A parquet file, and its rows. Raises UsageError if it is none, or a bomb."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
        total = int(file.metadata.num_rows)
        # Of the columns it tells more, but ends the process if their statistics are damaged.
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        unpacked = sum(group.total_byte_size for group in groups)
        file.schema_arrow  # noqa: B018  (it is made here)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UsageError(f"{path} is not a parquet file: {clean_name(error, '')}") from error
    if unpacked > SMALL and unpacked > MAX_RATIO * path.stat().st_size:
        raise UsageError(f"{path} is packed more than {MAX_RATIO} to 1 (MAX_RATIO): a bomb")
    return file, total


def _parts(path: Path, schema: Any) -> dict[str, str]:
    """The columns that structures are made of: their part in it, and their name in the file.

    One column is enough if it holds whole structures. Empty if there are none.
    """
    import pyarrow as pa

    named = {name.strip().lower(): name for name in reversed(schema.names)}
    for key in STRUCTURE_COLUMNS:
        if key in named:
            held = schema.field(named[key]).type
            if not (_is_text(held) or pa.types.is_struct(held)):
                raise UsageError(f"{path}: column {named[key]!r} holds {held}, not text")
            return {key: named[key]}
    if not set(OPTIMADE_COLUMNS) <= named.keys():
        return {}
    return {key: named[key] for key in (*OPTIMADE_COLUMNS, *_OPTIMADE_MORE) if key in named}


def _values_in(file: Any, columns: Collection[str]) -> int:
    """Values in lists and structs of these columns: one byte may stand for millions."""
    metadata = file.metadata
    leaves = [
        j
        for j in range(metadata.num_columns)
        if "." in (path := metadata.schema.column(j).path) and path.split(".")[0] in columns
    ]
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return sum(int(group.column(j).num_values) for group in groups for j in leaves)


def _kind(file: Any, field: Any) -> str:
    """The kind of a column of values."""
    import pyarrow as pa

    types, held = pa.types, field.type
    if types.is_integer(held):
        return "str" if held.bit_width == 64 and _holds_long(file, field.name) else "float64"
    return "float64" if types.is_floating(held) or types.is_decimal(held) else "str"


def _is_text(held: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


def _holds_long(file: Any, name: str) -> bool:
    """Whether a column has an integer that no float64 holds; False where it cannot be read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        for batch in file.iter_batches(2**16, columns=[name], use_threads=False):
            ends = pc.min_max(batch.column(0)).as_py()
            if any(end is not None and abs(end) > EXACT_INTEGER for end in ends.values()):
                return True
    except (pa.ArrowException, *READ_ERRORS, ValueError, OverflowError):
        pass  # it is met again where the rows are read
    return False


def _entries(
    path: Path,
    file: Any,
    names: list[str],
    header: Header,
    kinds: Sequence[str],
    parts: dict[str, int],
    limits: Limits,
) -> Iterator[Record | Reject]:
    import pyarrow as pa

    name, index = stem(path), 0
    try:
        for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
            fields = [_values(column) for column in batch.columns]
            for row in zip(*fields, strict=True):
                key = header.id_of(row, index, name)
                index += 1
                text, form = _structure(row, parts)
                if len(text) > limits.max_entry_bytes:
                    limit = limits.max_entry_bytes // 2**20
                    yield Reject(key, f"oversized: {len(text)} bytes, --max-entry-mib is {limit}")
                    continue
                values = tuple(
                    _float(row[i]) if kind == "float64" else _text(row[i])
                    for i, kind in zip(header.kept, kinds, strict=True)
                )
                yield Record(key, text, form, values)
    except (pa.ArrowException, *READ_ERRORS, ValueError, OverflowError) as error:
        reason = clean_name(f"unreadable row: {error}", "")
        yield Reject(f"{name}-{index}", f"{reason}; the rest of the file was not read")


def _structure(row: Sequence[Any], parts: dict[str, int]) -> tuple[str, str]:
    """The structure of a row as text, and its form."""
    held = {key: row[i] for key, i in parts.items()}
    if len(held) == 1:
        (one,) = held.values()
        if not isinstance(one, dict):
            return one or "", structure_form(one or "")
        # A struct has all keys of all rows: those of others are null.
        held = _present(one)
    return json.dumps(held, default=str), "json"


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _present(one) for key, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value


def _values(column: Any) -> list[Any]:
    """Values of an Arrow array as Python's. Its texts may not be UTF-8, whatever they promise."""
    import pyarrow as pa

    if _is_text(column.type):
        packed = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else decode(value) for value in packed]
    return list(column.to_pylist())


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
