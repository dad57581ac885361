"""One writer for each file or folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from pigen.errors import PigenError
from pigen.files import check_writable

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What file systems say that have no flock, as some network ones."""


class Lock:
    """Held from when it is made; a context manager.

    An flock, so a killed holder holds nothing. On a file system without flock it is a file that
    names its holder; one left by a process of this machine that has ended is taken over, one left
    on another machine has to be removed by hand, as the message says.
    """

    def __init__(self, target: Path) -> None:
        """Take it.

        Raises:
            PigenError: another process writes the target (names it), or the disk is full.
            UsageError: files may not be made beside the target.
        """
        self._target = target
        self._path = lock_of(target)
        check_writable(target.parent)
        try:
            self._descriptor = self._flock()
            try:
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, _myself().encode())
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise PigenError(f"cannot write {self._path}: {error.strerror}") from error

    def _flock(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 200).decode(errors="replace")
                os.close(descriptor)
                raise PigenError(self._refusal(holder)) from error
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_FLOCK:
                    raise
                return self._name_alone()
            # The holder before us may have removed the file between our open and our lock.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == os.stat(self._path).st_ino:
                    return descriptor
            os.close(descriptor)

    def _name_alone(self) -> int:
        holder = self._path.read_text(encoding="utf-8", errors="replace")
        if holder and not _has_ended(holder):
            hint = f"; if that has ended, remove {self._path}"
            raise PigenError(self._refusal(holder) + hint)
        self._path.unlink(missing_ok=True)
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise PigenError(self._refusal("")) from error

    def _refusal(self, holder: str) -> str:
        return f"{self._target} is being written by {holder or 'another process'}"

    def release(self) -> None:
        """Let the next writer in."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> Lock:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release."""
        self.release()


def lock_of(target: Path) -> Path:
    """The file that is the lock; a killed holder leaves it, and then it locks nothing."""
    return target.with_name(f".{target.name}.lock")


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _has_ended(holder: str) -> bool:
    """Whether a holder was of this machine and is no more."""
    words = holder.split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False
