"""ASE's own files, read as plain data: databases (SQLite) and trajectories (ULM). No code runs.

Each frame becomes a JSON text, as ASE writes it, which the parser of JSON reads.
"""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pigen.bundle import Reject
from pigen.config.files import Limits
from pigen.io.files import Record, Source, clean_name, stem, too_large
from pigen.runtime.errors import UsageError
from pigen.runtime.files import READ_ERRORS

SQLITE = b"SQLite format 3\0"
ULM = b"- of Ulm"
_COLUMNS = ("id", "numbers", "positions", "cell", "pbc", "energy", "key_value_pairs")
_STEPS = 1_000_000
"""Steps that SQLite may take between two rows; a row of a table takes some hundred."""
_MAX_ITEMS = 10_000_000


def open_database(path: Path, limits: Limits) -> Source:
    """The rows of an ASE database, named ``<file>-<id>``; energy and key-value pairs are columns.

    Raises:
        UsageError: the file is no SQLite database, or not one of ASE.
    """
    try:
        with _Connection(path) as connection:
            found = connection.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'systems' AND type = 'table'"
            ).fetchone()
            # Views, virtual tables and computed columns would run what the file says.
            text = re.sub(r"--[^\n]*", "", str(found[0])) if found else ""
            if not text or re.search(r"\b(VIRTUAL|GENERATED|AS)\b", text, re.IGNORECASE):
                raise UsageError(f"{path} is no ASE database: it has no plain table of systems")
            total = int(connection.execute("SELECT count(*) FROM systems").fetchone()[0])
    except sqlite3.Error as error:
        raise UsageError(f"{path} is no ASE database: {error}") from None
    return Source((), _rows(path, limits), total)


