"""Which part of a run one of n processes does that know nothing of each other.

Work comes in chunks, numbered from 0 in the order of the source; chunk k is that of shard
k mod n + 1. So a stream can be shared out whose length nobody knows before its end, and the same
rule serves batches of samples and searches of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pigen.runtime.errors import UsageError

T = TypeVar("T")

SHARD = "shard"
"""Provenance key of a shard's bundle: which one it is, like "3/8"."""


@dataclass(frozen=True)
class Shard:
    """Shard ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """ValueError unless 1 ≤ index ≤ count."""
        if not 1 <= self.index <= self.count:
            raise ValueError(f"expected 1 ≤ i ≤ n, got {self.index}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``. Raises UsageError for anything else."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        try:
            if found:
                return cls(int(found[1]), int(found[2]))
        except ValueError:
            pass
        raise UsageError(f"shard {text!r}: expected i/n with 1 ≤ i ≤ n, like 3/8")

    def __str__(self) -> str:
        """Like "3/8"."""
        return f"{self.index}/{self.count}"

    def own(self, items: Iterable[T]) -> Iterator[T]:
        """The items that are this shard's; the others are passed over."""
        return islice(items, self.index - 1, None, self.count)

    def number(self, place: int) -> int:
        """Number, in the whole run, of this shard's chunk at a place among its own."""
        return self.index - 1 + place * self.count

    def share(self, total: int) -> int:
        """About how many of so many entries are this shard's."""
        return -(-total // self.count)

    def output(self, path: Path) -> Path:
        """Where this shard writes what the whole run would write to ``path``."""
        return path.with_name(f"{path.stem}.{self.index}-of-{self.count}{path.suffix}")
