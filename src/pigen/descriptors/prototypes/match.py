"""Which framework of a library a structure has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import strings
from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.library import Library
from pigen.descriptors.prototypes.reduce import matcher_cells, ready


@dataclass(frozen=True, eq=False)
class Matched:
    """Frameworks of B crystals.

    Attributes:
        labels: (B,) "" where there is none.
        ranks: (B,) 0 where there is none, -1 where there is a reason.
        reasons: (B,) why a crystal could not be compared, else "".
    """

    labels: NDArray[np.object_]
    ranks: NDArray[np.int64]
    reasons: NDArray[np.object_]


def match(crystals: Crystals, library: Library) -> Matched:
    """The highest-ranked framework of the library that the matcher fits each crystal to."""
    cells, reasons = matcher_cells(crystals)
    labels, ranks = [""] * len(crystals), np.zeros(len(crystals), dtype=np.int64)
    ranks[reasons != ""] = -1
    for i, one in enumerate(ready(cells)):
        if reasons[i]:
            continue
        try:
            found = library.known.first_fit(one)
        except ValueError as error:
            ranks[i], reasons[i] = -1, str(error)
            continue
        if found is not None:
            labels[i], ranks[i] = library.labels[found], library.ranks[found]
    return Matched(strings(labels), ranks, reasons)
