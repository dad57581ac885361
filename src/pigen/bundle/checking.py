"""What an HDF5 file must be before anything is read from it: files come from strangers.

HDF5 lets a small file ask for any amount of memory, and for other files of the user's: by links,
by storage outside, by chunks that unpack to more than they say, by texts that share their bytes.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from pigen.bundle.columns import Strings, strings

MAX_OBJECTS = 20_000
"""Datasets and groups in a file: each column is one, each verdict three."""
MAX_CHUNK_BYTES = 2**18
"""Of a storage chunk, unpacked; the writer's have 8 KiB, h5py's own choice is 256 KiB at most."""
MAX_REJECTS = 2_000_000
"""In a file: they are read at once."""
MAX_CELL_ATOMS = 10_000_000
"""In a crystal of a bundle, whatever ``--max-atoms`` says of it later."""
MAX_SOURCE = 2**16
"""Characters of what a column says of its unit or source."""

_MAX_DEPTH = 4
_MAX_COMPRESSION = 1100
"""deflate shrinks by at most 1,032: a dataset declaring more than its storage can hold is a lie."""
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_ROOM = 2**28
"""Bytes that texts may take whatever the size of the file."""


def check_objects(group: h5py.Group, depth: int = 0, seen: int = 0) -> int:
    """How many objects a file has, each in this file and stored plainly; ValueError if one is not.

    Args:
        group: the file.
        depth: of the group. seen: objects before it.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("groups nested too deeply")
    for name in group:
        seen += 1
        if seen > MAX_OBJECTS:
            raise ValueError(f"more than {MAX_OBJECTS} columns and groups (MAX_OBJECTS)")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            seen = check_objects(item, depth + 1, seen)
        elif isinstance(item, h5py.Dataset):
            _check_storage(item)
    return seen


def dataset(file: h5py.Group, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """The dataset `name`, if it is there with this shape; ValueError if not."""
    found = file.get(name)
    if found is None:
        raise ValueError(f"{name} is missing")
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} is not a dataset")
    if found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {found.shape}")
    declared = found.size * found.dtype.itemsize
    if declared > _MAX_COMPRESSION * found.id.get_storage_size():
        raise ValueError(f"{name} declares {declared} bytes and holds far fewer")
    return found


def check_sum(sizes: int, file: h5py.File, what: str) -> None:
    """ValueError if texts take more than a file of this size can hold without sharing."""
    if sizes > max(_ROOM, 4 * int(file.id.get_filesize())):
        raise ValueError(f"{what}: {sizes} characters in so small a file")


def read_text(found: h5py.Dataset, start: int, stop: int) -> Strings:
    """Rows start … stop of a dataset of texts, (stop - start,); ValueError if they are too long."""
    # Each text may be as long as the file, and we only know when we have it: few at a time.
    rows = int(np.clip(2 * _ROOM // max(int(found.file.id.get_filesize()), 1), 16, 4096))
    texts: list[str] = []
    size = 0
    for at in range(start, stop, rows):
        part: list[str] = found.asstr(errors="replace")[at : min(at + rows, stop)].tolist()
        size += sum(map(len, part))
        check_sum(size, found.file, found.name)
        texts += part
    return strings(texts)


def said(attributes: Any, name: str) -> str:
    """A column's attribute as text; ValueError if it is too long, KeyError without it."""
    text = str(attributes[name])
    if len(text) > MAX_SOURCE:
        raise ValueError(f"{name} of a column has {len(text)} characters")
    return text


def _check_storage(found: h5py.Dataset) -> None:
    if found.is_virtual or found.external:
        raise ValueError(f"{found.name} keeps its data in another file")
    if found.chunks is None:
        return
    size = int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"{found.name} has chunks of {size} bytes, the most is {MAX_CHUNK_BYTES}")
    made = found.id.get_create_plist()
    filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    if not set(filters) <= _FILTERS or len(set(filters)) < len(filters):
        raise ValueError(f"{found.name} is packed by filters {filters}; only gzip is read")

    def check(chunk: Any) -> None:
        # HDF5 unpacks a chunk to its end, however long that is.
        if chunk.size > 2 * size + 1024:
            raise ValueError(f"{found.name} has a chunk of {chunk.size} bytes for {size}")

    if filters:
        found.id.chunk_iter(check)
