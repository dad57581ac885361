"""Files that are there whole and on disk, or not at all; kept in memory until they change."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

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
