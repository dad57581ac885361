"""Files: written whole or not at all, kept in memory until they change, and read within bounds.

A file may come from a stranger: only regular files of bounded size are read, zipped or not, and
their text is made fit to print and to store.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from pigen.runtime.errors import PigenError, UsageError

_T = TypeVar("_T")
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file; whoever opens it, at any time, finds the old content or the new.

    Args:
        path: of the file.
        content: all of it.
        durable: put it on disk before this returns. Not worth its time for what is made again in
            no time, in many files.

    Raises:
        PigenError: it cannot be written (a full disk); the old file stays.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replaced(path, durable=durable) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to, whose file replaces the one at ``path`` when the block ends well.

    Raises:
        PigenError: it cannot be written; the old file stays.
    """
    part = part_of(path)
    try:
        yield part
        if durable:
            sync(part)
        os.replace(part, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        raise PigenError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file stands while it is written; of a killed writer's the next one disposes."""
    return path.with_name(f".{path.name}.part")


def append_line(path: Path, line: str) -> None:
    """Add a line, or several, to a text file, and put it on disk. Raises PigenError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PigenError(f"cannot write {path}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raise UsageError unless files may be made in a folder, or in what it would be made in.

    PigenError where the disk is full.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{there} is not a folder")
    try:
        # Permission bits do not tell: of root, of read-only disks, of network file systems.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        kind = UsageError if error.errno in _FORBIDDEN else PigenError
        raise kind(f"cannot write in {there}: {error.strerror}") from error


def sha256_of(path: Path, digits: int = 16) -> str:
    """First digits of the hash of a file (64 are all); OSError if it can't be read."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:digits]


def cached_file(maxsize: int) -> Callable[[Callable[[Path], _T]], Callable[[str | Path], _T]]:
    """Decorate a function of a path: its results stay until the file is another.

    That is one of another time, size or place on disk: the time alone tells little where a clock
    was set back. The decorated function raises UsageError, with the system's reason, for a file
    that isn't there or can't be looked at.
    """

    def decorate(load: Callable[[Path], _T]) -> Callable[[str | Path], _T]:
        @lru_cache(maxsize=maxsize)
        def cached(path: Path, mtime_ns: int, size: int, inode: int) -> _T:
            return load(path)

        @wraps(load)
        def look_first(path: str | Path) -> _T:
            path = Path(path)
            try:
                stamp = path.stat()
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}") from None
            return cached(path, stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)

        return look_first

    return decorate


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
