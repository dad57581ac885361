"""What a stage counts on its way through chunks: the note that a bundle keeps with each chunk.

Counts are an object of JSON: numbers, texts, and objects of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pigen.runtime.bounded import parse_json
from pigen.runtime.errors import PigenError

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
