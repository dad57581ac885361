"""Compositional novelty: is the reduced formula absent from a list of known ones?"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import canonical_formula
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons
from pigen.runtime import resources
from pigen.runtime.errors import UsageError
from pigen.runtime.files import cached_file, read_text, write_atomically


@descriptor(
    "novel", ColumnSpec("novel", "", "reduced formula absent from the known compositions", "flag")
)
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


def known_list(name: str) -> Path:
    """The file of a list of known compositions: a shipped one by its name, or a path."""
    return resources.KNOWN_LISTS.get(name, Path(name))


def new_to(known: Path) -> str:
    """In words, to what a composition is new if it is not in the list."""
    named = {
        resources.KNOWN_COMPOSITIONS: "the training set",
        resources.MP_COMPOSITIONS: "the Materials Project",
    }
    return named.get(known, known.name)


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
