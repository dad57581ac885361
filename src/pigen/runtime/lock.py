"""What keeps a file whole: one writer at a time, and signals that wait for a good moment."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from pigen.runtime.errors import PigenError
from pigen.runtime.files import check_writable

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP)
"""What some network file systems answer to flock; filelock knows ENOSYS itself."""


class Lock(contextlib.AbstractContextManager["Lock"]):
    """Held from when it is made; a context manager.

    An flock, so a killed holder holds nothing. On a file system without flock it is a file that
    names its holder: one that an ended process of this machine left is taken over, another has to
    be removed by hand, as the message says.
    """

    def __init__(self, target: Path) -> None:
        """Take the lock.

        Raises:
            PigenError: another process writes the target (names it), or the disk is full.
            UsageError: files may not be made beside the target.
        """
        self._path = lock_of(target)
        check_writable(target.parent)
        try:
            self._lock = _acquired(self._path)
            if isinstance(self._lock, SoftFileLock):  # the file has its holder's name already
                return
            try:
                self._path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", "utf-8")
            except BaseException:
                self.release()
                raise
        except Timeout:
            raise PigenError(f"{target} is being written by {_holder(self._path)}") from None
        except OSError as error:
            raise PigenError(f"cannot write {self._path}: {error.strerror}") from error

    def release(self) -> None:
        """Let the next writer in."""
        self._path.unlink(missing_ok=True)
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()


def lock_of(target: Path) -> Path:
    """The file that is the lock; a killed holder leaves it, and then it locks nothing."""
    return target.with_name(f".{target.name}.lock")


def _acquired(path: Path) -> BaseFileLock:
    # Not of one thread: a writer may be closed in another than that which opened it.
    try:
        lock: BaseFileLock = FileLock(path, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        if not path.stat().st_size:  # the try just made left it, or somebody killed in one
            path.unlink()
        lock = SoftFileLock(path, timeout=0, thread_local=False)
        lock.acquire()
    return lock


def _holder(path: Path) -> str:
    try:
        pid, host, *_ = path.read_text("utf-8", "replace").split()
    except (OSError, ValueError):
        return f"another process; if that has ended, remove {path}"
    return f"process {pid} on {host}; if that has ended, remove {path}"


_HELD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Only note Ctrl-C and SIGTERM, in the list it gives: what they lead to is up to the block."""
    handlers = {number: signal.getsignal(number) for number in _HELD}
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield caught
        return
    for number in _HELD:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the block is through.

    For what must not be left half done; and a KeyboardInterrupt that falls into one of h5py's
    finalizers is lost, for Python only mentions it.
    """
    caught: list[int] = []
    try:
        with interrupts_noted() as caught:
            yield
    finally:
        for number in dict.fromkeys(caught):
            signal.raise_signal(number)
