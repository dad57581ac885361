"""From sources to chunks: recognise, open, parse in parallel, name every entry once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np

from pigen.bundle import Bundle, Column, Reject, bundle_info, iter_bundle, strings
from pigen.bundle.marks import marked
from pigen.bundle.names import Names
from pigen.config.files import Limits
from pigen.io.archives import archive_form, is_tar, open_tar, open_zip
from pigen.io.ase_files import SQLITE, ULM, open_database, open_trajectory
from pigen.io.chunk import Found, column_of
from pigen.io.entry import Refused, check_size
from pigen.io.files import (
    Columns,
    Record,
    Source,
    advice,
    clean_name,
    decode,
    open_file,
    open_folder,
)
from pigen.io.formats import parse, text_form
from pigen.io.parquet import open_parquet
from pigen.io.tables import MAX_COLUMNS, open_csv
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import Divisible, SerialExecutor, map_ordered
from pigen.runtime.files import READ_ERRORS, open_bytes
from pigen.runtime.shard import Shard

FORMATS = (
    "CIF, a folder, zip or tar of structure files, CSV or parquet with a 'cif' or 'structure' "
    "column (.gz too), extxyz, POSCAR, JSON of pymatgen, the Materials Project, Alexandria, "
    "JARVIS, OPTIMADE or ASE, ASE's .db and .traj, a PIGEN bundle (.h5)"
)
"""What can be read, in words."""

CHUNK_SIZE = 1000
_CHUNK_BYTES = 32 * 2**20
"""Characters of text in one chunk: a few huge entries must not fill the memory."""
_MOST_COLUMNS = 2 * MAX_COLUMNS
"""Columns of all sources together."""
_OTHER_FORMS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".db": "database",
    ".traj": "trajectory",
    ".h5": "bundle",
    ".hdf5": "bundle",
}
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"\x89HDF": "bundle",
    SQLITE[:4]: "database",
    ULM[:4]: "trajectory",
}

PathType = str | PathLike[str]


def read_chunks(
    sources: Iterable[PathType],
    *,
    chunk_size: int = CHUNK_SIZE,
    executor: Executor | None = None,
    limits: Limits | None = None,
) -> Iterator[Bundle]:
    """Every entry of every source, in order: a crystal, or a reject with its reason.

    Sources are opened, and tables gone through once, before this returns; entries are read while
    the chunks are taken, so memory stays bounded however long a source is.

    Args:
        sources: files and folders of the kinds in `FORMATS`, recognised by name, else by content.
        chunk_size: crystals in a chunk, at most.
        executor: where texts are parsed; None for this process.
        limits: what is too large.

    Yields:
        Bundles of at most `chunk_size` crystals; ids are unique over the whole stream. Columns
        are those of the source, with what `Bundle.concatenate` says where they differ. Where the
        sources do not all carry verdicts by the same criteria, these become text columns
        ``verdict_<name>``.

    Raises:
        UsageError: a source is missing or of no known kind (at once).
        PigenError: more entries than the limit, or a damaged bundle (while reading).
    """
    limits = limits or Limits()
    opened = [open_source(source, limits, chunk_size=chunk_size) for source in sources]
    return stream(opened, chunk_size=chunk_size, executor=executor, limits=limits)


def read(source: PathType, *, limits: Limits | None = None) -> Bundle:
    """All of one source in memory. Raises as `read_chunks`."""
    return Bundle.concatenate(list(read_chunks([source], limits=limits)))


def open_source(
    source: PathType, limits: Limits | None = None, *, chunk_size: int = CHUNK_SIZE
) -> Source:
    """Recognise and open one source. Raises UsageError if it is missing or of no known kind."""
    path, limits = Path(source), limits or Limits()
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    if path.is_dir():
        return open_folder(path, limits)
    if not path.is_file():
        raise UsageError(f"{path} is not a regular file; write what it gives to one")
    form = _recognise(path)
    if form == "csv":
        return open_csv(path, limits)
    if form == "parquet":
        return open_parquet(path, limits)
    if form == "database":
        return open_database(path, limits)
    if form == "trajectory":
        return open_trajectory(path, limits)
    if form == "zip":
        return open_zip(path, limits)
    if form == "tar":
        return open_tar(path, limits)
    if form == "bundle":
        info = bundle_info(path)
        chunks = (_within(chunk, limits) for chunk in iter_bundle(path, chunk_size))
        total = info.n_crystals + info.n_rejects
        return Source((), chunks, total, frozenset(info.verdicts.values()))
    return open_file(path, form, limits)


def stream(
    sources: Sequence[Source],
    *,
    chunk_size: int = CHUNK_SIZE,
    executor: Executor | None = None,
    limits: Limits | None = None,
    shard: Shard | None = None,
) -> Iterator[Bundle]:
    """`read_chunks` for sources that are open already. Raises as it does.

    With ``shard``, only its chunks are parsed and given, each marked for `merge`; ids are unique in
    the shard.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    limits = limits or Limits()
    return _stream(sources, chunk_size, executor or SerialExecutor(), limits, shard)


