"""What a CIF says of its atoms: elements of symbols and labels, its formula, its hydrogen.

A symbol or a label that names no element for certain is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.io.entry import Refused

_HYDROGEN = {"D": 1, "T": 1}
_WORD = re.compile(r"[A-Za-z]+")
_MASS = re.compile(r"\d{1,3}(?=[A-Za-z])")
_AFTER = re.compile(
    r"(?:val|va|\(sds\))?[\s\d.+*^'_()-]*(?:\([IVXivx]+\)|(?<=[a-z])(?:I{2,3}|IV|VI{1,3}))?[+-]?"
)
"""What may follow an element's symbol: a charge, a number, a scattering factor's mark."""
_AMOUNT = re.compile(r"\s*(\d*\.\d+)\s*")
_WATER = "W"


@lru_cache(maxsize=4096)
def atomic_number(symbol: str) -> int:
    """Atomic number of a species such as "Fe", "Fe3+", "O2-", "FE", "2H"; D and T are hydrogen.

    Raises:
        Refused: several elements share the site, it names a group of atoms, or no element.
    """
    text = symbol.strip()
    mass = _MASS.match(text)
    rest = text[mass.end() :] if mass else text
    word = _WORD.match(rest)
    letters = word.group() if word else ""
    for k in (2, 1):
        z = _element(letters[:k].capitalize()) if len(letters) >= k else None
        if z is None or not _AFTER.fullmatch(rest, k):
            continue
        amount = _AMOUNT.fullmatch(rest, k)
        if amount and float(amount[1]) != 1:
            raise Refused(f"disordered: type symbol {text[:30]!r} is a partly occupied site")
        return z
    named = [part for part in re.findall(r"[A-Z][a-z]?", text) if _element(part)]
    if len(named) > 1 and set(named) <= {"C", "N", "O", "H", "D"} and {"H", "D"} & set(named):
        raise Refused(f"missing hydrogen: {text[:30]!r} is a group whose atoms have no coordinates")
    if len(named) > 1:
        raise Refused(f"disordered: type symbol {text[:30]!r} names more than one element")
    raise Refused(f"unknown element: {text[:20]!r}")


def label_number(label: str, formula: Collection[int] = (), dry: bool = False) -> int:
    """Atomic number from a label such as "Fe1" or "O1A", where no type symbol is given.

    Args:
        label: of the site.
        formula: atomic numbers of the elements in the formula that the file states; it decides
            between the readings of a label such as "CA1". Empty if the file states none.
        dry: there is no water, so that "W1" is tungsten without a formula too.

    Raises:
        Refused: the element is not certain: "Wat1", "OH1", "CA1" without a formula.
    """
    word = _WORD.match(label)
    letters = word.group() if word else ""
    readings = _readings(letters)
    if not readings or _names_another(label[len(letters) :]):
        raise _uncertain(label, "no element for certain")
    if formula:
        fitting = [z for z in readings if z in formula]
        if not fitting:
            names = " or ".join(SYMBOLS[z] for z in readings)
            raise _uncertain(label, f"{names} is not in the formula")
        readings = fitting
    elif letters.upper() in ("D", "T") or (letters.upper() == _WATER and not dry):
        raise _uncertain(label, "no formula tells what it is")
    if len(readings) > 1:
        raise _uncertain(label, " or ".join(SYMBOLS[z] for z in readings))
    return readings[0]


def _readings(letters: str) -> list[int]:
    """Elements that the letters of a label may stand for."""
    if len(letters) > 2:  # "Wat", "Dum", "Vac"
        return []
    whole = _element(letters.capitalize())
    if len(letters) < 2:
        return [whole] if whole else []
    first, second = _element(letters[0].upper()), letters[1]
    if letters[0] in "DT":
        first = None
    if second.islower():  # "Ca" is calcium; "Ow" is not certainly oxygen
        return [whole] if whole else []
    if second == _WATER and first == Z_OF["O"]:
        return [first]
    if whole is None and second in Z_OF:  # "OH", "NH": a group of atoms
        return []
    return list(dict.fromkeys(z for z in (whole, first) if z))


def _names_another(rest: str) -> bool:
    """Whether the end of a label names a second element: "Fe1/Mn1", "Al1Si1"."""
    if re.search(r"[/,+&|:;]", rest):
        return True
    return any(part in Z_OF for part in re.findall(r"[A-Z][a-z]", rest))


def _uncertain(label: str, why: str) -> Refused:
    return Refused(f"uncertain element: label {label[:20]!r} without a type symbol: {why}")


def _element(name: str) -> int | None:
    return _HYDROGEN.get(name) or Z_OF.get(name)


HYDROGEN = 1
_TERM = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")
_SHOUTED = re.compile(r"(?:[A-Z]{1,2}(?:\d+\.?\d*|\.\d+)?(?:\s+|$))+")
_CHARGE = re.compile(r"\d*[+-]+(?=[\s,()]|$)")
_AMOUNT_ERROR = 0.02
"""Of the amount of an element in a formula: two digits, and the last is rounded."""
_MAX_FORMULA = 1000
"""Characters; no formula is longer."""


@dataclass(frozen=True)
class Formula:
    """The formula that a file states.

    Attributes:
        text: as it stands in the file, shortened.
        elements: atomic numbers; empty if the formula is none that can be read.
        amounts: atomic number → atoms in a formula unit; empty if only the elements are certain.
    """

    text: str = ""
    elements: frozenset[int] = frozenset()
    amounts: Mapping[int, float] | None = None


def read_formula(total: str, moiety: str) -> Formula:
    """The formula from ``_chemical_formula_sum``, else the elements of the ``_moiety``."""
    if formula := _sum(total):
        return formula
    text = _CHARGE.sub("", moiety[:_MAX_FORMULA])
    names = re.findall(r"[A-Z][a-z]?", text)
    elements = _numbers(names)
    if not elements or re.search(r"[A-Z][a-z]{2}", text):  # words
        return Formula()
    return Formula(moiety[:60], frozenset(elements))


def _sum(text: str) -> Formula | None:
    text = text.strip()[:_MAX_FORMULA]
    if _SHOUTED.fullmatch(text) and not _known(text):  # "NA4 CL1"
        text = " ".join(word.capitalize() for word in text.split())
    amounts: dict[int, float] = {}
    for name, amount in _TERM.findall(text):
        z = _number(name)
        if z is None:
            return None
        amounts[z] = amounts.get(z, 0.0) + (float(amount) if amount else 1.0)
    present = {z: n for z, n in amounts.items() if n > 0}
    if not present or _TERM.sub("", text).strip(", "):
        # Brackets, the dot of a hydrate: the elements alone are certain, of words not even these.
        if not present or re.search(r"[A-Za-z]", _TERM.sub("", text)):
            return None
        return Formula(text[:60], frozenset(present))
    return Formula(text[:60], frozenset(present), present)


def check_formula(
    formula: Formula, units: float, numbers: NDArray[np.int64], ignore_hydrogen: bool
) -> None:
    """Refuse atoms that the stated formula contradicts.

    Args:
        formula: as the file states it.
        units: formula units in the cell, NaN if the file doesn't say.
        numbers: (n,) atomic numbers of all atoms of the cell.
        ignore_hydrogen: hydrogen may be missing.

    Raises:
        Refused: the elements or the amounts differ; hydrogen has no coordinates.
    """
    if not formula.elements:
        return
    found = dict(Counter(numbers.tolist()))
    stated = dict(formula.amounts or {})
    wanted = set(formula.elements)
    if ignore_hydrogen:
        wanted.discard(HYDROGEN)
        found.pop(HYDROGEN, None)
        stated.pop(HYDROGEN, None)
    differ = wanted ^ found.keys()
    if differ == {HYDROGEN} and HYDROGEN in wanted:
        raise missing_hydrogen(f"formula {formula.text!r} and no H site")
    if differ:
        raise _contradiction(formula, found)
    if not stated:
        return
    heavy = [z for z in stated if z != HYDROGEN] or list(stated)
    if not units > 0:  # hydrogen is what is missing most often
        factor = max(found[z] / stated[z] for z in heavy)
    elif _of_the_cell(stated, units) and abs(found[heavy[0]] - stated[heavy[0]]) < 0.5:
        factor = 1.0
    else:
        factor = units
    error = _AMOUNT_ERROR * factor + 1e-6
    wrong = {z for z, n in stated.items() if abs(found[z] - n * factor) > error}
    if wrong == {HYDROGEN} and found[HYDROGEN] < stated[HYDROGEN] * factor:
        raise missing_hydrogen(f"formula {formula.text!r}, read {_text(found)}")
    times = {round(found[z] / n, 6) for z, n in stated.items()}
    if wrong and len(times) == 1:
        raise Refused(
            f"contradictory symmetry: Z is {units:g}, and the sites make {times.pop():g} of "
            f"{formula.text!r}: {_text(found)}"
        )
    if wrong:
        raise _contradiction(formula, found)


_DIATOMIC = {1, 7, 8, 9, 17}
"""Elements whose formula unit is a molecule of two to pymatgen: it writes Z = 2 beside H5."""


def _of_the_cell(amounts: Mapping[int, float], units: float) -> bool:
    """Whether amounts may be those of all atoms in the cell, as pymatgen writes them beside Z."""
    whole = [round(n) for n in amounts.values()]
    if any(abs(n - m) > 1e-6 for n, m in zip(amounts.values(), whole, strict=True)):
        return False
    if len(whole) == 1 and amounts.keys() <= _DIATOMIC and whole[0] // 2 == units:
        return True
    return gcd(*whole) % units == 0


def missing_hydrogen(why: str) -> Refused:
    """The reason of a structure some of whose hydrogen atoms have no coordinates."""
    return Refused(f"missing hydrogen: {why}; --ignore-hydrogen reads what is there")


def _contradiction(formula: Formula, found: Mapping[int, int]) -> Refused:
    return Refused(f"contradicted by its formula: {formula.text!r} stated, {_text(found)} read")


def _text(found: Mapping[int, int]) -> str:
    return " ".join(f"{SYMBOLS[z]}{n}" for z, n in sorted(found.items()))


def _known(text: str) -> bool:
    """Whether a formula can be read as it stands: "C2 H6 O" can, "NA4 CL1" cannot."""
    return all(_number(name) for name, _ in _TERM.findall(text))


def _numbers(names: list[str]) -> set[int]:
    return {z for z in map(_number, names) if z is not None}


def _number(name: str) -> int | None:
    return 1 if name in ("D", "T") else Z_OF.get(name)
