"""What a composition is to be: its elements, how many, balanced charges, a stoichiometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pigen.crystal.charges import charge_rules
from pigen.crystal.elements import SYMBOLS, Z_OF

_LANTHANIDES = frozenset(range(57, 72))
_ACTINIDES = frozenset(range(89, 104))
_TRANSITION = frozenset((*range(21, 31), *range(39, 49), *range(72, 81)))
_NAMED = {
    "alkali": "Li Na K Rb Cs Fr",
    "alkaline_earth": "Be Mg Ca Sr Ba Ra",
    "metalloid": "B Si Ge As Sb Te",
    "pnictogen": "N P As Sb Bi",
    "chalcogen": "O S Se Te Po",
    "halogen": "F Cl Br I At",
    "noble_gas": "He Ne Ar Kr Xe Rn",
    "nonmetal": "H C N O F P S Cl Se Br I At He Ne Ar Kr Xe Rn",
}
ELEMENT_CLASSES: Mapping[str, frozenset[int]] = {
    **{name: frozenset(Z_OF[s] for s in symbols.split()) for name, symbols in _NAMED.items()},
    "transition_metal": _TRANSITION,
    "lanthanide": _LANTHANIDES,
    "actinide": _ACTINIDES,
    "rare_earth": _LANTHANIDES | {Z_OF["Sc"], Z_OF["Y"]},
}
ELEMENT_CLASSES = {
    **ELEMENT_CLASSES,
    "metal": frozenset(range(1, len(SYMBOLS)))
    - ELEMENT_CLASSES["nonmetal"]
    - ELEMENT_CLASSES["metalloid"],
}
"""Classes that a stoichiometry may name, by atomic numbers."""


@dataclass(frozen=True)
class Stoichiometry:
    """Atoms of several classes of elements in a ratio, and no others.

    Each element of a composition belongs to one class; where it may be in several, any choice that
    gives the ratio will do. A class may have several elements.

    Attributes:
        classes: atomic numbers of each class.
        ratio: atoms of each, without a common divisor.
    """

    classes: tuple[frozenset[int], ...]
    ratio: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Stoichiometry:
        """From a text like ``Ca,Sr : transition_metal : O = 1:1:3``.

        A class is elements separated by commas, or a name of `ELEMENT_CLASSES`.

        Raises:
            ValueError: it is no such text.
        """
        left, equals, right = text.partition("=")
        names, amounts = left.split(":"), [amount.strip() for amount in right.split(":")]
        whole = all(amount.isdecimal() and 0 < int(amount) < 1000 for amount in amounts)
        if not equals or len(names) != len(amounts) or not whole:
            raise ValueError(
                f"stoichiometry: expected classes = amounts, like Ca,Sr:Ti:O = 1:1:3, got {text!r}"
            )
        return cls(tuple(map(_class, names)), tuple(map(int, amounts)))

    def fits(self, counts: Mapping[int, int]) -> bool:
        """Whether a composition (atomic number → atoms) has these amounts."""
        return _fits(self, tuple(sorted(counts.items())))


def _class(text: str) -> frozenset[int]:
    found: set[int] = set()
    for name in map(str.strip, text.split(",")):
        if name not in ELEMENT_CLASSES and name not in Z_OF:
            known = ", ".join(sorted(ELEMENT_CLASSES))
            raise ValueError(f"stoichiometry: {name!r} is no element and no class ({known})")
        found |= ELEMENT_CLASSES[name] if name in ELEMENT_CLASSES else {Z_OF[name]}
    return frozenset(found)


@lru_cache(maxsize=2**16)
def _fits(wanted: Stoichiometry, composition: tuple[tuple[int, int], ...]) -> bool:
    units, rest = divmod(sum(n for _, n in composition), sum(wanted.ratio))
    if rest or not units:
        return False
    lefts = {tuple(units * amount for amount in wanted.ratio)}
    for z, n in composition:
        lefts = {
            (*left[:place], left[place] - n, *left[place + 1 :])
            for left in lefts
            for place, members in enumerate(wanted.classes)
            if z in members and left[place] >= n
        }
    return bool(lefts)


@dataclass(frozen=True)
class Chemistry:
    """What a composition must be, by atomic numbers.

    Attributes:
        allowed: its elements are among these.
        groups: it holds at least one of each of these.
        fewest, most: number of its elements.
        balanced: charges balance, and it is no alloy.
        stoichiometry: amounts; None for any.
    """

    allowed: frozenset[int]
    groups: tuple[frozenset[int], ...] = ()
    fewest: int = 1
    most: int = len(SYMBOLS) - 1
    balanced: bool = False
    stoichiometry: Stoichiometry | None = None

    def failure(self, counts: Mapping[int, int]) -> str:
        """What a composition (atomic number → atoms) fails; "" if it is as it must be."""
        if not (counts.keys() <= self.allowed and all(counts.keys() & g for g in self.groups)):
            return "elements"
        if not self.fewest <= len(counts) <= self.most:
            return "n_elements"
        if self.stoichiometry is not None and not self.stoichiometry.fits(counts):
            return "stoichiometry"
        return "" if not self.balanced or is_balanced(counts) else "charge_balanced"


def is_balanced(counts: Mapping[int, int]) -> bool:
    """Whether charges balance in a composition that is no alloy."""
    rules = charge_rules()
    return not rules.is_alloy(counts) and rules.balances(counts)
