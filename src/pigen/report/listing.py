"""The list of survivors: names people know them by, symmetry, figures, and their CIFs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, atomic_radii
from pigen.crystal.formulas import usual_formula
from pigen.crystal.symmetry import space_group_name, space_group_number, symmetry_of_each
from pigen.io.cif_text import to_cif
from pigen.io.export import safe_name
from pigen.report.content import Entry, Heading, Listing
from pigen.report.gather import ENERGIES, N_ATOMS, QUANTITIES, Quantity, Survivor

SYMPREC = 0.1
"""Å, tolerance of the space groups listed: that of K."""
_UNKNOWN_RADIUS = 1.5
"""Å, for drawing the few elements without an atomic radius."""


def listing_of(survivors: Sequence[Survivor], total: int) -> Listing:
    """The list.

    Args:
        survivors: to be listed, in order.
        total: survivors there are.
    """
    relaxed = any(one.relaxed for one in survivors)
    with_prototype = any("prototype" in one.texts for one in survivors)
    names = {name for one in survivors for name in one.values}
    shown = [one for one in ENERGIES if one.name in names]
    shown += [N_ATOMS, *(one for one in QUANTITIES if one.computed)]
    headings = [
        Heading("Formula", numeric=False),
        Heading("Space group", numeric=False),
        *([Heading("Relaxed", "space group", numeric=False)] if relaxed else []),
        *(Heading("Atoms") if q is N_ATOMS else Heading(q.symbol, q.unit) for q in shown),
        *([Heading("Prototype", numeric=False)] if with_prototype else []),
        Heading("Id", numeric=False),
    ]
    rows = []
    for one in survivors:
        row = [_formula(one.crystal), _space_group(one.crystal)]
        if relaxed:
            row.append(_space_group(one.relaxed.crystal) if one.relaxed else Entry("–", None))
        row += [_figure(one, quantity) for quantity in shown]
        if with_prototype:
            name = one.texts.get("prototype", "")
            row.append(Entry(name or "none", name or None))
        rows.append((*row, Entry(one.id, one.id)))
    views = tuple(tuple(_views(one, relaxed)) for one in survivors)
    return Listing(tuple(headings), tuple(rows), views, total, _looks(survivors))


def _formula(crystal: Crystals) -> Entry:
    formula = usual_formula(crystal.reduced_formulas()[0])
    return Entry(formula, formula)


def _space_group(crystal: Crystals) -> Entry:
    """Symbol and number at `SYMPREC`; sorts by number."""
    found, reasons = symmetry_of_each(crystal, SYMPREC, space_group_number)
    if reasons[0]:
        return Entry("–", None, str(reasons[0]))
    return Entry(space_group_name(found[0]), float(found[0]))


def _figure(survivor: Survivor, quantity: Quantity) -> Entry:
    """A value with its error, where it has one; why it lacks, where that is known."""
    value = survivor.values.get(quantity.name, np.nan)
    if isnan(value):
        reason = survivor.texts.get("e_hull_reason", "") if quantity.unit == "meV/atom" else ""
        return Entry("–", None, reason)
    error = survivor.values.get(quantity.error, np.nan)
    return Entry(quantity.text(value, error), quantity.scale * value)


def _views(survivor: Survivor, relaxed: bool) -> Iterator[dict[str, str]]:
    for label, one in (("as generated", survivor), ("relaxed", survivor.relaxed)):
        if one is not None:
            cif = to_cif(one.crystal, one.id)
            label = label if relaxed else ""
            yield {"label": label, "file": f"{safe_name(one.id)}.cif", "cif": cif}


def _looks(survivors: Sequence[Survivor]) -> Mapping[str, Mapping[str, str | float]]:
    """Jmol's colours, as ASE has them, and the radii that C is made of."""
    from ase.data.colors import jmol_colors

    radii = np.nan_to_num(atomic_radii(), nan=_UNKNOWN_RADIUS)
    looks: dict[str, Mapping[str, str | float]] = {}
    for z in sorted({int(z) for one in survivors for z in one.crystal.atomic_numbers}):
        rgb = np.rint(255 * jmol_colors[z]).astype(int)
        colour = "#" + "".join(f"{x:02x}" for x in rgb)
        looks[SYMBOLS[z]] = {"colour": colour, "radius": float(radii[z])}
    return looks
