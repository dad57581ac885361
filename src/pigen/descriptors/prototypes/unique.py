"""Duplicates: which structures of a stream came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.descriptors.prototypes.known import KnownStructures
from pigen.descriptors.prototypes.reduce import PREPARE, Prepared

SOURCE = "pigen: first of its kind, by pymatgen's StructureMatcher"
"""Source of the column ``unique``."""


class UniqueStage(Stage[Prepared]):
    """Marks every structure that is the first of its kind, in the column ``unique``."""

    like: Mapping[str, Any] = {EVERY: 0}

    def __init__(self) -> None:
        """None seen yet."""
        super().__init__()
        self.counts, self.task, self._distinct = Counter(), PREPARE, Distinct()

    def take(self, result: Prepared) -> Bundle:
        """Count; the chunk with its marks."""
        first = self._distinct.add(result)
        n = int(first.sum())
        self.counts.update({"unique": n, "duplicates": len(first) - n})
        return result[0].with_columns({"unique": Column(first, "", SOURCE)})


class Distinct:
    """Tells which structures of a stream are no duplicate of an earlier one, elements included."""

    def __init__(self) -> None:
        """None seen yet."""
        self._known = KnownStructures(species=True)

    def add(self, prepared: Prepared) -> NDArray[np.bool_]:
        """(B,) whether each structure of a chunk is the first of its kind.

        It is a duplicate if it fits one that was the first of its kind. What can't be compared
        counts as the first.
        """
        unique = np.ones(len(prepared[1]), dtype=bool)
        for i, one in enumerate(prepared[1]):
            if one is None:
                continue
            try:
                unique[i] = self._known.first_fit(one) is None
            except ValueError:
                continue
            if unique[i]:
                self._known.add(one)
        return unique
