"""The list of survivors: names people know them by, symmetry, figures, and their CIFs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isnan, nan
from typing import Any

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.formulas import usual_formula
from pigen.crystal.symmetry import space_group_name, space_group_number, symmetry_of_each
from pigen.io.cif_text import to_cif
from pigen.io.export import safe_name
from pigen.report.content import Card, Entry, Heading, Listing
from pigen.report.gather import ENERGIES, ESTIMATE, N_ATOMS, QUANTITIES, Quantity, Survivor
from pigen.report.scene import SYMPREC, scene_of
from pigen.report.viewer import parameters, viewed

_CARDS = 12
"""Best survivors with a picture."""
_FIGURES = 4


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
    elements = tuple(
        tuple(SYMBOLS[z] for z in np.unique(one.crystal.atomic_numbers)) for one in survivors
    )
    return Listing(tuple(headings), tuple(rows), elements, views, total)


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


def _views(survivor: Survivor, relaxed: bool) -> Iterator[dict[str, Any]]:
    for label, one in (("as generated", survivor), ("relaxed", survivor.relaxed)):
        if one is not None:
            seen = viewed(one.crystal)
            yield {
                "label": label if relaxed else "",
                "file": f"{safe_name(one.id)}.cif",
                "cif": to_cif(one.crystal, one.id),
                "seen": seen,
                "parameters": parameters(np.reshape(seen["atoms"]["cell"], (3, 3))),
            }


def cards_of(survivors: Sequence[Survivor]) -> Iterator[Card]:
    """The best survivors, as they were relaxed where they were."""
    for one in survivors[:_CARDS]:
        crystal = (one.relaxed or one).crystal
        figures = figures_of(one.values)
        value, error = (1e3 * one.values.get(n, np.nan) for n in (ESTIMATE.name, ESTIMATE.error))
        group = _space_group(one.relaxed.crystal if one.relaxed else one.crystal)
        yield Card(
            formula=str(_formula(crystal).key),
            group=group.text if group.key is not None else "",
            id=one.id,
            scene=scene_of(crystal),
            figures=tuple(islice(figures, _FIGURES)),
            estimate=None if isnan(value) or isnan(error) else (value, error),
        )


def figures_of(
    values: Mapping[str, float], first: Iterable[str] = (), units: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Symbol, and value with its error and unit, of what is to be said of one structure.

    Args:
        values: of its columns; NaN where there is none.
        first: columns to begin with.
        units: of columns that are no `Quantity`.
    """
    known = {one.name: one for one in (*ENERGIES, *QUANTITIES)}
    for name in dict.fromkeys((*first, *known)):
        value = values.get(name, nan)
        if isnan(value):
            continue
        one = known.get(name) or Quantity(name, name, name, (units or {}).get(name, ""), digits=3)
        yield one.symbol, f"{one.text(value, values.get(one.error, nan))} {one.unit}".strip()
