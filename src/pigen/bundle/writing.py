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
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

import h5py

from pigen.bundle.appending import append, size_bound, skeleton
from pigen.bundle.digest import VOLATILE
from pigen.bundle.marks import MARK
from pigen.bundle.memory import KEEPS, Bundle
from pigen.bundle.reading import LIBVER, VERSION, bundle_info
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import parse_toml, sync
from pigen.runtime.lock import Lock, interrupts_later


class BundleWriter(contextlib.AbstractContextManager["BundleWriter"]):
    """Appends chunks to a bundle file; a context manager.

    After every `append` the file under `path` is complete and on disk up to and with that chunk.
    Leaving the context marks the bundle complete; leaving it by an exception does not, and what was
    appended stays readable. Without `resume`, an existing file is replaced at the first append.

    Args:
        path: where to write.
        provenance: how the bundle came about. On resume it must equal what the file says.
        resume: continue after the crystals that an existing file holds.

    Attributes:
        n_written, n_rejected: crystals and rejects in the file.
        complete: whether the file was finished before: there is nothing to go on with.
        state: what the last `append` noted; "" if it noted nothing.

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
        self.complete = False
        self.state = ""
        self.n_written = 0
        self.n_rejected = 0
        if not self._path.parent.is_dir():
            raise UsageError(f"no such folder: {self._path.parent}")
        if self._path.is_dir():
            raise UsageError(f"{self._path} is a folder")
        self._lock = Lock(self._path)
        try:
            if resume and self._path.exists():
                self._go_on()
            self._drop_shadow()  # of a writer that was killed
        except BaseException:
            self._lock.release()
            raise

    def _go_on(self) -> None:
        try:
            info = bundle_info(self._path)
        except UsageError:
            raise
        except PigenError as error:
            raise PigenError(f"cannot resume: {error}") from error
        if info.version != VERSION and not info.complete:
            raise UsageError(
                f"{self._path} was begun by an older PIGEN (bundle version {info.version}), which "
                "this one cannot go on with; make it again"
            )
        if KEEPS in info.provenance:  # perhaps from its source, which has not been looked at yet
            self._provenance.setdefault(KEEPS, info.provenance[KEEPS])
        check_same_provenance(self._path, info.provenance, self._provenance)
        self.n_written, self.n_rejected = info.n_crystals, info.n_rejects
        self._started, self.complete, self.state = True, info.complete, info.state

    def append(self, chunk: Bundle, state: str = "") -> None:
        """Add a chunk's crystals and rejects; on return they are safe on disk.

        Columns behave as in `Bundle.concatenate`. The chunk's provenance is not used.

        Args:
            chunk: what to add.
            state: a note that is stored with the chunk, for whoever resumes.

        Raises:
            PigenError: the chunk's columns or verdicts contradict the file's, or the file cannot
                be written; the file still holds every chunk before this one.
        """
        is_shards = MARK in chunk.provenance
        if self._started and not len(chunk) and not chunk.rejects and not is_shards:
            return
        self._publish(chunk, state, complete=False)

    def close(self) -> None:
        """Mark the bundle complete and let go of it."""
        try:
            if not self.complete or not self._started:
                self._publish(Bundle.empty(), self.state, complete=True)
        finally:
            self._release()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an exception only let go."""
        if kind is None:
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

    @interrupts_later()
    def _publish(self, chunk: Bundle, state: str, *, complete: bool) -> None:
        try:
            with self._open_shadow(chunk) as file:
                for part in (*self._behind, chunk):
                    append(file, part)
                file.attrs["complete"] = complete
                file.attrs.pop("state", None)
                if state:
                    file.attrs["state"] = state
            sync(self._shadow)
            self._swap()
        except BaseException as error:
            self._drop_shadow()  # it may hold half a chunk
            if not isinstance(error, OSError | RuntimeError):
                raise
            kept = f"; it holds the {self.n_written} crystals before" if self._started else ""
            raise PigenError(f"cannot write {self._path}: {_plain(error)}{kept}") from error
        self._behind = [chunk] if self._shadow.exists() else []
        self._started, self.complete, self.state = True, complete, state
        self.n_written += len(chunk)
        self.n_rejected += len(chunk.rejects)

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
        sync(self._path.parent)


def write_bundle(path: str | PathLike[str], bundle: Bundle) -> None:
    """Write a whole bundle in one atomic step. Raises as `BundleWriter`."""
    with BundleWriter(path, bundle.provenance) as writer:
        writer._publish(bundle, "", complete=True)


def check_same_provenance(path: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise UsageError naming every setting that differs between a file and its resumption."""
    changed = [
        change
        for key in sorted((old.keys() | new.keys()) - VOLATILE)
        for change in _changes(key, old.get(key), new.get(key))
    ]
    if changed:
        raise UsageError(f"cannot resume {path}: {'; '.join(changed)}")


def _changes(key: str, old: str | None, new: str | None) -> Iterator[str]:
    """What differs, in words; of two texts of TOML the settings in them."""
    if old == new:
        return
    if old is None or new is None:
        yield f"{key} was {'not ' * (old is None)}given and is now {'not ' * (new is None)}given"
        return
    before, now = _settings(old), _settings(new)
    if not before or not now:
        yield f"{key} was {old!r} and is now {new!r}"
        return
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            was, is_now = (found.get(name, "not given") for found in (before, now))
            yield f"{name} was {was} and is now {is_now}"


def _settings(text: str) -> dict[str, str]:
    """Dotted key → value of a text of TOML; none of any other text."""
    try:
        tables = [("", parse_toml(text))]
    except ValueError:
        return {}
    found = {}
    while tables:
        path, table = tables.pop()
        for key, value in table.items():
            name = f"{path}.{key}" if path else key
            if isinstance(value, dict):
                tables.append((name, value))
            else:
                found[name] = repr(value)
    return found


# -- files ---------------------------------------------------------------------------------------
def _reserve(path: Path, n_bytes: int) -> None:
    """Claim disk space for a file to grow by so much.

    HDF5 crashes the process when a disk fills up under it; this fails with a plain OSError before
    it comes to that. HDF5 gives back what it does not need when it closes the file.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        if shutil.disk_usage(path).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, n_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise  # the others: a file system that cannot do this
    finally:
        os.close(descriptor)


def _plain(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error).split())
