"""Single files, folders and archives of files."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pigen.bundle import Reject
from pigen.io.entry import Limits
from pigen.io.source import Record, Source, clean_name, decode, encoding_of, stem
from pigen.runtime.bounded import MAX_RATIO, READ_ERRORS, SMALL, open_bytes
from pigen.runtime.errors import UsageError

TEXT_FORMS = {
    ".cif": "cif",
    ".mcif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".contcar": "poscar",
    ".json": "json",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
}
"""Form of a file that holds structures as text, by the end of its name."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a zip member may be packed: what the others unpack to has no bound."""
_ZIP_ERRORS = (
    *(*READ_ERRORS, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError),
    *(OverflowError, struct.error),
)
"""What zipfile raises on a damaged, encrypted or forged archive."""


def text_form(name: str) -> str | None:
    """The form that a file's name promises, or None."""
    base = os.path.basename(name)
    base = base[:-3] if base.lower().endswith(".gz") else base
    if re.match(r"(POSCAR|CONTCAR)([._-].*)?$", base):
        return "poscar"
    return TEXT_FORMS.get(os.path.splitext(base)[1].lower())


def open_file(path: Path, form: str, limits: Limits) -> Source:
    """One file of text."""
    if form == "extxyz":
        return Source((), _frames_of(path, limits), None)
    return Source((), iter([_read(path, form, limits)]), 1)


def open_folder(folder: Path, limits: Limits) -> Source:
    """Every structure file below a folder, in natural order of their paths.

    Other files are passed over, and so are hidden ones; JSON is left out too, because beside
    structures it is mostly something else.

    Raises:
        UsageError: there is none.
    """
    found: list[tuple[Path, str]] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            form = text_form(name)
            if form and form != "json" and not name.startswith("."):
                found.append((Path(parent) / name, form))
    if not found:
        raise UsageError(f"no structure file (.cif, .vasp, POSCAR, .extxyz) in the folder {folder}")
    found.sort(key=lambda item: _natural(str(item[0])))

    def entries() -> Iterator[Record | Reject]:
        for path, form in found:
            if form == "extxyz":
                yield from _frames_of(path, limits)
            else:
                yield _read(path, form, limits)

    return Source((), entries(), None if any(f == "extxyz" for _, f in found) else len(found))


def open_zip(path: Path, limits: Limits) -> Source:
    """Every structure file in a zip archive, flat or in folders, in the order of the archive.

    Nothing is unpacked to disk, so a member's path cannot lead anywhere. Links, folders and
    macOS's shadow files are passed over, archives in it too; a member that is too large, encrypted
    or damaged is a reject.

    Raises:
        UsageError: not a zip archive, no structure file in it, or a bomb.
    """
    with _opened_zip(path, limits) as archive:
        forms = [_member_form(member) for member in archive.infolist()]
        # Members may share their packed bytes, so that all are harmless and their sum is not.
        size = sum(
            member.file_size
            for member, form in zip(archive.infolist(), forms, strict=True)
            if form and not _refusal(member, "", limits)
        )
    n = sum(form is not None for form in forms)
    if not n:
        raise UsageError(f"no structure file (.cif, .vasp, POSCAR, .extxyz, .json) in {path}")
    if size > MAX_RATIO * max(path.stat().st_size, SMALL):
        raise UsageError(f"{path} unpacks to more than {MAX_RATIO} times its size: a bomb")
    return Source((), _zip_entries(path, limits), None if "extxyz" in forms else n)


def _zip_entries(path: Path, limits: Limits) -> Iterator[Record | Reject]:
    with _opened_zip(path, limits) as archive:
        for member in archive.infolist():
            form = _member_form(member)
            if form is None:
                continue
            name = stem(Path(PurePosixPath(member.filename).name))
            text = _member_text(archive, member, name, limits)
            if isinstance(text, Reject):
                yield text
            elif form == "extxyz":
                yield from _frames(io.StringIO(text), name, limits)
            else:
                yield Record(name, text, form)


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


