"""Archives of structure files: zip and tar, with gzipped members and archives in them.

Nothing is unpacked to disk, so a member's path cannot lead anywhere. Links, folders and macOS's
shadow files are passed over.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pigen.bundle import Reject
from pigen.config.files import Limits
from pigen.io.files import Record, Source, clean_name, pickle_advice, records_of, stem, too_large
from pigen.io.formats import text_form
from pigen.runtime.errors import UsageError
from pigen.runtime.files import MAX_RATIO, READ_ERRORS, SMALL, open_bytes

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a zip member may be packed; other methods may unpack to any size."""
MAX_DEPTH = 2
"""Archives within each other that are opened, the outermost included."""
_HEADER = 2**16
"""Bytes of a tar header; extended ones are read whole."""
_KINDS = (".cif, .vasp, POSCAR, .extxyz, .json", ".zip", ".tar")
_ZIP_ERRORS = (
    *(*READ_ERRORS, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError),
    *(OverflowError, struct.error),
)
"""What zipfile raises on a damaged, encrypted or forged archive."""
_TAR_ERRORS = (*READ_ERRORS, tarfile.TarError, ValueError, OverflowError, struct.error)


def archive_form(name: str) -> str | None:
    """The kind of archive that a file's name promises, or None."""
    lowered = name.lower()
    if lowered.endswith((".tar", ".tar.gz", ".tgz")):
        return "tar"
    return "zip" if lowered.endswith(".zip") else None


def is_tar(head: bytes) -> bool:
    """Whether a file with these first bytes is a tar archive."""
    return head[257:262] == b"ustar"


# -- zip -----------------------------------------------------------------------------------------
def open_zip(path: Path, limits: Limits) -> Source:
    """Every structure file in a zip archive, flat or in folders, in the order of the archive.

    A member that is too large, encrypted or damaged is a reject.

    Raises:
        UsageError: not a zip archive, no structure file in it, or a bomb.
    """
    with _opened_zip(path, limits) as archive:
        members = archive.infolist()
        forms = [_zip_form(member) for member in members]
        if not any(forms):
            if any(member.filename.endswith("data.pkl") for member in members):
                raise UsageError(pickle_advice(path))
            raise UsageError(f"no structure file ({', '.join(_KINDS)}) in {path}")
        if _is_bomb(archive, path.stat().st_size, limits):
            raise UsageError(f"{path} unpacks to more than {MAX_RATIO} times its size: a bomb")
    plain = all(form not in ("extxyz", "jsonl", "zip", "tar") for form in forms)
    total = sum(form is not None for form in forms) if plain else None
    return Source((), _zip_file_entries(path, limits), total)


def _zip_file_entries(path: Path, limits: Limits) -> Iterator[Record | Reject]:
    with _opened_zip(path, limits) as archive:
        yield from _zip_entries(archive, limits, 1)


def _zip_entries(archive: zipfile.ZipFile, limits: Limits, depth: int) -> Iterator[Record | Reject]:
    for member in archive.infolist():
        form = _zip_form(member)
        if form is None:
            continue
        name = stem(Path(PurePosixPath(member.filename).name))
        most = _most(form, limits)
        data = _zip_data(archive, member, name, limits, most)
        if isinstance(data, Reject):
            yield data
        else:
            yield from _entries(data, name, form, limits, depth)


def _is_bomb(archive: zipfile.ZipFile, packed: int, limits: Limits) -> bool:
    """Whether the members together are too large: they may share their packed bytes."""
    size = sum(
        member.file_size
        for member in archive.infolist()
        if (form := _zip_form(member)) and not _refusal(member, "", _most(form, limits), limits)
    )
    return size > MAX_RATIO * max(packed, SMALL)


