"""What a stage counts on its way through chunks, and a share of what was counted.

A bundle keeps the counts with each chunk as an object of JSON: numbers, texts, and objects of
these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from pigen.runtime.errors import PigenError
from pigen.runtime.files import parse_json

EVERY = ""
"""A key of examples that stands for every other."""


def counts_text(counts: Mapping[str, Any]) -> str:
    """The note, which `parse_counts` reads."""
    return json.dumps(counts, ensure_ascii=False)


def parse_counts(note: str, path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """The counts in a note; none of an empty one.

    Args:
        note: of the bundle ``path``.
        like: for each key that may be there an example of its value, None for any.

    Raises:
        PigenError: the note holds something else.
    """
    try:
        found = parse_json(note or "{}")
    except ValueError as error:
        raise PigenError(f"{path} is damaged: {error}") from error
    if not _is_like(found, like):
        raise PigenError(f"{path} is damaged: its notes are not what this stage counts")
    return dict(found)


def _is_like(found: Any, example: Any) -> bool:
    if not isinstance(example, Mapping):
        return example is None or type(found) is type(example)
    if not isinstance(found, dict) or not (EVERY in example or found.keys() <= example.keys()):
        return False
    return all(_is_like(v, example.get(key, example.get(EVERY))) for key, v in found.items())


@dataclass(frozen=True)
class Rate:
    """How many of a number of structures passed."""

    passed: int
    total: int

    def __post_init__(self) -> None:
        """ValueError for more that passed than there are."""
        if not 0 <= self.passed <= self.total:
            raise ValueError(f"expected 0 <= passed <= total, got {self.passed} of {self.total}")

    @property
    def fraction(self) -> float:
        """Share that passed, NaN of none."""
        return self.passed / self.total if self.total else float("nan")

    @property
    def percent(self) -> float:
        """The same share in percent."""
        return 100 * self.fraction

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the fraction."""
        return sqrt(self.fraction * (1 - self.fraction) / self.total) if self.total else 0.0

    @property
    def percent_error(self) -> float:
        """The same error in percent."""
        return 100 * self.standard_error

    def __str__(self) -> str:
        """``n / N (x.x ± s.e. %)``, with – for the share of none."""
        if not self.total:
            return f"{self.passed} / 0 (–)"
        return f"{self.passed} / {self.total} ({self.percent:.1f} ± {self.percent_error:.1f} %)"
