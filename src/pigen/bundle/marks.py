"""What a shard's bundle says of each chunk in it, so that shards merge into the unsharded bundle.

A chunk of a shard carries a mark in its provenance, through every stage, from the reader to the
writer. The writer stores it in the dataset ``shard/chunks``, a JSON text for each chunk, with how
many rows the chunk became and what columns it had: in the file it shares them with other chunks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.memory import Bundle, Column, kind_of, strings

MARK = "shard_chunk"
"""Provenance key of a chunk that is one of a shard."""
CHUNKS = "shard/chunks"

ColumnKind = tuple[str, str, str, bool]
"""Kind, unit, source, per atom."""


@dataclass(frozen=True)
class Mark:
    """Which chunk of the whole run a chunk is.

    Attributes:
        number: in the order of the source, from 0; parts of one large chunk share it.
        crystals: names of its entries that could be read; rejects: of those that could not.
        renamed: name → what the source says, where that name was taken in this shard.
    """

    number: int
    crystals: tuple[str, ...]
    rejects: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A chunk as it stands in a shard's bundle.

    Attributes:
        mark: which one it is.
        n_crystals: rows of it; n_rejects: rejects of it.
        columns: those it had, in order.
        state: what the writer was told to note with it.
    """

    mark: Mark
    n_crystals: int
    n_rejects: int
    columns: Mapping[str, ColumnKind]
    state: str

    def restore(self, rows: Bundle) -> Bundle:
        """The chunk as it was written, from its rows, which have the columns of all chunks."""
        columns = {}
        for name, (kind, unit, source, per_atom) in self.columns.items():
            stored = rows.columns.get(name)
            values = stored.values if stored is not None else np.zeros(0)
            columns[name] = Column(restored(values, kind), unit, source, per_atom)
        return replace(rows, columns=columns)


def marked(chunk: Bundle, mark: Mark) -> Bundle:
    """The chunk with its mark."""
    text = json.dumps(asdict(mark), ensure_ascii=False, separators=(",", ":"))
    return replace(chunk, provenance={**chunk.provenance, MARK: text})


def noted(chunk: Bundle, state: str) -> Bundle:
    """A chunk with a mark that says what the writer was told to note with it."""
    text = f'{chunk.provenance[MARK][:-1]},"state":{json.dumps(state, ensure_ascii=False)}}}'
    return replace(chunk, provenance={**chunk.provenance, MARK: text})


def record_of(chunk: Bundle) -> str:
    """What the writer stores of a chunk that `noted` has gone through."""
    columns = {n: (c.kind, c.unit, c.source, c.per_atom) for n, c in chunk.columns.items()}
    written = {
        "n_crystals": len(chunk),
        "n_rejects": len(chunk.rejects),
        "columns": columns,
    }
    more = json.dumps(written, ensure_ascii=False, separators=(",", ":"))
    return f"{chunk.provenance[MARK][:-1]},{more[1:]}"


def read_record(text: str) -> Written:
    """A chunk from what `record_of` gave. Raises ValueError if the text is no such thing."""
    try:
        said: dict[str, Any] = json.loads(text)
        return Written(
            Mark(
                int(said["number"]),
                tuple(map(str, said["crystals"])),
                tuple(map(str, said["rejects"])),
                {str(name): str(was) for name, was in said["renamed"].items()},
            ),
            int(said["n_crystals"]),
            int(said["n_rejects"]),
            {
                str(name): (str(kind), str(unit), str(source), bool(per_atom))
                for name, (kind, unit, source, per_atom) in said["columns"].items()
            },
            str(said["state"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record of a chunk: {error!r}") from error


def restored(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Values (n,) in the kind they had before `convert` brought them to that of all chunks."""
    if kind_of(values) == kind:
        return values
    if kind == "str":
        return strings(values.tolist())
    if kind_of(values) != "str":
        return values.astype(np.dtype(kind))
    named = {"True": 1, "False": 0, "": np.nan}
    numbers = [named[text] if text in named else _number(text) for text in values]
    return np.array(numbers, dtype=np.dtype(kind))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
