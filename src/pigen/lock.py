"""One writer for each file or folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from pigen.errors import PigenError


class Lock:
    """Held from when it is made: an flock, so a killed holder holds nothing."""

    def __init__(self, target: Path) -> None:
        """Take it; PigenError, naming who writes the target, where another process has it."""
        self._path = target.with_name(f".{target.name}.lock")
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(self._descriptor, 200).decode(errors="replace")
                os.close(self._descriptor)
                raise PigenError(f"{target} is being written by {holder or 'another'}") from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                    raise
            # The holder before us may have removed the file between our open and our lock.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(self._descriptor).st_ino == os.stat(self._path).st_ino:
                    break
            os.close(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Let the next writer in."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