class _Connection:
    """A read-only connection that closes itself and stops a query that does not end."""

    def __init__(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(uri, uri=True)
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
        self._connection.set_progress_handler(lambda: 1, _STEPS)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _rows(path: Path, limits: Limits) -> Iterator[Record | Reject]:
    name, last = stem(path), -(2**63)
    sizes = " + ".join(f"coalesce(length({column}), 0)" for column in _COLUMNS)
    query = (
        f"SELECT {sizes}, {', '.join(_COLUMNS)} FROM systems "
        "WHERE id > ? AND ({sizes}) <= ? ORDER BY id LIMIT 1"
    ).replace("{sizes}", sizes)
    size_of = f"SELECT id, {sizes} FROM systems WHERE id > ? ORDER BY id LIMIT 1"
    try:
        with _Connection(path) as connection:
            while (head := connection.execute(size_of, (last,)).fetchone()) is not None:
                last, size = int(head[0]), int(head[1])
                key = f"{name}-{last}"
                if size > limits.max_entry_bytes:
                    yield too_large(key, size, "max-entry-mib", limits.max_entry_bytes)
                    continue
                row = connection.execute(query, (last - 1, limits.max_entry_bytes)).fetchone()
                yield _frame(key, dict(zip(_COLUMNS, row[1:], strict=True)))
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        yield Reject(name, clean_name(f"unreadable row: {error}; the rest was not read", ""))


def _frame(key: str, row: dict[str, Any]) -> Record | Reject:
    try:
        flags = int(row["pbc"] or 0)
        document = {
            "numbers": np.frombuffer(row["numbers"], "<i4").tolist(),
            "positions": np.frombuffer(row["positions"], "<f8").reshape(-1, 3).tolist(),
            "cell": np.frombuffer(row["cell"], "<f8").reshape(3, 3).tolist(),
            "pbc": [bool(flags & bit) for bit in (1, 2, 4)],
            "key_value_pairs": json.loads(row["key_value_pairs"] or "{}"),
        }
        if row["energy"] is not None:
            document["energy"] = float(row["energy"])
        return Record(key, json.dumps(document), "json")
    except (ValueError, TypeError, RecursionError) as error:
        return Reject(key, clean_name(f"unreadable row: {error}", ""))


# -- trajectories --------------------------------------------------------------------------------
def open_trajectory(path: Path, limits: Limits) -> Source:
    """The frames of an ASE trajectory, named ``<file>-<index>``; the energy is a column.

    Raises:
        UsageError: the file is no ULM file.
    """
    try:
        with path.open("rb") as file:
            offsets = _offsets(file, path.stat().st_size)
    except (*READ_ERRORS, ValueError, struct.error) as error:
        raise UsageError(f"{path} is no ASE trajectory: {error}") from None
    return Source((), _frames(path, offsets, limits), len(offsets))


def _offsets(file: IO[bytes], size: int) -> list[int]:
    """Where the items of a ULM file begin."""
    head = file.read(48)
    if head[:8] != ULM or len(head) < 48:
        raise ValueError("it does not begin as one of ULM")
    _, n, place = struct.unpack("<3q", head[24:48])
    if not (0 <= n <= _MAX_ITEMS and 0 <= place <= size and 8 * n <= size):
        raise ValueError(f"{n} items at byte {place} of {size}")
    file.seek(place)
    return list(struct.unpack(f"<{n}q", file.read(8 * n)))


def _frames(path: Path, offsets: list[int], limits: Limits) -> Iterator[Record | Reject]:
    name = stem(path)
    first: dict[str, Any] = {}
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            for index, offset in enumerate(offsets):
                key = f"{name}-{index}"
                try:
                    item = _item(file, offset, size, limits)
                    first = first or item  # elements and periodicity are in the first alone
                    document = {
                        "numbers": item.get("numbers", first.get("numbers")),
                        "pbc": item.get("pbc", first.get("pbc")),
                        "positions": item["positions"],
                        "cell": item["cell"],
                    }
                    calculated = item.get("calculator") or {}
                    if isinstance(calculated.get("energy"), int | float):
                        document["energy"] = calculated["energy"]
                    yield Record(key, json.dumps(document), "json")
                except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
                    yield Reject(key, clean_name(f"unreadable frame: {error!r:.100}", ""))
    except READ_ERRORS as error:
        yield Reject(name, clean_name(f"unreadable file: {error}; the rest was not read", ""))


_WANTED = ("numbers", "positions", "cell", "pbc", "calculator")


def _item(file: IO[bytes], offset: int, size: int, limits: Limits) -> dict[str, Any]:
    """What an item of a ULM file says of atoms, its arrays as lists."""
    if not 0 <= offset <= size - 8:
        raise ValueError(f"an item at byte {offset} of {size}")
    file.seek(offset)
    (length,) = struct.unpack("<q", file.read(8))
    if not 0 <= length <= min(size - offset, limits.max_entry_bytes):
        raise ValueError(f"an item of {length} bytes")
    held = json.loads(file.read(length).decode("utf-8", "replace"))
    found = {}
    for key in _WANTED:
        if f"{key}." in held:
            inner = held[f"{key}."]
            is_array = isinstance(inner, dict) and "ndarray" in inner
            found[key] = _array(file, inner["ndarray"], size, limits) if is_array else inner
        elif key in held:
            found[key] = held[key]
    return found


def _array(file: IO[bytes], stated: Any, size: int, limits: Limits) -> list[Any]:
    shape, kind, offset = stated
    dtype = np.dtype(str(kind))
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError(f"an array of {kind}")
    n = int(np.prod([int(x) for x in shape], dtype=object))
    length = n * dtype.itemsize
    if not (0 <= length <= limits.max_entry_bytes and 0 <= int(offset) <= size - length):
        raise ValueError(f"an array of {length} bytes at {offset}")
    file.seek(int(offset))
    values = np.frombuffer(file.read(length), dtype.newbyteorder("<"))
    listed: list[Any] = values.reshape([int(x) for x in shape]).tolist()
    return listed
