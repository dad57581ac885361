"""The settings of filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from pigen.config.chemistry import ChemistryConfig
from pigen.runtime.checked import setting
from pigen.runtime.resources import KNOWN_LISTS

CRITERION_LABELS = {
    "min_distance": "A′",
    "spp": "A",
    "novel": "B",
    "c": "C",
    "mled": "D",
    "e_hull": "E",
    "k": "K",
}
"""Criterion → what tables call it; one that is not here goes by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig(ChemistryConfig):
    """The criteria of the paper's filters."""

    min_distance: float = setting(
        0.5, "A': every interatomic distance above this.", unit="Å", lo=0.0
    )
    spp: float = setting(0.362, "A: statistical proxy potential below this.")
    novel: bool = setting(True, "B: composition absent from the known ones.")
    c: tuple[float, float] = setting(
        (0.55, 0.85), "C: compactness strictly inside this window.", window=True
    )
    mled: float = setting(9.0, "D: local environment diversity above this.", unit="bits")
    k: float = setting(3.9, "K: crystallographic complexity above this.", unit="bits/atom")
    spp_table: str = setting("", "SPP table; empty: the shipped one.", path=True)
    where: Mapping[str, tuple[float, float]] = setting(
        {},
        "Further criteria, counted alone: descriptor or column → [lo, hi], an end may be inf.",
        window=True,
    )
    known: str = setting(
        "",
        "Known compositions: mp (the Materials Project), training, a list (.txt) or any source of "
        "structures; empty: those of the training set.",
        path=True,
        names=("", *KNOWN_LISTS),
    )

    def __post_init__(self) -> None:
        """A criterion with a key of its own is set there."""
        ChemistryConfig.__post_init__(self)  # what super() gives is not found in a class with slots
        own = {field.name for field in dataclasses.fields(self)} - {"where", "spp_table", "known"}
        for name in self.where:
            if name in own:
                raise ValueError(f"where.{name}: has a key of its own, filter.{name}")