@contextmanager
def _opened_zip(path: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    # The list of members is read whole, and takes ten times its size in memory.
    with _Bounded(path.open("rb", buffering=0), limits.max_file_bytes // 2) as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except _ZIP_ERRORS as error:
            raise UsageError(f"{path} is not a zip archive: {error}") from None
        with archive:
            yield archive


class _Bounded(io.BufferedReader):
    """A file of which no more than a limit is read at once."""

    def __init__(self, raw: io.FileIO, limit: int) -> None:
        super().__init__(raw)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._limit:
            mib = self._limit * 2 // 2**20
            raise zipfile.BadZipFile(f"a list of {size} bytes, too long for --max-file-mib {mib}")
        return super().read(size)


def _zip_form(member: zipfile.ZipInfo) -> str | None:
    if not member.filename or member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
        return None
    return _member_form(member.filename)


def _refusal(member: zipfile.ZipInfo, name: str, most: int, limits: Limits) -> Reject | None:
    """The reason if a member must not be unpacked."""
    size, packed = member.file_size, max(member.compress_size, 1)
    if member.compress_type not in METHODS:
        return Reject(name, f"unreadable zip member: packed by method {member.compress_type}")
    if size > SMALL and size > MAX_RATIO * packed:
        return Reject(name, f"oversized: a zip member packed {size // packed} to 1")
    return _too_large(name, size, most, limits) if size > most else None


def _zip_data(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limits: Limits, most: int
) -> bytes | Reject:
    refusal = _refusal(member, name, most, limits)
    if refusal is not None:
        return refusal
    try:
        with archive.open(member) as stream:
            # The size declared may be a lie.
            data = stream.read(most + 1)
    except _ZIP_ERRORS as error:
        return Reject(name, clean_name(f"unreadable zip member: {error}", ""))
    return _too_large(name, len(data), most, limits) if len(data) > most else data


# -- tar -----------------------------------------------------------------------------------------
def open_tar(path: Path, limits: Limits) -> Source:
    """Every structure file in a tar archive, gzipped or not, in the order of the archive."""
    return Source((), _tar_file_entries(path, limits), None)


def _tar_file_entries(path: Path, limits: Limits) -> Iterator[Record | Reject]:
    n = 0
    try:
        with open_bytes(path) as stream:
            for entry in _tar_entries(stream, limits, 1):
                n += 1
                yield entry
    except _TAR_ERRORS as error:
        reason = clean_name(f"unreadable tar archive: {error}", "")
        yield Reject(stem(path), f"{reason}; the rest of it was not read")
    else:
        if not n:
            reason = f"no structure file ({', '.join(_KINDS)}) in the tar archive"
            yield Reject(stem(path), f"no structure: {reason}")


def _tar_entries(
    stream: IO[bytes] | io.BufferedReader, limits: Limits, depth: int
) -> Iterator[Record | Reject]:
    forward = _Forward(stream)
    # Only read, seek and tell are asked for.
    archive: Any = tarfile.TarFile(fileobj=forward, mode="r")  # type: ignore[arg-type]
    while (member := archive.next()) is not None:
        archive.members.clear()  # they would all be kept
        form = _member_form(member.name) if member.isreg() and not member.issparse() else None
        if form is None:
            continue
        name = stem(Path(PurePosixPath(member.name).name))
        most = _most(form, limits)
        if member.size > most:
            yield _too_large(name, member.size, most, limits)
            continue
        forward.seek(member.offset_data)
        data = forward.take(member.size)
        if len(data) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        yield from _entries(data, name, form, limits, depth)


class _Forward:
    """A stream from which tarfile can read headers: it goes forward, and back by one byte."""

    def __init__(self, stream: IO[bytes] | io.BufferedReader) -> None:
        self._stream, self._at, self._last, self._again = stream, 0, b"", b""

    def tell(self) -> int:
        return self._at - len(self._again)

    def seek(self, place: int) -> None:
        if place == self._at - 1 and self._last:
            self._again = self._last
            return
        if place < self._at:
            raise tarfile.ReadError("a member that begins before the last one ends")
        self._again = b""
        while self._at < place and self.take(min(place - self._at, _HEADER)):
            pass

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.take(size)

    def take(self, size: int) -> bytes:
        data, self._again = self._again[:size], b""
        more = self._stream.read(size - len(data)) if size > len(data) else b""
        self._at += len(more)
        data += more
        self._last = data[-1:] or self._last
        return data


# -- both ----------------------------------------------------------------------------------------
def _member_form(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "__MACOSX" or parts[-1].startswith("."):
        return None
    return text_form(name) or archive_form(name)


def _most(form: str, limits: Limits) -> int:
    """Bytes that a member may have."""
    return limits.max_file_bytes if form in ("zip", "tar") else limits.max_entry_bytes


def _too_large(name: str, size: int, most: int, limits: Limits) -> Reject:
    option = "max-entry-mib" if most == limits.max_entry_bytes else "max-file-mib"
    return too_large(name, size, option, most)


def _entries(
    data: bytes, name: str, form: str, limits: Limits, depth: int
) -> Iterator[Record | Reject]:
    """The entries of a member, unpacked; its own members if it is an archive."""
    most = _most(form, limits)
    if data[:2] == b"\x1f\x8b":
        unzipped = _unzipped(data, name, most, limits)
        if isinstance(unzipped, Reject):
            yield unzipped
            return
        data = unzipped
    if form not in ("zip", "tar"):
        yield from records_of(data, name, form, limits)
        return
    if depth >= MAX_DEPTH:
        yield Reject(name, f"no structure: an archive more than {MAX_DEPTH} deep (MAX_DEPTH)")
        return
    opened: Callable[[bytes, Limits, int], Iterator[Record | Reject]]
    opened = _inner_zip if form == "zip" else _inner_tar
    try:
        yield from opened(data, limits, depth + 1)
    except (*_ZIP_ERRORS, tarfile.TarError) as error:
        reason = clean_name(f"unreadable archive: {error}", "")
        yield Reject(name, f"{reason}; the rest of it was not read")


def _inner_zip(data: bytes, limits: Limits, depth: int) -> Iterator[Record | Reject]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if _is_bomb(archive, len(data), limits):
            raise ValueError(f"packed more than {MAX_RATIO} to 1 (MAX_RATIO): a bomb")
        yield from _zip_entries(archive, limits, depth)


def _inner_tar(data: bytes, limits: Limits, depth: int) -> Iterator[Record | Reject]:
    yield from _tar_entries(io.BytesIO(data), limits, depth)


def _unzipped(data: bytes, name: str, most: int, limits: Limits) -> bytes | Reject:
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            unzipped = stream.read(min(most, max(SMALL, MAX_RATIO * len(data))) + 1)
    except READ_ERRORS as error:
        return Reject(name, clean_name(f"unreadable archive member: {error}", ""))
    if len(unzipped) > most:
        return _too_large(name, len(unzipped), most, limits)
    if len(unzipped) > max(SMALL, MAX_RATIO * len(data)):
        return Reject(name, f"oversized: a member packed more than {MAX_RATIO} to 1")
    return unzipped
