"""Reading bundles from HDF5: every file is treated as hostile until its shapes are checked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pigen.bundle.checking import (
    MAX_CELL_ATOMS,
    MAX_REJECTS,
    check_objects,
    check_sum,
    dataset,
    read_text,
    said,
)
from pigen.bundle.columns import Column, check_name
from pigen.bundle.criteria import Criterion, criteria_in
from pigen.bundle.marks import CHUNKS
from pigen.bundle.memory import KEEPS, SURVIVORS, Bundle, Reject, Verdict
from pigen.crystal.crystals import Crystals
from pigen.runtime.errors import PigenError, UsageError

SCHEMA = "pigen-bundle"
VERSION = 2
"""Of the schema. Version 1 had criteria as texts, and is still read."""
LIBVER = ("v110", "v110")
"""File format bounds: since 1.10 HDF5 holds attributes over 64 KiB, which a provenance may be."""
CHUNK_SIZE = 1000
"""Crystals in a chunk of a stream unless a caller says otherwise."""

MAX_CHUNK_ATOMS = 4_000_000
"""Atoms in a chunk of a stream, unless one crystal has more."""
_H5_ERRORS = (OSError, RuntimeError, KeyError, MemoryError, OverflowError, IndexError)
_LOCK_WAIT_S = 1.0
"""How long to wait for a writer that is just now swapping the file under our hands."""


@dataclass(frozen=True)
class ColumnInfo:
    """What a column is, without its values; `kind` is float64, int64, bool or str."""

    kind: str
    unit: str
    source: str
    per_atom: bool


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle file holds, without its crystals.

    `complete` is False while it is being written, and stays so if its writer was killed. `state` is
    what the writer noted with the last chunk, for whoever resumes.
    """

    n_crystals: int
    n_atoms: int
    n_rejects: int
    complete: bool
    columns: Mapping[str, ColumnInfo]
    verdicts: Mapping[str, Criterion]
    provenance: Mapping[str, str]
    state: str = ""
    version: int = VERSION


def bundle_info(path: str | PathLike[str]) -> BundleInfo:
    """Counts, columns, verdict criteria and provenance of a bundle file.

    Raises:
        UsageError: no such file, or not a bundle of this version.
        PigenError: the file is damaged.
    """
    with _opened(path) as file:
        return _info(file)


def read_bundle(path: str | PathLike[str]) -> Bundle:
    """The whole bundle. Raises as `bundle_info`."""
    with _opened(path) as file:
        info = _info(file)
        rows = sum(info.n_atoms if column.per_atom else 1 for column in info.columns.values())
        # Compressed, a file may stand for more than fits in memory: that is read in chunks.
        check_sum(128 * info.n_crystals + 32 * info.n_atoms + 8 * rows, file, "all of it at once")
        return _rows(file, info, 0, info.n_crystals, _rejects(file))


def iter_bundle(path: str | PathLike[str], chunk_size: int = CHUNK_SIZE) -> Iterator[Bundle]:
    """The bundle as chunks of at most `chunk_size` crystals, in order. Raises as `bundle_info`.

    The first chunk carries the rejects; there is always one, so that an empty bundle still brings
    its columns and provenance. The file stays open, and is read as it was when it was opened,
    even if a writer appends to it or replaces it meanwhile.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    with _opened(path) as file:
        info = _info(file)
        rejects = _rejects(file)
        start, first = 0, True
        while first or start < info.n_crystals:
            stop = _stop(file, info.n_crystals, start, chunk_size)
            yield _rows(file, info, start, stop, rejects if first else ())
            start, first = stop, False


def chunk_numbers(path: str | PathLike[str]) -> list[int]:
    """Numbers, in the whole run, of the chunks in a shard's bundle. Raises as `bundle_info`."""
    with _opened(path) as file:
        return [number for number, _, _ in _chunk_table(file)]


def iter_shard(path: str | PathLike[str]) -> Iterator[tuple[int, Bundle]]:
    """The chunks of a shard's bundle, each with its number. Raises as `bundle_info`."""
    with _opened(path) as file:
        info = _info(file)
        row = reject = 0
        for number, n, n_rejects in _chunk_table(file):
            stop, last = row + n, reject + n_rejects
            if not (row <= stop <= info.n_crystals and reject <= last <= info.n_rejects):
                raise ValueError(f"chunk {number} has more rows than there are")
            yield number, _rows(file, info, row, stop, _rejects(file, slice(reject, last)))
            row, reject = stop, last


# -- the file ------------------------------------------------------------------------------------
@contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[h5py.File]:
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no such file: {path}")
    if not path.is_file() or not h5py.is_hdf5(path):
        raise UsageError(
            f"{path} is not a PIGEN bundle (not an HDF5 file); `pigen import` makes one"
        )
    try:
        with _open_patiently(path) as file:
            _check_schema(file, path)
            check_objects(file)
            yield file
    except (*_H5_ERRORS, ValueError, TypeError, AttributeError) as error:
        # What h5py raises on a damaged or forged file; none of it is a bug of ours to trace.
        said = " ".join(str(error).split())
        hint = "take a whole copy of it, or remove it and make it again"
        raise PigenError(f"{path} is damaged: {said}; {hint}") from error


def _open_patiently(path: Path) -> h5py.File:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return h5py.File(path, "r", libver=LIBVER)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _check_schema(file: h5py.File, path: Path) -> None:
    if file.attrs.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not a PIGEN bundle (an HDF5 file of another kind)")
    version = int(file.attrs["version"])
    if not 1 <= version <= VERSION:
        raise UsageError(f"{path} has bundle version {version}; this PIGEN reads 1 to {VERSION}")


