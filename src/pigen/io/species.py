"""Which element a type symbol or a label names; what names none for certain is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

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
