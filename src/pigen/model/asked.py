"""Readings of what a request writes: formulas, space groups, sizes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from pigen.config import SampleConfig
from pigen.config.settings import CRYSTAL_SYSTEMS
from pigen.crystal.elements import Z_OF, mendeleev_numbers
from pigen.model.checkpoint import Header
from pigen.runtime.errors import UsageError

_log = logging.getLogger(__name__)
_FAR = 4.0
"""Standard deviations from the mean of the training data beyond which a target is far."""


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


def parts_of(config: SampleConfig) -> tuple[int, ...]:
    """Atoms in a formula unit, of each element of the composition or class of the stoichiometry.

    None where neither is asked for.
    """
    if config.composition:
        return tuple(composition(config.composition).values())
    stoichiometry = config.chemistry().stoichiometry
    return () if stoichiometry is None else stoichiometry.ratio


def fewest_elements(config: SampleConfig) -> int:
    """Elements that a structure must have at least, if no two lists share one."""
    chemistry = config.chemistry()
    required = set(config.elements_required)
    others = [group for group in config.elements_one_of if not required & set(group)]
    return max(chemistry.fewest, len(required) + len(others))


def elements_to_place(config: SampleConfig, rng: np.random.Generator) -> list[int]:
    """Elements that atoms are given before anything is computed: the required, one of each list.

    The random numbers that are taken are those for lists without a required element alone.
    """
    found = [Z_OF[symbol] for symbol in dict.fromkeys(config.elements_required)]
    allowed = config.chemistry().allowed
    for group in config.elements_one_of:
        numbers = [Z_OF[symbol] for symbol in group]
        if not set(numbers) & set(found):
            found.append(int(rng.choice([z for z in numbers if z in allowed])))
    return found


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


def warn_of_far_targets(config: SampleConfig, header: Header) -> None:
    """A line for each target that lies far from all that the model has seen."""
    spec = header.spec
    for label, wanted in config.targets.items():
        place = header.model.labels.index(label)
        mean, sd = spec.label_mean[place], spec.label_sd[place]
        ends = wanted if isinstance(wanted, tuple) else (wanted,)
        farthest = max(ends, key=lambda end: abs(end - mean))
        away = abs(farthest - mean) / sd
        if away > _FAR:
            _log.warning(
                f"sample.targets.{label}: {farthest:g} is {away:.0f} standard deviations from the "
                f"training data ({mean:.3g} ± {sd:.2g}); samples can hardly reach it"
            )
