"""Writing bundles to HDF5 so that whoever opens the file, at any time, finds whole chunks.

HDF5 cannot change a file in one atomic step: a writer killed inside an append may leave a file
nobody can open. So the file under the bundle's name is never touched. A second file, the shadow,
is one chunk behind it; an append brings the shadow up to date, syncs it to disk, and renames it
over the bundle, whose old file becomes the next shadow. Each chunk is written twice, and the disk
holds the bundle twice while it grows: the price of never losing what was computed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType

import h5py

from pigen.bundle.appending import append, size_bound, skeleton
from pigen.bundle.marks import MARK
from pigen.bundle.memory import Bundle
from pigen.bundle.reading import LIBVER, bundle_info
from pigen.errors import PigenError, UsageError
from pigen.lock import Lock

VOLATILE = frozenset({"created"})
"""Provenance keys that may differ between a run and its resumption."""


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C until the block is through.

    A KeyboardInterrupt that falls into one of h5py's finalizers is lost: Python only mentions it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


class BundleWriter:
    """Appends chunks to a bundle file; a context manager.

    After every `append` the file under `path` is complete and on disk up to and with that chunk.
    Leaving the context marks the bundle complete; leaving it by an exception does not, and what was
    appended stays readable. Without `resume`, an existing file is replaced at the first append.

    Args:
        path: where to write.
        provenance: how the bundle came about. On resume it must equal what the file says.
        resume: continue after the crystals that an existing file holds.

    Raises:
        UsageError: no such folder; resumed with another provenance (names the difference).
        PigenError: another writer holds the file (names it); the disk is full.
    """

    def __init__(
        self, path: str | PathLike[str], provenance: Mapping[str, str], *, resume: bool = False
    ) -> None:
        """Claim the file; nothing is written yet."""
        self._path = Path(path)
        self._provenance = dict(provenance)
        self._shadow = self._path.with_name(f".{self._path.name}.shadow")
        self._previous = self._path.with_name(f".{self._path.name}.previous")
        self._behind: list[Bundle] = []  # what the bundle has and the shadow lacks
        self._started = False  # whether the file under our name is ours
        self._complete = False
        self._n = 0
        self._n_rejects = 0
        if not self._path.parent.is_dir():
            raise UsageError(f"no such folder: {self._path.parent}")
        if self._path.is_dir():
            raise UsageError(f"{self._path} is a folder")
        if resume and self._path.exists():
            info = bundle_info(self._path)
            check_same_provenance(self._path, info.provenance, provenance)
            self._n, self._n_rejects = info.n_crystals, info.n_rejects
            self._started, self._complete = True, info.complete
        self._lock = Lock(self._path)
        self._drop_shadow()  # of a writer that was killed

    @property
    def n_written(self) -> int:
        """Crystals in the file."""
        return self._n

    @property
    def n_rejected(self) -> int:
        """Rejects in the file."""
        return self._n_rejects

    def append(self, chunk: Bundle) -> None:
        """Add a chunk's crystals and rejects; on return they are safe on disk.

        Columns behave as in `Bundle.concatenate`. The chunk's provenance is not used.

        Raises:
            PigenError: the chunk's columns or verdicts contradict the file's, or the file cannot
                be written; the file still holds every chunk before this one.
        """
        if self._started and not len(chunk) and not chunk.rejects and MARK not in chunk.provenance:
            return
        self._publish(chunk, complete=False)

    def close(self) -> None:
        """Mark the bundle complete and let go of it."""
        if not self._complete or not self._started:
            self._publish(Bundle.empty(), complete=True)
        self._release()

    def __enter__(self) -> BundleWriter:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; after an exception only let go."""
        if error is None:
            self.close()
        else:
            self._release()

    def _release(self) -> None:
        self._drop_shadow()
        self._lock.release()

    def _drop_shadow(self) -> None:
        self._behind = []
        for path in (self._shadow, self._previous):
            path.unlink(missing_ok=True)

    @_interrupts_later()
    def _publish(self, chunk: Bundle, *, complete: bool) -> None:
        try:
            with self._open_shadow(chunk) as file:
                for part in (*self._behind, chunk):
                    append(file, part)
                file.attrs["complete"] = complete
            _sync(self._shadow)
            self._swap()
        except BaseException as error:
            self._drop_shadow()  # it may hold half a chunk
            if not isinstance(error, OSError | RuntimeError):
                raise
            kept = f"; it holds the {self._n} crystals before" if self._started else ""
            raise PigenError(f"cannot write {self._path}: {_plain(error)}{kept}") from error
        self._behind = [chunk] if self._shadow.exists() else []
        self._started, self._complete = True, complete
        self._n += len(chunk)
        self._n_rejects += len(chunk.rejects)

    def _open_shadow(self, chunk: Bundle) -> h5py.File:
        need = sum(map(size_bound, (*self._behind, chunk)))
        if self._shadow.exists():
            _reserve(self._shadow, need)
            # Refused if a reader opened it while it was the bundle, and still reads.
            with contextlib.suppress(OSError):
                return h5py.File(self._shadow, "r+", libver=LIBVER)
            self._shadow.unlink()
        self._behind = []
        if self._started:
            shutil.copyfile(self._path, self._shadow)
        else:
            self._shadow.write_bytes(skeleton(self._provenance))
        _reserve(self._shadow, need)
        return h5py.File(self._shadow, "r+", libver=LIBVER)

    def _swap(self) -> None:
        if self._started:
            # Without hard links (some network file systems) the next append copies the bundle.
            with contextlib.suppress(OSError):
                os.link(self._path, self._previous)
        os.replace(self._shadow, self._path)
        if self._previous.exists():
            os.replace(self._previous, self._shadow)
        _sync(self._path.parent)


def write_bundle(path: str | PathLike[str], bundle: Bundle) -> None:
    """Write a whole bundle in one atomic step. Raises as `BundleWriter`."""
    with BundleWriter(path, bundle.provenance) as writer:
        writer._publish(bundle, complete=True)


def check_same_provenance(path: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise UsageError naming the first setting that differs between a file and its resumption."""
    for key in sorted((old.keys() | new.keys()) - VOLATILE):
        if old.get(key) != new.get(key):
            raise UsageError(
                f"cannot resume {path}: {key} was {old.get(key)!r} and is now {new.get(key)!r}"
            )


# -- files ---------------------------------------------------------------------------------------
def _reserve(path: Path, n_bytes: int) -> None:
    """Claim disk space for a file to grow by so much.

    HDF5 crashes the process when a disk fills up under it; this fails with a plain OSError before
    it comes to that. HDF5 gives back what it does not need when it closes the file.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, n_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise  # the others: a file system that cannot do this
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error).split())
