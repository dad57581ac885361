"""What a report says, before it is a page: plain values, no markup. Its texts are untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Rate


@dataclass(frozen=True)
class RateRow:
    """One row of the table: a criterion, what was measured and what was published, as printed."""

    heading: str
    criterion: str
    count: str
    measured: str
    published: str = ""
    difference: str = ""


@dataclass(frozen=True)
class Step:
    """One bar of the funnel: what is left after a filter and those before it."""

    heading: str
    criterion: str
    rate: Rate


@dataclass(frozen=True, eq=False)
class Distribution:
    """A quantity over the structures judged, and over those that passed all filters.

    Attributes:
        title: what it is.
        symbol: on the axis.
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
class View:
    """A structure to look at: its label, the file name of its CIF, and the CIF's text."""

    label: str
    file: str
    cif: str


@dataclass(frozen=True)
class Heading:
    """A column of the list; ``numeric`` ones are aligned right."""

    text: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """One entry of the list: its text, what it sorts by (None: last), and a remark."""

    text: str
    key: str | float | None
    remark: str = ""


@dataclass(frozen=True)
class Entry:
    """A survivor: its cells, in the order of the headings, and its structure(s)."""

    cells: tuple[Cell, ...]
    views: tuple[View, ...]


@dataclass(frozen=True)
class Look:
    """How an element is drawn: its colour as ``#rrggbb`` and its radius in Å."""

    colour: str
    radius: float


@dataclass(frozen=True)
class Listing:
    """The survivors listed, at most as many as were asked for.

    Attributes:
        headings: of the columns.
        entries: the survivors, in the order of the source.
        total: survivors there are.
        looks: symbol → how it is drawn, for every element in the structures.
    """

    headings: tuple[Heading, ...]
    entries: tuple[Entry, ...]
    total: int
    looks: Mapping[str, Look]


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: name of the experiment or of the source.
        row: of the published tables, "" if none.
        read: structures generated, or entries of the source.
        kept: those that passed all filters in sequence.
        remarks: what a reader must know before the figures.
        provenance: what the figures rest on.
        experiment: its TOML, "" if there is none.
        rates: the table.
        footnotes: below the table.
        funnel: steps after the first, which is `read`.
        reasons: why structures were rejected first → how many, the most frequent first.
        distributions: to be drawn.
        listing: the survivors.
    """

    title: str
    row: str
    read: int
    kept: int
    remarks: tuple[str, ...]
    provenance: Mapping[str, str]
    experiment: str
    rates: tuple[RateRow, ...]
    footnotes: tuple[str, ...]
    funnel: tuple[Step, ...]
    reasons: tuple[tuple[str, int], ...]
    distributions: tuple[Distribution, ...]
    listing: Listing
