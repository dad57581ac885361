"""Energies of the hull by formula, for those who go through compositions one at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pigen.energy.hull.diagram import Hull
from pigen.energy.hull.reference import load_reference


def hull_energies(level: str) -> Callable[[str], float | None]:
    """Reduced formula → energy of the shipped hull, eV/atom.

    None where the reference lacks an element, and everywhere if it is of another level of theory.
    The reference is read when an energy is first asked for.

    Args:
        level: of theory of the energies that the hull is to be compared with, e.g. "chgnet 0.3.0".
    """

    @lru_cache(maxsize=1)
    def hull() -> Hull | None:
        reference = load_reference()
        return Hull(reference) if reference.level == level else None

    def energy(formula: str) -> float | None:
        found = hull()
        if found is None or found.missing_elements(formula):
            return None
        return found.energy(formula)

    return energy
