"""Formulas as text: one canonical form, and what is in it."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from math import gcd, isfinite

from pigen.crystal.elements import Z_OF

MAX_FORMULA = 300
"""Characters of a formula."""
TERM = re.compile(r"([A-Z][a-z]?)([\d.]*)")
"""A symbol and what is written behind it, "" for 1."""
_PLAIN = re.compile(r"(?:[A-Z][a-z]?\d*)+")


def canonical_formula(text: str) -> str:
    """The reduced formula of a text like "Mg(InSe2)2", as `Crystals.reduced_formulas` writes it.

    Raises:
        ValueError: not a formula, or one with fractional amounts.
    """
    if len(text) > MAX_FORMULA:
        raise ValueError(f"a formula of {len(text)} characters, MAX_FORMULA is {MAX_FORMULA}")
    counts: dict[str, int] = {}
    if _PLAIN.fullmatch(text):
        for symbol, count in TERM.findall(text):
            counts[symbol] = counts.get(symbol, 0) + int(count or 1)
    else:
        from pymatgen.core import Composition  # here: importing pymatgen takes a second

        try:
            parsed = Composition(text)
        except Exception as error:  # whatever pymatgen raises on what is no formula
            raise ValueError(f"{text!r} is not a formula") from error
        for element, amount in parsed.items():
            if not isfinite(amount) or amount != int(amount):
                raise ValueError(f"{text!r} has fractional amounts")
            counts[str(element)] = int(amount)
    counts = {symbol: count for symbol, count in counts.items() if count}
    if not counts or not counts.keys() <= Z_OF.keys():
        raise ValueError(f"{text!r} is not a formula")
    divisor = gcd(*counts.values())
    return "".join(f"{symbol}{counts[symbol] // divisor}" for symbol in sorted(counts))


def formula_amounts(formula: str) -> dict[str, int]:
    """Symbol → number of atoms in a formula as `canonical_formula` writes it."""
    return {symbol: int(count) for symbol, count in TERM.findall(formula)}


@lru_cache(maxsize=10_000)
def usual_formula(formula: str) -> str:
    """A reduced formula as people read it, elements in the usual order: ``SrTiO3``.

    What is shown is written so everywhere; keys of look-ups, and lists of formulas, are canonical,
    and names of files are as `file_formula` has them.

    Args:
        formula: as `canonical_formula` writes it; "–" stands for an empty one.
    """
    from pymatgen.core import Composition

    if not formula:
        return "–"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # Ar goes last
        return str(Composition(formula).reduced_formula)


def file_formula(formula: str) -> str:
    """A reduced formula for the name of a file: as `usual_formula`, brackets multiplied out.

    Args:
        formula: as `canonical_formula` writes it.
    """
    amounts = formula_amounts(formula)
    order = [symbol for symbol, _ in TERM.findall(usual_formula(formula))]
    return "".join(f"{one}{amounts[one] if amounts[one] > 1 else ''}" for one in order)
