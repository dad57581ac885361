"""What a report says, before it is a page: plain values, no markup. Its texts are untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.paper.cells import Cell
from pigen.report.scene import Scene


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
