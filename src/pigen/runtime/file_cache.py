"""Keeping in memory what was loaded from a file, for as long as the file stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

from pigen.runtime.errors import UsageError

_T = TypeVar("_T")


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
