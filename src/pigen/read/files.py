"""Single files, folders and archives of files."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pigen.bundle import Reject
from pigen.errors import UsageError
from pigen.read.entry import Limits
from pigen.read.source import (
    READ_ERRORS,
    Record,
    Source,
    clean_name,
    decode,
    open_bytes,
    stem,
)

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

MAX_RATIO = 200
"""Compression ratio beyond which a large archive member is taken for a bomb; CIF reaches 10."""
_SMALL = 2**20
"""Bytes up to which any ratio is harmless."""


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
    macOS's shadow files are passed over; a member that is too large, encrypted or damaged is a
    reject.

    Raises:
        UsageError: not a zip archive, or no structure file in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(m, form) for m in archive.infolist() if (form := _member_form(m))]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UsageError(f"{path} is not a zip archive: {error}") from error
    if not members:
        raise UsageError(f"no structure file (.cif, .vasp, POSCAR, .extxyz, .json) in {path}")

    def entries() -> Iterator[Record | Reject]:
        with zipfile.ZipFile(path) as archive:
            for member, form in members:
                name = stem(Path(PurePosixPath(member.filename).name))
                text = _member_text(archive, member, name, limits)
                if isinstance(text, Reject):
                    yield text
                elif form == "extxyz":
                    yield from _frames(io.StringIO(text), name, limits)
                else:
                    yield Record(name, text, form)

    return Source((), entries(), None if any(f == "extxyz" for _, f in members) else len(members))


def _member_form(member: zipfile.ZipInfo) -> str | None:
    parts = PurePosixPath(member.filename).parts
    hidden = not parts or parts[0] == "__MACOSX" or parts[-1].startswith(".")
    if hidden or member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
        return None
    return text_form(member.filename)


def _member_text(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limits: Limits
) -> str | Reject:
    size, packed = member.file_size, max(member.compress_size, 1)
    if size > _SMALL and size > MAX_RATIO * packed:
        return Reject(name, f"oversized: a zip member packed {size // packed} to 1")
    if size > limits.max_entry_bytes:
        return _too_large(name, size, "max-entry-mib", limits.max_entry_bytes)
    try:
        with archive.open(member) as stream:
            # The size declared may be a lie.
            data = stream.read(limits.max_entry_bytes + 1)
    except (*READ_ERRORS, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
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
            text = io.TextIOWrapper(stream, "utf-8-sig", "replace", newline=None)
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
        if not first.strip().isdecimal() or len(first) > 20:
            yield Reject(frame, "unreadable extxyz: no atom count; the rest was not read")
            return
        lines, size = [first], 0
        for _ in range(int(first) + 1):
            line = stream.readline(_LINE)
            size += len(line)
            if size <= limits.max_entry_bytes:
                lines.append(line)
            if not line:
                break
        if size > limits.max_entry_bytes:
            yield _too_large(frame, size, "max-entry-mib", limits.max_entry_bytes)
        else:
            yield Record(frame, "".join(lines).replace("\0", "\ufffd"), "extxyz")


_LINE = 2**20
"""Characters of a line read at once: a file without line ends must not fill the memory."""
