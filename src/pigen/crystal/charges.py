"""Whether charges balance in a composition: the rules and oxidation states of SMACT, made fast.

SMACT (Davies et al., J. Open Source Softw. 4, 1361, 2019) tries every combination of its elements'
oxidation states, which takes up to a second for one composition. Here the charges that the atoms of
an element can add up to are the bits of a whole number, and elements are combined by shifting
these. The verdicts are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

from pigen.crystal.elements import Z_OF

_LARGEST = 8
"""No oxidation state exceeds it."""


@dataclass(frozen=True, eq=False)
class ChargeRules:
    """Oxidation states, and how they may be combined.

    An element has one oxidation state in a composition, but for those of `mixed`, whose atoms may
    differ. By Pauling's test every cation is less electronegative than every anion.

    Attributes:
        states: atomic number → oxidation states.
        electronegativity: atomic number → Pauling's; None where there is none.
        metals: elements that form alloys.
        mixed: elements of mixed valence.
    """

    states: Mapping[int, tuple[int, ...]]
    electronegativity: Mapping[int, float | None]
    metals: frozenset[int]
    mixed: frozenset[int] = frozenset()

    def is_alloy(self, elements: Iterable[int]) -> bool:
        """Whether these are metals alone, two or more."""
        distinct = set(elements)
        return len(distinct) > 1 and distinct <= self.metals

    def balances(self, counts: Mapping[int, int]) -> bool:
        """Whether charges can balance in a cell with these atoms (atomic number → how many).

        In an element alone they do. An element without oxidation states balances with no other.
        """
        divisor = gcd(*counts.values())
        return _balances(self, tuple(sorted((z, n // divisor) for z, n in counts.items() if n)))


@lru_cache(maxsize=2**18)
def _balances(rules: ChargeRules, composition: tuple[tuple[int, int], ...]) -> bool:
    if len(composition) < 2:
        return bool(composition)
    scale = [(rules.electronegativity.get(z), z, n) for z, n in composition]
    known = [(x, z, n) for x, z, n in scale if x is not None and rules.states.get(z)]
    if len(known) < len(composition):
        return False
    # Cations are those below a border in electronegativity, anions those from it on.
    for border in {x for x, _, _ in known}:
        positive = negative = 1
        for x, z, n in known:
            sums = _sums(rules, z, n, 1 if x < border else -1)
            if x < border:
                positive = _combined(positive, sums)
            else:
                negative = _combined(negative, sums)
        if positive & negative:
            return True
    return False


@lru_cache(maxsize=2**14)
def _sums(rules: ChargeRules, z: int, n: int, sign: int) -> int:
    """Bit q is set if n atoms can have the charge sign·q, with no state of the other sign."""
    states = [sign * q for q in rules.states[z] if 0 <= sign * q <= _LARGEST]
    if z not in rules.mixed:
        return sum(1 << n * q for q in states)
    sums = 1
    for _ in range(n):
        sums = _combined(sums, sum(1 << q for q in states))
    return sums


def _combined(a: int, b: int) -> int:
    """The sums of a number of each of two sets."""
    found = 0
    while b:
        lowest = b & -b
        found |= a * lowest  # a shift, as the lowest bit is a power of two
        b ^= lowest
    return found


@lru_cache(maxsize=1)
def charge_rules() -> ChargeRules:
    """SMACT's rules with mixed valence and the oxidation states seen in the ICSD, its default."""
    import smact
    from smact.screening import MIXED_VALENCE_ELEMENTS
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().filter(consensus=3, include_zero=False, commonality="low")
    states = {
        str(symbol): tuple(map(int, str(listed).split()))
        for symbol, listed in zip(table["element"], table["oxidation_state"], strict=True)
    }
    return _rules(smact, states, MIXED_VALENCE_ELEMENTS)


@lru_cache(maxsize=1)
def published_rules() -> ChargeRules:
    """SMACT's rules as published figures of generators count them.

    Without mixed valence and with the oxidation states of 2014, which were the only ones when these
    figures were made.
    """
    import smact

    elements = smact.element_dictionary()
    states = {name: tuple(one.oxidation_states_smact14 or ()) for name, one in elements.items()}
    return _rules(smact, states, ())


def _rules(smact: Any, states: Mapping[str, tuple[int, ...]], mixed: Iterable[str]) -> ChargeRules:
    elements = {symbol: one for symbol, one in smact.element_dictionary().items() if symbol in Z_OF}
    return ChargeRules(
        states={Z_OF[symbol]: of for symbol, of in states.items() if symbol in Z_OF},
        electronegativity={Z_OF[s]: one.pauling_eneg for s, one in elements.items()},
        metals=frozenset(Z_OF[symbol] for symbol in smact.metals),
        mixed=frozenset(Z_OF[symbol] for symbol in mixed),
    )