def counts(file: h5py.File) -> tuple[int, int, int]:
    """(crystals, atoms, rejects) that the file says it holds; ValueError if they can't be."""
    n, n_atoms, n_rejects = (
        int(file.attrs[name]) for name in ("n_crystals", "n_atoms", "n_rejects")
    )
    if min(n, n_atoms, n_rejects) < 0:
        raise ValueError("a negative count")
    if n_rejects > MAX_REJECTS:
        raise ValueError(f"{n_rejects} rejects, the most is {MAX_REJECTS} (MAX_REJECTS)")
    return n, n_atoms, n_rejects


def stored_kind(found: h5py.Dataset) -> str:
    """The column kind of a stored dataset; ValueError if it has none."""
    if h5py.check_string_dtype(found.dtype) is not None:
        return "str"
    kind = {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}.get(found.dtype.kind)
    if kind is None:
        raise ValueError(f"{found.name} holds {found.dtype}, not float, int, bool or str")
    return kind


def values_of(found: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows start … stop of a column's dataset, (stop - start,)."""
    if stored_kind(found) == "str":
        return read_text(found, start, stop)
    return np.asarray(found[start:stop])


def _info(file: h5py.File) -> BundleInfo:
    n, n_atoms, n_rejects = counts(file)
    columns = {}
    for name in file["columns"]:
        check_name(name)
        per_atom = bool(file[f"columns/{name}"].attrs["per_atom"])
        found = dataset(file, f"columns/{name}", (n_atoms if per_atom else n,))
        columns[name] = ColumnInfo(
            stored_kind(found), said(found.attrs, "unit"), said(found.attrs, "source"), per_atom
        )
    provenance: dict[str, str] = {}
    size = 0
    for key, value in file["provenance"].attrs.items():
        provenance[key] = str(value)
        size += 64 + len(provenance[key])
        check_sum(size, file, "provenance")
    if "kept_by" in provenance:  # version 1
        provenance.setdefault(KEEPS, SURVIVORS)
    return BundleInfo(
        n_crystals=n,
        n_atoms=n_atoms,
        n_rejects=n_rejects,
        complete=bool(file.attrs["complete"]),
        columns=columns,
        verdicts=criteria_in(file),
        provenance=provenance,
        state=str(file.attrs.get("state", "")),
        version=int(file.attrs["version"]),
    )


def _chunk_table(file: h5py.File) -> list[tuple[int, int, int]]:
    """Number, crystals and rejects of each chunk of a shard."""
    if CHUNKS not in file:
        return []
    found = dataset(file, CHUNKS, (file[CHUNKS].shape[0], 3))
    if found.dtype.kind != "i":
        raise ValueError(f"{CHUNKS} holds {found.dtype}")
    return [(number, n, n_rejects) for number, n, n_rejects in found[()].tolist()]


def _rejects(file: h5py.File, rows: slice = slice(None)) -> tuple[Reject, ...]:
    n = counts(file)[2]
    start, stop, _ = rows.indices(n)
    ids = read_text(dataset(file, "rejects/id", (n,)), start, stop)
    reasons = read_text(dataset(file, "rejects/reason", (n,)), start, stop)
    return tuple(Reject(i, r) for i, r in zip(ids, reasons, strict=True))


def _stop(file: h5py.File, n: int, start: int, chunk_size: int) -> int:
    """Where the chunk from `start` ends: sooner than asked for where crystals are large."""
    stop = min(start + chunk_size, n)
    ptr = np.asarray(dataset(file, "crystals/ptr", (n + 1,))[start : stop + 1], dtype=np.int64)
    n_atoms = np.diff(ptr)
    if n_atoms.max(initial=0) > MAX_CELL_ATOMS:
        raise ValueError(f"a crystal of {n_atoms.max()} atoms (MAX_CELL_ATOMS)")
    within = int(np.searchsorted(ptr - ptr[0], MAX_CHUNK_ATOMS, side="right")) - 1
    return min(start + max(within, 1), stop)


def _rows(
    file: h5py.File, info: BundleInfo, start: int, stop: int, rejects: tuple[Reject, ...]
) -> Bundle:
    n, n_atoms = info.n_crystals, info.n_atoms
    ptr = np.asarray(dataset(file, "crystals/ptr", (n + 1,))[start : stop + 1], dtype=np.int64)
    first, last = int(ptr[0]), int(ptr[-1])
    if not 0 <= first <= last <= n_atoms:
        raise ValueError("crystals/ptr points outside the atoms")

    def per_crystal(name: str, *rest: int) -> NDArray[Any]:
        return np.asarray(dataset(file, name, (n, *rest))[start:stop])

    columns = {}
    for name, column in info.columns.items():
        found = dataset(file, f"columns/{name}", (n_atoms if column.per_atom else n,))
        window = (first, last) if column.per_atom else (start, stop)
        columns[name] = Column(
            values_of(found, *window), column.unit, column.source, column.per_atom
        )
    return Bundle(
        crystals=Crystals(
            lattice=per_crystal("crystals/lattice", 3, 3),
            frac_coords=dataset(file, "crystals/frac_coords", (n_atoms, 3))[first:last],
            atomic_numbers=dataset(file, "crystals/atomic_numbers", (n_atoms,))[first:last],
            ptr=ptr - first,
        ),
        ids=read_text(dataset(file, "id", (n,)), start, stop),
        parents=read_text(dataset(file, "parent", (n,)), start, stop),
        columns=columns,
        verdicts={
            name: Verdict(
                per_crystal(f"verdicts/{name}/passed"),
                read_text(dataset(file, f"verdicts/{name}/reason", (n,)), start, stop),
                criterion,
            )
            for name, criterion in info.verdicts.items()
        },
        rejects=rejects,
        provenance=info.provenance,
    )
