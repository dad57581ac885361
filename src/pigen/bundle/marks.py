"""Which chunks of a whole run a shard's bundle holds, so that `merge` can put them in order.

A chunk of a shard carries its number in its provenance, through every stage, from the reader to the
writer. The writer stores it with the chunk's crystals and rejects, in the dataset `CHUNKS`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.memory import Bundle

MARK = "shard_chunk"
"""Provenance key of a chunk that is one of a shard."""
CHUNKS = "shard/chunks"
"""Dataset (chunks, 3): number in the whole run, crystals, rejects."""


def marked(chunk: Bundle, number: int) -> Bundle:
    """The chunk with its number in the whole run, from 0; parts of a large one share it."""
    return replace(chunk, provenance={**chunk.provenance, MARK: str(number)})


def record_of(chunk: Bundle) -> NDArray[np.int64]:
    """(1, 3) what the writer stores of a chunk that is marked."""
    return np.array([[int(chunk.provenance[MARK]), len(chunk), len(chunk.rejects)]])
