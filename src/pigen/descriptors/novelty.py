"""Compositional novelty: is the reduced formula absent from a list of known ones?"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterable
from math import gcd, isfinite
from pathlib import Path

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons
from pigen.runtime import resources
from pigen.runtime.bounded import read_text
from pigen.runtime.errors import UsageError
from pigen.runtime.file_cache import cached_file
from pigen.runtime.files import write_atomically

MAX_FORMULA = 300
"""Characters of a formula."""
_PLAIN = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


@descriptor("novel", ColumnSpec("novel", "", "reduced formula absent from the known compositions"))
def novel(crystals: Crystals, known: Path = resources.KNOWN_COMPOSITIONS) -> Evaluated:
    """Whether the reduced formula of each crystal is absent from a list.

    Args:
        crystals: B crystals.
        known: file of formulas, for `read_formulas`.
    """
    formulas = read_formulas(known)
    reasons = no_reasons(crystals)
    reasons[crystals.n_atoms == 0] = "no atoms in the cell"
    own = crystals.reduced_formulas()
    return Evaluated({"novel": np.array([bool(f) and f not in formulas for f in own])}, reasons)


@cached_file(maxsize=4)
def read_formulas(path: Path) -> frozenset[str]:
    """Reduced formulas, as `Crystals.reduced_formulas` writes them, of a text file.

    One formula a line in any usual notation ("NaCl", "Mg(InSe2)2"); lines starting with # and
    empty ones are skipped. The file may be gzipped.

    Raises:
        UsageError: no such file, or a line that is not a formula (named).
    """
    try:
        text = read_text(path)
    except ValueError:
        raise UsageError(f"{path}: not a text file of formulas") from None
    formulas = set()
    for number, line in enumerate(io.StringIO(text), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            formulas.add(canonical_formula(text))
        except ValueError:
            raise UsageError(f"{path}: line {number}: {text[:40]!r} is not a formula") from None
    return frozenset(formulas)


def write_formulas(path: Path, formulas: Iterable[str], header: str) -> int:
    """Write distinct formulas, sorted, one a line and gzipped; returns how many there are.

    The bytes depend on the formulas and the header alone.
    """
    distinct = sorted(set(formulas))
    lines = [f"# {line}" for line in header.splitlines()] + distinct
    write_atomically(path, gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    return len(distinct)


def canonical_formula(text: str) -> str:
    """The reduced formula of a text like "Mg(InSe2)2", as `Crystals.reduced_formulas` writes it.

    Raises:
        ValueError: not a formula, or one with fractional amounts.
    """
    if len(text) > MAX_FORMULA:
        raise ValueError(f"a formula of {len(text)} characters, MAX_FORMULA is {MAX_FORMULA}")
    counts: dict[str, int] = {}
    if _PLAIN.fullmatch(text):
        for symbol, count in _PART.findall(text):
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
