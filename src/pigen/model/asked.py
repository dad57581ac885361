"""Readings of what a request writes: formulas, space groups, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pigen.config import SampleConfig
from pigen.config.settings import CRYSTAL_SYSTEMS
from pigen.crystal.elements import Z_OF, mendeleev_numbers
from pigen.runtime.errors import UsageError


@lru_cache(maxsize=64)
def composition(formula: str) -> Mapping[int, int]:
    """Atoms of each element (by atomic number) in a formula, as it is written.

    From metals to non-metals.

    Raises:
        UsageError: it can't be read, or its amounts are not whole.
    """
    from pymatgen.core import Composition  # here: importing pymatgen takes a second

    try:
        amounts = Composition(formula).get_el_amt_dict()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"sample.composition: {formula!r} is no formula ({error})") from None
    counts = {Z_OF.get(symbol, 0): round(amount) for symbol, amount in amounts.items()}
    whole = all(abs(amount - round(amount)) < 1e-9 for amount in amounts.values())
    if not counts or 0 in counts or not whole:
        raise UsageError(
            f"sample.composition: {formula!r}: expected whole numbers of atoms of known elements"
        )
    places = mendeleev_numbers()
    return dict(sorted(counts.items(), key=lambda item: float(places[item[0]])))


def space_groups(config: SampleConfig) -> frozenset[int] | None:
    """Numbers of the space groups asked for; None where any will do.

    Raises:
        UsageError: a symbol that is none, or none of them in the crystal system asked for.
    """
    asked = config.space_group
    names = asked if isinstance(asked, tuple) else (asked,) if asked else ()
    found = frozenset(_group_number(name) for name in names)
    if not config.crystal_system:
        return found or None
    first, last = CRYSTAL_SYSTEMS[config.crystal_system]
    inside = frozenset(range(first, last + 1))
    if found and not found & inside:
        raise UsageError(
            f"sample.space_group: none of {', '.join(map(str, names))} is {config.crystal_system}"
        )
    return found & inside if found else inside


def _group_number(name: str | int) -> int:
    if isinstance(name, int):
        return name
    import gemmi

    found = gemmi.find_spacegroup_by_name(name)
    if found is None:
        raise UsageError(
            f"sample.space_group: {name!r} is no space group; give its number or its symbol, "
            'such as "Fm-3m"'
        )
    return int(found.number)


def units_asked(config: SampleConfig) -> tuple[int, ...]:
    """Numbers of formula units asked for; none where any will do."""
    if isinstance(config.formula_units, int):
        return (config.formula_units,)
    return config.formula_units if isinstance(config.formula_units, tuple) else ()


def sizes_asked(config: SampleConfig) -> tuple[int, ...]:
    """Numbers of atoms asked for; none where they are drawn."""
    if isinstance(config.n_atoms, int):
        return (config.n_atoms,)
    return config.n_atoms if isinstance(config.n_atoms, tuple) else ()
