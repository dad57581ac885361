"""Reading files that strangers wrote: regular files only, of bounded size, zipped or not.

And their text, made fit to print and to store.
"""

from __future__ import annotations

import gzip
import io
import json
import stat
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pigen.runtime.errors import UsageError

MAX_RATIO = 200
"""Compression ratio beyond which a large file or archive is taken for a bomb; CIF reaches 10."""
SMALL = 2**20
"""Bytes up to which any ratio is harmless."""
MAX_SIDE_FILE_BYTES = 64 * 2**20
"""Of a file that is read whole beside the structures: a manifest, a table, a list, unzipped."""

MAX_VALUES = 4_000_000
"""Values in a JSON text: each takes far more memory than the two bytes it may be written in."""

READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a truncated or corrupt compressed file raises."""


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed if it is gzip, whatever its name says.

    Raises:
        OSError: it can't be read, or is no regular file (a pipe would wait for ever).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    with path.open("rb") as raw:
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield raw
            return
        with gzip.open(raw) as unzipped:
            yield io.BufferedReader(_Watched(raw, unzipped), 2**17)


class _Watched(io.RawIOBase):
    """What a gzip file holds, until it turns out to be packed beyond `MAX_RATIO`."""

    def __init__(self, packed: io.BufferedReader, unzipped: gzip.GzipFile) -> None:
        self._packed, self._unzipped, self._size = packed, unzipped, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unzipped.read1(len(buffer))  # what is whole of a file that ends too soon
        buffer[: len(data)] = data
        self._size += len(data)
        if self._size > SMALL and self._size > MAX_RATIO * max(self._packed.tell(), 1):
            raise OSError(f"packed more than {MAX_RATIO} to 1 (MAX_RATIO): a bomb; unpack it first")
        return len(data)


def read_whole(
    path: Path, limit: int = MAX_SIDE_FILE_BYTES, name: str = "MAX_SIDE_FILE_BYTES"
) -> bytes:
    """All bytes of a file, unzipped.

    Args:
        path: of the file.
        limit: bytes; name: what the limit is called, or the flag that raises it.

    Raises:
        UsageError: it is no regular file, larger than the limit, or damaged gzip.
        OSError: the system can't read it: FileNotFoundError and its kin.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path}: not a regular file")
    try:
        with open_bytes(path) as stream:
            content = stream.read(limit + 1)
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UsageError(f"{path} cannot be read: {error}") from None
    if len(content) > limit:
        raise UsageError(f"{path}: oversized, more than {limit // 2**20} MiB unpacked ({name})")
    return content


def read_text(
    path: Path, limit: int = MAX_SIDE_FILE_BYTES, name: str = "MAX_SIDE_FILE_BYTES"
) -> str:
    """The text of a file in UTF-8, with or without its mark.

    Raises:
        ValueError: it is none.
        UsageError, OSError: as `read_whole`.
    """
    content = read_whole(path, limit, name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:  # which quotes all of it
        raise ValueError(f"not text in UTF-8: byte {error.start}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: it is none, is nested too deeply, or holds an endless number.
    """
    import tomli

    try:
        return tomli.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def parse_json(text: str | bytes, most: int = MAX_VALUES) -> Any:
    """Python's value of a JSON text.

    Args:
        text: the JSON.
        most: values that it may hold.

    Raises:
        ValueError: it is none, is nested too deeply, or holds too many values.
    """
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    n = sum(text.count(mark) for mark in ",[{")
    if n > most:
        raise ValueError(f"oversized: {n} values or more, the most is {most}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def clean_text(text: str) -> str:
    """Text that HDF5 and a terminal can take: no control characters, no half surrogates."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def numbered(name: str, taken: Container[str]) -> str:
    """The name, or the first of name_2, name_3, … that is not taken, whatever its case.

    ``taken`` holds names in lower case.
    """
    candidate, k = name, 1
    while candidate.lower() in taken:
        k += 1
        candidate = f"{name}_{k}"
    return candidate