def _stream(
    sources: Sequence[Source],
    chunk_size: int,
    executor: Executor,
    limits: Limits,
    shard: Shard | None,
) -> Iterator[Bundle]:
    names = Names()
    n_read = 0
    columns: set[str] = set()
    jobs = _jobs(sources, chunk_size, limits)
    own = jobs if shard is None else shard.own(jobs)
    for place, bundle in enumerate(_parsed(own, executor)):
        n_read += bundle.n_entries
        if n_read > limits.max_entries:
            raise PigenError(f"more than {limits.max_entries} entries (--max-entries)")
        columns.update(bundle.columns)
        if len(columns) > _MOST_COLUMNS:
            raise PigenError(f"more than {_MOST_COLUMNS} columns in all sources together")
        named = names.make_unique(bundle)
        for start in range(0, max(len(named), 1), chunk_size):
            part = named
            if len(named) > chunk_size:  # a file of many structures
                part = named.select(slice(start, start + chunk_size))
                part = part if start == 0 else replace(part, rejects=())
            if shard is not None:
                part = marked(part, shard.number(place))
            yield part


# -- recognising ---------------------------------------------------------------------------------
def _recognise(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    known = archive_form(path.name) or text_form(path.name)
    known = known or _OTHER_FORMS.get(Path(name).suffix)
    if known:
        return known
    try:
        with open_bytes(path) as opened:
            head = opened.read(4096)
    except READ_ERRORS as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if refusal := advice(path, head):
        raise UsageError(refusal)
    found = _MAGIC.get(head[:4]) or ("tar" if is_tar(head) else _by_content(decode(head)))
    if found is None:
        raise UsageError(f"{path} is of no kind that can be read. Accepted: {FORMATS}")
    return found


def _by_content(head: str) -> str | None:
    lines = head.splitlines() + [""] * 3
    if re.search(r"^\s*data_\S*\s*$", head, re.MULTILINE):
        return "csv" if "," in lines[0] and not lines[0].startswith(("#", "data_")) else "cif"
    if head.lstrip()[:1] in ("{", "["):
        return "json"  # or one a line
    if lines[0].strip().isdecimal() and "Lattice=" in lines[1]:
        return "extxyz"
    if {"cif", "structure"} & {word.strip(' "').lower() for word in lines[0].split(",")}:
        return "csv"
    if all(re.fullmatch(r"\s*([-+.\deE]+\s+){2}[-+.\deE]+\s*", line) for line in lines[2:5]):
        return "poscar"
    return None


def _within(chunk: Bundle, limits: Limits) -> Bundle:
    """A bundle's chunk in which crystals of too many atoms have become rejects."""
    n_atoms = chunk.crystals.n_atoms
    if n_atoms.max(initial=0) <= limits.max_atoms:
        return chunk
    rejects = []
    for i in np.flatnonzero(n_atoms > limits.max_atoms):
        try:
            check_size(int(n_atoms[i]), limits)
        except Refused as reason:
            rejects.append(Reject(clean_name(chunk.ids[i], "crystal"), str(reason)))
    kept = chunk.select(n_atoms <= limits.max_atoms)
    return replace(kept, rejects=(*chunk.rejects, *rejects))


# -- parsing -------------------------------------------------------------------------------------
@dataclass
class _Job:
    """Entries that are parsed together."""

    columns: Columns
    limits: Limits
    entries: list[Record | Reject] = field(default_factory=list)
    size: int = 0  # characters of text


def _jobs(sources: Sequence[Source], chunk_size: int, limits: Limits) -> Iterator[_Job | Bundle]:
    job = _Job((), limits)
    differ = len({source.criteria for source in sources}) > 1
    for source in sources:
        for entry in source.entries:
            if isinstance(entry, Bundle):
                if job.entries:
                    yield job
                    job = _Job((), limits)
                yield _verdicts_as_columns(entry) if differ else entry
                continue
            full = len(job.entries) >= chunk_size or job.size > _CHUNK_BYTES
            if full or job.columns != source.columns:
                if job.entries:
                    yield job
                job = _Job(source.columns, limits)
            job.entries.append(entry)
            job.size += _size(entry)
    if job.entries:
        yield job


def _size(entry: Record | Reject) -> int:
    if isinstance(entry, Reject):
        return 0
    return len(entry.text) + sum(len(value) for value in entry.values if isinstance(value, str))


def _verdicts_as_columns(bundle: Bundle) -> Bundle:
    """The bundle with its verdicts as text: other crystals of the stream were not judged so."""
    columns = {
        f"verdict_{name}": Column(
            strings("passed" if p else r for p, r in zip(v.passed, v.reasons, strict=True)),
            "",
            v.criterion.text,
        )
        for name, v in bundle.verdicts.items()
    }
    return replace(bundle.with_columns(columns), verdicts={})


def _parsed(jobs: Iterable[_Job | Bundle], executor: Executor) -> Iterator[Bundle]:
    """A chunk of the stream from each job; what comes from bundles is one already."""
    for ready, some in groupby(jobs, key=lambda job: isinstance(job, Bundle)):
        if ready:
            yield from cast(Iterator[Bundle], some)
        else:
            yield from map_ordered(executor, _Parsing(), cast(Iterator[_Job], some))


class _Parsing(Divisible[_Job, Bundle]):
    """Parses a job; an entry that hangs or kills a worker becomes a reject."""

    def __call__(self, item: _Job) -> Bundle:
        """Parse the entries into a chunk of the stream."""
        found = Found()
        rows: list[tuple[str | float, ...]] = []
        for record in item.entries:
            if isinstance(record, Reject):
                found.rejects.append(record)
                continue
            for name, one in parse(record.text, record.form, item.limits):
                key = record.id + name if name.startswith("#") else name or record.id
                if found.add(clean_name(key, record.id), one):
                    rows.append(record.values)
        columns = {
            name: column_of(name, kind, [row[k] for row in rows])
            for k, (name, kind) in enumerate(item.columns)
        }
        return found.bundle(columns)

    def size(self, item: _Job) -> int:
        """Number of entries."""
        return len(item.entries)

    def divide(self, item: _Job, size: int) -> list[_Job]:
        """Divide the entries into parts, in order."""
        starts = range(0, len(item.entries), size)
        return [replace(item, entries=item.entries[i : i + size]) for i in starts]

    def join(self, results: Sequence[Bundle]) -> Bundle:
        """Join the parts into one chunk."""
        return Bundle.concatenate(results)

    def refuse(self, item: _Job, reason: str) -> Bundle:
        """The entry as a reject, under the name that its record has."""
        rejects: list[Record | Reject] = [Reject(entry.id, reason) for entry in item.entries]
        return self(replace(item, entries=rejects))

    def nothing(self, item: _Job) -> _Job:
        """The job without entries."""
        return replace(item, entries=[])
