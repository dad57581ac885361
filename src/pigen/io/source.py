"""A source, opened: the entries it holds, as text, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pigen.bundle import Bundle, Criterion, Reject
from pigen.runtime.bounded import clean_text

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
