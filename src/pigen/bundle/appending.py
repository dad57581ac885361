"""What a chunk adds to an open bundle file: datasets that grow, columns that come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pigen.bundle.columns import (
    Column,
    common_kind,
    convert,
    merge_sources,
    missing,
    with_missing,
)
from pigen.bundle.criteria import attributes_of, criteria_in
from pigen.bundle.marks import CHUNKS, MARK, record_of
from pigen.bundle.memory import Bundle, check_same_criteria
from pigen.bundle.reading import LIBVER, SCHEMA, VERSION, counts, stored_kind, values_of
from pigen.runtime.errors import PigenError

_STORAGE_CHUNK = 8192
"""Bytes in one storage chunk of a dataset: small, so that a bundle of one crystal stays small."""


def skeleton(provenance: Mapping[str, str]) -> bytes:
    """The content of a bundle file without crystals."""
    with h5py.File("skeleton", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["version"] = VERSION
        for name in ("n_crystals", "n_atoms", "n_rejects"):
            file.attrs[name] = 0
        said = file.create_group("provenance").attrs
        said.update((key, provenance[key]) for key in sorted(provenance))
        for name in ("columns", "verdicts"):
            file.create_group(name, track_order=True)
        _extend(file, "crystals/ptr", np.zeros(1, dtype=np.int64), 0)
        file.flush()
        return bytes(file.id.get_file_image())


def append(file: h5py.File, chunk: Bundle) -> None:
    """Add a chunk's crystals, values and rejects. Raises PigenError if they contradict the file."""
    n, n_atoms, n_rejects = counts(file)
    crystals = chunk.crystals
    _extend(file, "crystals/lattice", crystals.lattice, n)
    _extend(file, "crystals/ptr", crystals.ptr[1:] + n_atoms, n + 1)
    _extend(file, "crystals/frac_coords", crystals.frac_coords, n_atoms)
    _extend(file, "crystals/atomic_numbers", crystals.atomic_numbers, n_atoms)
    _extend(file, "id", chunk.ids, n)
    _extend(file, "parent", chunk.parents, n)
    _extend(file, "rejects/id", _objects([r.id for r in chunk.rejects]), n_rejects)
    _extend(file, "rejects/reason", _objects([r.reason for r in chunk.rejects]), n_rejects)
    if len(chunk) or (n == 0 and (chunk.columns or chunk.verdicts)):
        if n == 0:  # columns of a part without crystals say nothing about the next
            file["columns"].clear()
            file["verdicts"].clear()
        for name in dict.fromkeys([*file["columns"], *chunk.columns]):
            _append_column(file, name, chunk, n, n_atoms)
        _append_verdicts(file, chunk, n)
    if MARK in chunk.provenance:
        n_chunks = len(file[CHUNKS]) if CHUNKS in file else 0
        _extend(file, CHUNKS, record_of(chunk), n_chunks)
    file.attrs["n_crystals"] = n + len(chunk)
    file.attrs["n_atoms"] = n_atoms + len(crystals.atomic_numbers)
    file.attrs["n_rejects"] = n_rejects + len(chunk.rejects)


def _append_column(file: h5py.File, name: str, chunk: Bundle, n: int, n_atoms: int) -> None:
    columns: h5py.Group = file["columns"]
    column = chunk.columns.get(name)
    stored = columns.get(name)
    per_atom = column.per_atom if column is not None else bool(stored.attrs["per_atom"])
    start = n_atoms if per_atom else n
    if column is None:
        kind = with_missing(stored_kind(stored))
        n_new = len(chunk.crystals.atomic_numbers) if per_atom else len(chunk)
        column = Column(
            missing(kind, n_new), stored.attrs["unit"], stored.attrs["source"], per_atom
        )
    elif stored is None:
        kind = column.kind if n == 0 else with_missing(column.kind)
        _extend(columns, name, missing(kind, start) if n else column.values[:0], 0)
    else:
        _check_same_column(name, column, stored)
        kind = common_kind(stored_kind(stored), column.kind)
    if stored is not None and kind != stored_kind(stored):
        before = convert(values_of(stored, 0, start), kind)
        del columns[name]
        _extend(columns, name, before, 0)
    _extend(columns, name, convert(column.values, kind), start)
    source = column.source
    if stored is not None:
        source = merge_sources([str(stored.attrs["source"]), source])
    columns[name].attrs.update(unit=column.unit, source=source, per_atom=per_atom)


def _check_same_column(name: str, column: Column, stored: h5py.Dataset) -> None:
    old = (str(stored.attrs["unit"]), bool(stored.attrs["per_atom"]))
    if old != (column.unit, column.per_atom):
        raise PigenError(
            f"column {name!r} has (unit, per atom) {old} in the file and "
            f"{(column.unit, column.per_atom)} in the chunk"
        )


def _append_verdicts(file: h5py.File, chunk: Bundle, n: int) -> None:
    stored: h5py.Group = file["verdicts"]
    if n:
        try:
            check_same_criteria(chunk.criteria, criteria_in(file))
        except ValueError as error:
            raise PigenError(str(error)) from None
    for name, verdict in chunk.verdicts.items():
        _extend(stored, f"{name}/passed", verdict.passed, n)
        _extend(stored, f"{name}/reason", verdict.reasons, n)
        stored[name].attrs.update(attributes_of(verdict.criterion))


def _extend(group: h5py.Group, name: str, values: NDArray[Any], start: int) -> None:
    """Write values after the first `start` rows of a dataset, made here if there is none."""
    if name not in group:
        row = values.shape[1:]
        dtype = h5py.string_dtype() if values.dtype == object else values.dtype
        rows = _STORAGE_CHUNK // (dtype.itemsize * int(np.prod(row, dtype=int)))
        group.create_dataset(
            name, shape=(0, *row), maxshape=(None, *row), chunks=(rows, *row), dtype=dtype
        )
    found = group[name]
    found.resize(start + len(values), axis=0)
    if len(values):
        found[start:] = values


def size_bound(chunk: Bundle) -> int:
    """Bytes that appending a chunk takes, at most: its data, half-filled storage, indices."""
    crystals = chunk.crystals
    numbers: list[NDArray[Any]] = [crystals.lattice, crystals.frac_coords, crystals.atomic_numbers]
    numbers += [record_of(chunk)] if MARK in chunk.provenance else []
    texts: list[Iterable[str]] = [chunk.ids, chunk.parents]
    texts += [(text for r in chunk.rejects for text in (r.id, r.reason))]
    texts += [verdict.reasons for verdict in chunk.verdicts.values()]
    for column in chunk.columns.values():
        (texts if column.kind == "str" else numbers).append(column.values)
    data = sum(array.nbytes for array in numbers)
    data += sum(64 + len(text.encode()) for listed in texts for text in listed)
    return 2 * data + 8 * _STORAGE_CHUNK * (len(numbers) + len(texts)) + 2**20


def _objects(values: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
