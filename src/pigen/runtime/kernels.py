"""Compiled kernels: where their machine code is kept, and the line that says they are compiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from filelock import FileLock, Timeout
from numba.core import event

from pigen.runtime.progress import QUIET

_CONFIG: Any = numba.config  # its attributes are made when it is imported
_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])
SAID = "pigen: compiling, once after installing or updating; this takes up to a minute"


def cache_folder() -> Path:
    """Where machine code is kept: ``NUMBA_CACHE_DIR``, else the user's cache folder."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    of_user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(given).absolute() if given else Path(of_user) / "pigen" / "numba"


@lru_cache(maxsize=1)
def can_keep() -> bool:
    """Whether machine code can be written to `cache_folder`; if not, each process compiles it."""
    folder = cache_folder()
    if not folder.is_absolute():  # nobody's home
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def njit(**options: Any) -> Callable[[_Kernel], _Kernel]:
    """``numba.njit`` whose machine code is kept in `cache_folder`; the first to compile says so.

    numba itself would keep it beside the sources, which are others' where the package is shared.
    """

    def decorate(function: _Kernel) -> _Kernel:
        before = _CONFIG.CACHE_DIR
        _CONFIG.CACHE_DIR = str(cache_folder())
        try:
            return cast(_Kernel, numba.njit(cache=can_keep(), **options)(function))
        finally:
            _CONFIG.CACHE_DIR = before

    return decorate


class _Compiling(event.Listener):
    """Says once that kernels are compiled; of the processes of one command, one does."""

    def __init__(self) -> None:
        """Nothing is said yet."""
        self._lock: FileLock | None = None

    def on_start(self, event: Any) -> None:
        """Say it, unless it has been."""
        ours = event.data["dispatcher"].py_func.__module__.startswith("pigen.")
        if self._lock is not None or not ours or os.environ.get(QUIET):
            return
        self._lock = FileLock(cache_folder() / f"compiling-{os.getpgrp()}.lock", timeout=0)
        try:
            if can_keep():
                self._lock.acquire()  # until this process ends
        except Timeout:
            return
        except OSError:  # a file system without locks
            pass
        print(SAID, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        """Nothing."""


event.register("numba:compile", _Compiling())  # type: ignore[no-untyped-call]
