"""Prototypes: the known framework of a structure, if it has one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.library import Library, load_library, match
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor
from pigen.runtime import resources


@descriptor(
    "prototype",
    ColumnSpec("prototype", "", "highest-ranked known framework the structure has, if any", "text"),
    ColumnSpec("prototype_rank", "", "its rank in the library, 0 if it has none", "whole"),
)
def prototype(
    crystals: Crystals, library: Path = resources.PROTOTYPES / "aflow.h5", top: int = 100
) -> Evaluated:
    """The framework of each crystal among the highest-ranked of a library, regardless of elements.

    Args:
        crystals: B crystals.
        library: file of a stored library, for `load_library`.
        top: ranks above this one are not looked at.
    """
    matched = match(crystals, _top(load_library(library), top))
    values = {"prototype": matched.labels, "prototype_rank": matched.ranks}
    return Evaluated(values, matched.reasons)


@lru_cache(maxsize=4)
def _top(library: Library, n: int) -> Library:
    return library.top(n)
