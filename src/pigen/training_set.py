"""Reading training structures and their labels from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Reject, count_rejects
from pigen.crystals import Crystals
from pigen.descriptors import descriptor_names, evaluate
from pigen.errors import UsageError
from pigen.model.data import niggli
from pigen.read import read_chunks

E_HULL_COLUMNS = ("e_hull", "e_above_hull")
"""Columns that hold E_hull in eV/atom: ours, and the one of the MP-20 files."""


@dataclass(frozen=True)
class Labelled:
    """Niggli-reduced crystals with their labels.

    Attributes:
        crystals: B crystals. labels: (B, n_labels), NaN where missing.
        left_out: reason → number of entries of the source that are not among them.
    """

    crystals: Crystals
    labels: NDArray[np.float64]
    left_out: dict[str, int]

    def keep(self, rows: NDArray[np.bool_], reason: str) -> Labelled:
        """Those with a True in ``rows`` (B,); the others are counted under ``reason``."""
        gone = int((~rows).sum())
        return Labelled(
            self.crystals[rows],
            self.labels[rows],
            {**self.left_out, reason: gone} if gone else self.left_out,
        )


def read_labelled(sources: Sequence[str], labels: Sequence[str], max_atoms: int) -> Labelled:
    """All structures of the sources, with a column per label.

    A label with a column of its name is taken from it, E_hull also from ``e_above_hull``; the
    others are computed where a descriptor of that name exists.

    Raises:
        UsageError: no sources, an unreadable one, or nothing left.
    """
    if not sources:
        raise UsageError(
            "data.train is empty: a model needs structures to train on; give a labelled bundle, "
            "e.g. --set 'data.train=[\"train.h5\"]' (made by `pigen label`)"
        )
    # Of each chunk only this stays: its ids and further columns would be most of the memory.
    parts = [Crystals.empty()]
    values = [np.zeros((0, len(labels)))]
    rejects: list[Reject] = []
    too_large = 0
    for read in read_chunks(sources):
        chunk, of_chunk = _labelled_chunk(read, labels)
        small = chunk.crystals.n_atoms <= max_atoms
        parts.append(niggli(chunk.crystals[small]))
        values.append(of_chunk[small])
        rejects.extend(chunk.rejects)
        too_large += int((~small).sum())
    left_out = count_rejects(rejects)
    if too_large:
        left_out[f"more than {max_atoms} atoms"] = too_large
    found = Labelled(Crystals.concatenate(parts), np.concatenate(values), left_out)
    if not len(found.crystals):
        raise UsageError(f"no structure to train on in {', '.join(sources)}: {found.left_out}")
    return found


def digest(found: Labelled) -> str:
    """How many structures there are, and 16 digits of the hash of them and their labels."""
    crystals = found.crystals
    arrays = (crystals.lattice, crystals.frac_coords, crystals.atomic_numbers, crystals.ptr)
    hashed = hashlib.sha256()
    for array in (*arrays, found.labels):
        hashed.update(np.ascontiguousarray(array).tobytes())
    return f"{len(crystals)} structures, sha256 {hashed.hexdigest()[:16]}"


def known_only(found: Labelled, elements: Sequence[int]) -> Labelled:
    """Without the crystals that hold an element outside ``elements``."""
    strange = ~np.isin(found.crystals.atomic_numbers, list(elements))
    counts = np.zeros(len(found.crystals), dtype=np.int64)
    np.add.at(counts, found.crystals.batch, strange)
    return found.keep(counts == 0, "an element absent from the training set")


def _labelled_chunk(chunk: Bundle, labels: Sequence[str]) -> tuple[Bundle, NDArray[np.float64]]:
    values = np.full((len(chunk), len(labels)), np.nan)
    for place, label in enumerate(labels):
        names = E_HULL_COLUMNS if label == "e_hull" else (label,)
        present = [chunk.columns[name] for name in names if name in chunk.columns]
        if not present and label in descriptor_names():
            chunk, _ = evaluate(chunk, [label])
            present = [chunk.columns[label]]
        if present and present[0].kind != "str":
            values[:, place] = present[0].values
    return chunk, values
