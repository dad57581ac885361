"""A hash of what a bundle holds, however it came to stand in its file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.memory import Bundle
from pigen.bundle.reading import ColumnInfo, iter_bundle

VOLATILE = frozenset({"created"})
"""Provenance keys that may differ between a run and its resumption."""


def content_digest(source: str | PathLike[str] | Bundle) -> str:
    """First 16 digits of a hash of crystals, values, verdicts, rejects and provenance.

    HDF5 files of equal content differ in their bytes if they grew in other steps, as those of a
    run do that was stopped and resumed; their content digests are equal. When the bundle was made
    does not count.

    Args:
        source: a file, or a bundle that was read from one.

    Raises:
        UsageError: no such file, or not a bundle of this version.
        PigenError: the file is damaged.
    """
    parts: dict[str, Any] = defaultdict(hashlib.sha256)
    first: Bundle | None = None
    for chunk in [source] if isinstance(source, Bundle) else iter_bundle(source):
        first = chunk if first is None else first
        for name, values in _arrays(chunk):
            parts[name].update(_bytes(values))
        for reject in chunk.rejects:
            parts["rejects"].update(_bytes(np.array([reject.id, reject.reason], dtype=object)))
    assert first is not None  # there is always a chunk
    said = sorted((key, value) for key, value in first.provenance.items() if key not in VOLATILE)
    columns = [
        (name, str(ColumnInfo(c.kind, c.unit, c.source, c.per_atom)))
        for name, c in first.columns.items()
    ]
    whole = hashlib.sha256(repr((said, columns, list(first.criteria.items()))).encode())
    for name in sorted(parts):
        whole.update(name.encode() + parts[name].digest())
    return str(whole.hexdigest()[:16])


def _arrays(chunk: Bundle) -> Iterator[tuple[str, NDArray[Any]]]:
    crystals = chunk.crystals
    yield "lattice", crystals.lattice
    yield "frac_coords", crystals.frac_coords
    yield "atomic_numbers", crystals.atomic_numbers
    yield "n_atoms", crystals.n_atoms
    yield "id", chunk.ids
    yield "parent", chunk.parents
    for name, column in chunk.columns.items():
        yield f"column {name}", column.values
    for name, verdict in chunk.verdicts.items():
        yield f"passed {name}", verdict.passed
        yield f"reason {name}", verdict.reasons


def _bytes(values: NDArray[Any]) -> bytes:
    if values.dtype == object:
        return b"".join(f"{len(text)}:{text}".encode() for text in values)
    return np.ascontiguousarray(values).tobytes()
