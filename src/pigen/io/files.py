"""Sources of structures, opened: single files and folders, whose entries come one at a time.

And what is not opened here, and how to convert it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pigen.bundle import Bundle, Criterion, Reject
from pigen.config.files import Limits
from pigen.io.formats import text_form
from pigen.runtime.errors import UsageError
from pigen.runtime.files import READ_ERRORS, clean_text, open_bytes

Columns = tuple[tuple[str, str], ...]
"""(name, kind) of what a table says of each entry; the kind is "float64" or "str"."""

MAX_NAME = 200
"""Characters of an id: file names have about that limit, and nobody reads more."""


@dataclass(frozen=True)
class Record:
    """One entry of a source: text in a form of `pigen.io.formats`, and its row of the columns."""

    id: str
    text: str
    form: str
    values: tuple[str | float, ...] = ()


@dataclass(frozen=True)
class Source:
    """An opened source. Its entries can be gone through once.

    Attributes:
        columns: what the values of each record are.
        entries: records, rejects for entries that are not even text, and ready chunks.
        total: how many entries there are, None if only reading them all would tell.
        criteria: of the verdicts that its chunks carry, if it is a bundle.
    """

    columns: Columns
    entries: Iterator[Record | Reject | Bundle]
    total: int | None
    criteria: frozenset[Criterion] = frozenset()


_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}


def encoding_of(head: bytes) -> str:
    """The encoding of a text by its first four bytes: UTF-16 or -32 with its mark, else UTF-8."""
    if head[:4] in _MARKS:
        return _MARKS[head[:4]]
    return "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def decode(data: bytes) -> str:
    """Text of a file: UTF-8 with or without its mark, UTF-16 with it, anything else replaced."""
    return data.decode(encoding_of(data), "replace").replace("\0", "\ufffd")


def clean_name(name: object, otherwise: str) -> str:
    """A printable id of bounded length; what stands in for an empty one is given."""
    return clean_text(str(name)).strip()[:MAX_NAME] or otherwise


def stem(path: Path) -> str:
    """File name without its last suffix, and without .gz before that."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return clean_name(Path(name).stem, "file")


# -- files and folders -------------------------------------------------------------------------
def open_file(path: Path, form: str, limits: Limits) -> Source:
    """One file of text."""
    if form in _STREAMED:
        return Source((), _streamed(path, form, limits), None)
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
            if form and form not in ("json", "jsonl") and not name.startswith("."):
                found.append((Path(parent) / name, form))
    if not found:
        raise UsageError(f"no structure file (.cif, .vasp, POSCAR, .extxyz) in the folder {folder}")
    found.sort(key=lambda item: _natural(str(item[0])))

    def entries() -> Iterator[Record | Reject]:
        for path, form in found:
            if form == "extxyz":
                yield from _streamed(path, form, limits)
            else:
                yield _read(path, form, limits)

    return Source((), entries(), None if any(f == "extxyz" for _, f in found) else len(found))


def _read(path: Path, form: str, limits: Limits) -> Record | Reject:
    """A file read whole."""
    try:
        with open_bytes(path) as stream:
            data = stream.read(limits.max_file_bytes + 1)
    except READ_ERRORS as error:
        return Reject(stem(path), clean_name(f"unreadable file: {error}", ""))
    if len(data) > limits.max_file_bytes:
        return too_large(stem(path), len(data), "max-file-mib", limits.max_file_bytes)
    return Record(stem(path), decode(data), form)


def too_large(name: str, size: int, option: str, limit: int) -> Reject:
    """The reject of an entry of so many bytes."""
    return Reject(name, f"oversized: {size} bytes or more, --{option} is {limit // 2**20}")


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key that puts gen_2 before gen_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)
    ]


# -- one entry after the other: such a file may be far larger than memory --------------------------
def records_of(data: bytes, name: str, form: str, limits: Limits) -> Iterator[Record | Reject]:
    """The entries of a text that is in memory, named after it."""
    if form in _STREAMED:
        yield from _STREAMED[form](io.StringIO(decode(data), newline=None), name, limits)
    else:
        yield Record(name, decode(data), form)


def _streamed(path: Path, form: str, limits: Limits) -> Iterator[Record | Reject]:
    try:
        with open_bytes(path) as stream:
            encoding = encoding_of(stream.peek(4)[:4])
            text = io.TextIOWrapper(stream, encoding, "replace", newline=None)
            yield from _STREAMED[form](text, stem(path), limits)
    except (*READ_ERRORS, UnicodeError) as error:
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
            yield too_large(frame, size, "max-entry-mib", limits.max_entry_bytes)
        else:
            yield Record(frame, "".join(lines).replace("\0", "\ufffd"), "extxyz")


def _count(line: str) -> int | None:
    """The number in a frame's first line."""
    text = line.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _json_lines(stream: io.TextIOBase, name: str, limits: Limits) -> Iterator[Record | Reject]:
    """The lines of a text, each a JSON text of its own, named ``name-<index>``."""
    index = 0
    while line := stream.readline(limits.max_entry_bytes + 1):
        key = f"{name}-{index}"
        index += bool(line.strip())
        if len(line) > limits.max_entry_bytes:
            yield too_large(key, len(line), "max-entry-mib", limits.max_entry_bytes)
            while line and not line.endswith("\n"):
                line = stream.readline(_LINE)
        elif line.strip():
            yield Record(key, line.replace("\0", "\ufffd"), "json")


_STREAMED = {"extxyz": _frames, "jsonl": _json_lines}
_LINE = 2**20
"""Characters of a line read at once: a file without line ends must not fill the memory."""


PICKLES = {
    ".pt": "torch",
    ".pth": "torch",
    ".ckpt": "torch",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".p": "pickle",
}
"""Ends of names of pickles, and the module that opens them."""
PACKED = {
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"7z\xbc\xaf": "7z x",
}
"""First bytes of packed files that are not read, and what unpacks them."""
_ARRAYS = "('frac_coords', 'atom_types', 'num_atoms', 'lengths', 'angles')"


def advice(path: Path, head: bytes) -> str | None:
    """Why a file is not opened and how to convert it; None if it may be read."""
    for magic, program in PACKED.items():
        if head.startswith(magic):
            return f"{path} is packed; unpack it first: {program} {path.name}"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    if suffix in PICKLES or pickled:
        return pickle_advice(path, PICKLES.get(suffix, "pickle"))
    return None


def pickle_advice(path: Path, module: str = "torch") -> str:
    """The two lines that convert a pickle, in one."""
    target = f"{path.name.split('.')[0]}.json"
    if module == "torch":
        load = f"import json, torch; d = torch.load({path.name!r}, 'cpu', weights_only=False)"
        save = f"json.dump({{k: d[k].tolist() for k in {_ARRAYS}}}, open({target!r}, 'w'))"
    else:
        load = f"import json, pickle; d = pickle.load(open({path.name!r}, 'rb'))"
        save = f"json.dump([s.as_dict() for s in d], open({target!r}, 'w'))"
    return (
        f"{path} is a pickle, and to open it is to run code in it. If you trust it, convert it by "
        f"two lines of Python: {load}  and  {save}"
    )
