"""What a composition is: its elements, their number, whether charges balance, its stoichiometry."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from pigen.crystal.charges import charge_rules
from pigen.crystal.chemistry import Stoichiometry
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons
from pigen.runtime.errors import UsageError


@descriptor("elements", ColumnSpec("elements", "", "symbols in alphabetical order", kind="text"))
def elements(crystals: Crystals) -> Evaluated:
    """The elements of each crystal as a text, like ``Cl-Na``.

    Args:
        crystals: B crystals.
    """
    names = ["-".join(sorted(SYMBOLS[z] for z in counts)) for counts in compositions(crystals)]
    return Evaluated({"elements": np.array(names, dtype=object)}, _empty(crystals))


@descriptor("n_elements", ColumnSpec("n_elements", "", "number of elements", kind="whole"))
def n_elements(crystals: Crystals) -> Evaluated:
    """How many elements each crystal has.

    Args:
        crystals: B crystals.
    """
    numbers = np.array([len(counts) or -1 for counts in compositions(crystals)], dtype=np.int64)
    return Evaluated({"n_elements": numbers}, _empty(crystals))


@descriptor(
    "charge_balanced",
    ColumnSpec("charge_balanced", "", "whether charges can balance in the composition", "flag"),
)
def charge_balanced(crystals: Crystals) -> Evaluated:
    """Whether the charges of each crystal's atoms can add up to zero, by SMACT's rules.

    The rules are SMACT's default oxidation states, mixed valence, and Pauling's test
    (`pigen.crystal.charges`). An alloy, of two or more metals and nothing else, has no value; its
    reason is "an alloy".

    Args:
        crystals: B crystals.
    """
    rules, reasons = charge_rules(), _empty(crystals)
    balanced = np.zeros(len(crystals), dtype=bool)
    for i, counts in enumerate(compositions(crystals)):
        if rules.is_alloy(counts):
            reasons[i] = "an alloy"
        elif counts:
            balanced[i] = rules.balances(counts)
    return Evaluated({"charge_balanced": balanced}, reasons)


@descriptor(
    "stoichiometry",
    ColumnSpec("stoichiometry", "", "whether classes of elements have the amounts asked", "flag"),
)
def stoichiometry(crystals: Crystals, amounts: str = "metal:metal:nonmetal = 1:1:3") -> Evaluated:
    """Whether the composition of each crystal has the amounts asked for.

    Args:
        crystals: B crystals.
        amounts: for `pigen.crystal.chemistry.Stoichiometry.parse`.

    Raises:
        UsageError: the text of the amounts cannot be read.
    """
    try:
        wanted = Stoichiometry.parse(amounts)
    except ValueError as error:
        raise UsageError(str(error)) from None
    fits = np.array([wanted.fits(counts) for counts in compositions(crystals)], dtype=bool)
    return Evaluated({"stoichiometry": fits}, _empty(crystals))


def compositions(crystals: Crystals) -> list[Counter[int]]:
    """Atoms by atomic number in the cell of each crystal."""
    ptr = crystals.ptr.tolist()
    numbers = crystals.atomic_numbers.tolist()
    return [Counter(numbers[a:b]) for a, b in pairwise(ptr)]


def _empty(crystals: Crystals) -> np.ndarray:
    reasons = no_reasons(crystals)
    reasons[crystals.n_atoms == 0] = "no atoms in the cell"
    return reasons
