"""The settings of what compositions must be, in sampling and in filters, and of the filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from pigen.crystal.chemistry import Chemistry, Stoichiometry
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF
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

MORE_IS_BETTER = frozenset(("min_distance", "mled", "k", "p_hull_050", "p_hull_100"))
"""Quantities of which a bare number in a criterion is the least, and rankings have most first."""
LESS_IS_BETTER = frozenset(("spp", "e_hull"))
"""Those of which it is the most; of any other a criterion wants a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChemistryConfig:
    """What a composition must be."""

    elements_allowed: tuple[str, ...] = setting(
        (), "Only these elements; empty allows all.", choices=SYMBOLS[1:]
    )
    elements_excluded: tuple[str, ...] = setting(
        (), "Elements no structure may hold.", choices=SYMBOLS[1:]
    )
    elements_required: tuple[str, ...] = setting(
        (), "Elements every structure must hold.", choices=SYMBOLS[1:]
    )
    elements_one_of: tuple[tuple[str, ...], ...] = setting(
        (),
        'Lists of elements; a structure holds one or more of each list: [["O", "S"]].',
        choices=SYMBOLS[1:],
    )
    n_elements: int | tuple[int, int] = setting(
        (1, MAX_Z),
        "How many elements: a number, or [lo, hi] with both ends included.",
        lo=1,
        hi=MAX_Z,
        window=True,
    )
    charge_balanced: bool = setting(
        False,
        "Only compositions whose charges can balance (SMACT, mixed valence allowed); alloys, of "
        "metals alone, are none of them.",
    )
    stoichiometry: str = setting(
        "",
        "Amounts of classes of elements, such as Ca,Sr:transition_metal:O = 1:1:3; empty: any.",
    )

    def __post_init__(self) -> None:
        """Some composition can be so."""
        chemistry = self.chemistry()
        for symbol in self.elements_required:
            if Z_OF.get(symbol, 0) not in chemistry.allowed:
                raise ValueError(f"elements_required: {symbol} is not among those allowed")
        for group in self.elements_one_of:
            if not chemistry.allowed & {Z_OF.get(symbol, 0) for symbol in group}:
                raise ValueError(f"elements_one_of: none of {', '.join(group)} is allowed")
        if chemistry.most < len(set(self.elements_required)):
            raise ValueError(
                f"n_elements: {len(set(self.elements_required))} elements are required, at most "
                f"{chemistry.most} may be there"
            )
        wanted = chemistry.stoichiometry
        classes = () if wanted is None else wanted.classes
        if not all(chemistry.allowed & members for members in classes):
            raise ValueError("stoichiometry: of one of its classes no element is allowed")
        if classes and any(not frozenset().union(*classes) & g for g in chemistry.groups):
            raise ValueError(
                "stoichiometry: an element that must be there is in none of its classes"
            )

    def chemistry(self) -> Chemistry:
        """As rules; ValueError for a stoichiometry that is none."""
        allowed = {Z_OF.get(symbol, 0) for symbol in self.elements_allowed or SYMBOLS[1:]}
        required = [(symbol,) for symbol in dict.fromkeys(self.elements_required)]
        both = (self.n_elements,) * 2 if isinstance(self.n_elements, int) else self.n_elements
        return Chemistry(
            allowed=frozenset(allowed - {Z_OF[symbol] for symbol in self.elements_excluded}),
            groups=tuple(
                frozenset(Z_OF.get(symbol, 0) for symbol in group)
                for group in (*required, *self.elements_one_of)
            ),
            fewest=both[0],
            most=both[1],
            balanced=self.charge_balanced,
            stoichiometry=Stoichiometry.parse(self.stoichiometry) if self.stoichiometry else None,
        )

    def restrictions(self) -> list[str]:
        """Names of the settings that ask something of compositions."""
        return [name for name, default in _DEFAULTS.items() if getattr(self, name) != default]


_DEFAULTS = {name: getattr(ChemistryConfig(), name) for name in ChemistryConfig.__slots__}


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
