"""What a report says, before it is a page: plain values, no markup. Its texts are untrusted.

The list of survivors among it: names that people know them by, symmetry, figures, and their CIFs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, usual_formula
from pigen.crystal.symmetry import space_group_name, space_group_number, symmetry_of_each
from pigen.io.cif_text import to_cif
from pigen.io.export import safe_name
from pigen.paper.cells import Cell
from pigen.report.gather import ENERGIES, ESTIMATE, N_ATOMS, QUANTITIES, Quantity, Survivor
from pigen.report.scene import SYMPREC, Scene, scene_of
from pigen.report.viewer import parameters, viewed


@dataclass(frozen=True)
class Step:
    """One bar of the funnel: how many are left after a filter and those before it."""

    heading: str
    criterion: str
    left: float


@dataclass(frozen=True, eq=False)
class Distribution:
    """A quantity over the structures judged, and over those that passed all filters.

    Attributes:
        title: what it is.
        symbol: on the axis; what follows a "_" is its index.
        unit: on the axis, "" for a dimensionless number.
        judged: (n,) finite values of all structures that have one.
        passed: (m,) those of the survivors among them.
        missing: structures without a value.
        low: lower end of the filter's window, None if it is open.
        high: upper end.
        marks: thresholds that are drawn without being a window.
        whole: the values are whole numbers.
        remark: what to know of it.
    """

    title: str
    symbol: str
    unit: str
    judged: NDArray[np.float64]
    passed: NDArray[np.float64]
    missing: int
    low: float | None = None
    high: float | None = None
    marks: tuple[float, ...] = ()
    whole: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Heading:
    """A column of the list; ``numeric`` ones are aligned right."""

    text: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Entry:
    """One text of the list, what it sorts by (None: last), and a remark."""

    text: str
    key: str | float | None
    remark: str = ""


@dataclass(frozen=True)
class Listing:
    """The survivors listed, the best first, at most as many as were asked for.

    Attributes:
        headings: of the columns.
        rows: the entries of each survivor, in the order of the headings.
        elements: symbols in each survivor.
        views: of each survivor, its structures: ``label``, ``file``, text of the ``cif``, and what
            is ``seen`` of it in three dimensions, with its cell ``parameters``.
        total: survivors there are.
    """

    headings: tuple[Heading, ...]
    rows: tuple[tuple[Entry, ...], ...]
    elements: tuple[tuple[str, ...], ...]
    views: tuple[tuple[Mapping[str, Any], ...], ...]
    total: int


@dataclass(frozen=True)
class Card:
    """One of the best candidates, with its picture.

    Attributes:
        formula, group, id: names; the space group as symbol and number, "" if there is none.
        scene: what is drawn.
        figures: symbol and value with its error and unit.
        estimate: meV/atom above the hull and its error, None without an estimate of DFT's.
    """

    formula: str
    group: str
    id: str
    scene: Scene
    figures: tuple[tuple[str, str], ...]
    estimate: tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: name of the experiment or of the source.
        row: of the published tables, "" if none.
        read: structures generated, or entries of the source.
        kept: those that passed all filters in sequence.
        remarks: what a reader must know before the figures.
        rates: heading, criterion and figures of each line of the table.
        footnotes: below the table.
        funnel: steps after the first, which is `read`.
        reasons: why structures were rejected first → how many, the most frequent first.
        distributions: to be drawn.
        cards: the best of the survivors.
        listing: the survivors.
        provenance: what the figures rest on.
        experiment: its TOML, "" if there is none.
    """

    title: str
    row: str
    read: int
    kept: int
    remarks: tuple[str, ...]
    rates: tuple[tuple[str, str, Cell], ...]
    footnotes: tuple[str, ...]
    funnel: tuple[Step, ...]
    reasons: tuple[tuple[str, int], ...]
    distributions: tuple[Distribution, ...]
    cards: tuple[Card, ...]
    listing: Listing
    provenance: Mapping[str, str]
    experiment: str


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