def _member_form(member: zipfile.ZipInfo) -> str | None:
    parts = PurePosixPath(member.filename).parts
    hidden = not parts or parts[0] == "__MACOSX" or parts[-1].startswith(".")
    if hidden or member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
        return None
    return text_form(member.filename)


def _refusal(member: zipfile.ZipInfo, name: str, limits: Limits) -> Reject | None:
    """Why a member is not even unpacked."""
    size, packed = member.file_size, max(member.compress_size, 1)
    if member.compress_type not in METHODS:
        return Reject(name, f"unreadable zip member: packed by method {member.compress_type}")
    if size > SMALL and size > MAX_RATIO * packed:
        return Reject(name, f"oversized: a zip member packed {size // packed} to 1")
    if size > limits.max_entry_bytes:
        return _too_large(name, size, "max-entry-mib", limits.max_entry_bytes)
    return None


def _member_text(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limits: Limits
) -> str | Reject:
    refusal = _refusal(member, name, limits)
    if refusal is not None:
        return refusal
    try:
        with archive.open(member) as stream:
            # The size declared may be a lie.
            data = stream.read(limits.max_entry_bytes + 1)
    except _ZIP_ERRORS as error:
        return Reject(name, clean_name(f"unreadable zip member: {error}", ""))
    if len(data) > limits.max_entry_bytes:
        return _too_large(name, len(data), "max-entry-mib", limits.max_entry_bytes)
    return decode(data)


def _read(path: Path, form: str, limits: Limits) -> Record | Reject:
    """A file read whole."""
    try:
        with open_bytes(path) as stream:
            data = stream.read(limits.max_file_bytes + 1)
    except READ_ERRORS as error:
        return Reject(stem(path), clean_name(f"unreadable file: {error}", ""))
    if len(data) > limits.max_file_bytes:
        return _too_large(stem(path), len(data), "max-file-mib", limits.max_file_bytes)
    return Record(stem(path), decode(data), form)


def _too_large(name: str, size: int, option: str, limit: int) -> Reject:
    return Reject(name, f"oversized: {size} bytes or more, --{option} is {limit // 2**20}")


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key that puts gen_2 before gen_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)
    ]


# -- extended XYZ: a trajectory may be far larger than memory ------------------------------------
def _frames_of(path: Path, limits: Limits) -> Iterator[Record | Reject]:
    try:
        with open_bytes(path) as stream:
            encoding = encoding_of(stream.peek(4)[:4])
            text = io.TextIOWrapper(stream, encoding, "replace", newline=None)
            yield from _frames(text, stem(path), limits)
    except READ_ERRORS as error:
        yield Reject(stem(path), clean_name(f"unreadable file: {error}; the rest was not read", ""))


def _frames(stream: io.TextIOBase, name: str, limits: Limits) -> Iterator[Record | Reject]:
    """Frames of an extended XYZ stream, each as one record named ``name-<index>``."""
    index = 0
    while first := stream.readline(_LINE):
        if not first.strip():
            continue
        frame = f"{name}-{index}"
        index += 1
        n_atoms = _count(first)
        if n_atoms is None:
            yield Reject(frame, "unreadable extxyz: no atom count; the rest was not read")
            return
        lines, size = [first], 0
        for _ in range(n_atoms + 1):
            line = stream.readline(_LINE)
            size += len(line)
            if size <= limits.max_entry_bytes and len(lines) <= limits.max_atoms + 1:
                lines.append(line)
            if not line:
                break
        if n_atoms > limits.max_atoms:
            yield Reject(frame, f"oversized: {n_atoms} atoms, --max-atoms is {limits.max_atoms}")
        elif size > limits.max_entry_bytes:
            yield _too_large(frame, size, "max-entry-mib", limits.max_entry_bytes)
        else:
            yield Record(frame, "".join(lines).replace("\0", "\ufffd"), "extxyz")


def _count(line: str) -> int | None:
    """The number in a frame's first line."""
    text = line.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


_LINE = 2**20
"""Characters of a line read at once: a file without line ends must not fill the memory."""
