"""Extended Data Table 3: searches that we ran beside the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pigen.bundle import Rate
from pigen.csp.decide import FMAX
from pigen.csp.folder import MODES, Experiment
from pigen.csp.minima import minima, novelty
from pigen.csp.outcome import TIE, Counts, Outcome, count, read_outcomes, status_line, total
from pigen.csp.results import GRAPH
from pigen.csp.seed import published_name
from pigen.descriptors.prototypes.library import load_library
from pigen.energy.hull import load_reference
from pigen.energy.hull.stage import IMPLAUSIBLE
from pigen.paper.cells import Cell, Line, Table, markdown
from pigen.paper.published import published_tables
from pigen.run.table import RunTable
from pigen.runtime.resources import PROTOTYPES

TITLE = "Extended Data Table 3: crystal structure prediction on generated compositions"
LIBRARIES = ("reference", "aflow")
"""Shipped libraries of known frameworks that minima are compared with."""
NOTES = (
    "a: compositions whose generated structure stays lowest after both searches; b: the seeded "
    "search ends lower than the unseeded one; c: mean of E_generated − E_CSP where CSP is lower, "
    "d: the reverse where the generated structure is, meV/atom; e: the seed was the lowest "
    "starting point; f: the seed's relaxation failed.",
    "Published: 20 compositions a row, FUSE 2.05 with reinforcement learning, rmax 1500, each "
    "search once. E_CSP is the lowest energy of what the two searches made themselves, the seed's "
    "own relaxation left out. Measured energies within "
    f"{1000 * TIE:g} meV/atom of each other are equal: tight relaxations of one structure differ "
    "by less. A search that was killed counts with what it had reached.",
)
_FIELDS = {name: name for name in ("column", "n", "value", "published", "files", "query")}
_PUBLISHED_SEARCHES = ("40", "880")
"""Behind a published row, and behind the published total."""


@dataclass(frozen=True)
class _Column:
    """One column: its unit, what it is counted of, and its meaning in two lengths."""

    key: str
    unit: str
    of: str
    words: str
    query: str


_COLUMNS = (
    _Column(
        *("a", "n / N", "judged", "generated stays lowest"),
        "compositions in which no search went below the seed's own relaxation",
    ),
    _Column(
        *("b", "n / N", "compared", "seeded lower than unseeded"),
        "compositions in which the seeded search ended lower",
    ),
    _Column(
        *("c", "meV/atom", "judged", "E_generated − E_CSP, meV/atom"),
        "mean of E_generated - E_CSP where it is positive, meV/atom",
    ),
    _Column(
        *("d", "meV/atom", "judged", "E_CSP − E_generated, meV/atom"),
        "mean of E_CSP - E_generated where it is positive, meV/atom",
    ),
    _Column(
        *("e", "", "compositions", "seed lowest starting point"),
        "seeds below all random structures of the initial pool",
    ),
    _Column(*("f", "", "compositions", "seed did not converge"), "seeds whose relaxation failed"),
)


@dataclass(frozen=True)
class Row:
    """One measured row.

    Attributes:
        experiment: whose searches.
        counts: columns a–f.
        engines: that ran the searches, named once each.
    """

    experiment: Experiment
    counts: Counts
    engines: tuple[str, ...]

    @classmethod
    def of(cls, experiment: Experiment, outcomes: Sequence[Outcome], tie: float = TIE) -> Row:
        """The row of one CSP folder; ``tie`` as in `outcome.count`."""
        searches = [search for o in outcomes for search in (o.seeded, o.unseeded)]
        engines = tuple(dict.fromkeys(s.engine for s in searches if s.engine))
        return cls(experiment, count(outcomes, tie), engines)

    @property
    def key(self) -> tuple[str, str]:
        """Model and set."""
        return self.experiment.model, self.experiment.chosen

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        counts = self.counts
        return {
            "model": self.experiment.model,
            "set": self.experiment.chosen,
            "engines": list(self.engines),
            "rmax": self.experiment.settings.rmax,
            "compositions": counts.compositions,
            "searches": dict(counts.statuses),
            "continued": counts.continued,
            "decided": counts.decided,
            "seeds_unread": counts.seeds_unread,
            "judged": counts.judged,
            "compared": counts.compared,
            "a": counts.a,
            "b": counts.b,
            "c_mev_per_atom": counts.c,
            "d_mev_per_atom": counts.d,
            "e": counts.e,
            "f": counts.f,
        }


def read_rows(folders: Iterable[Path]) -> dict[Path, Row]:
    """CSP folder → its measured row. Raises as `outcome.read_outcomes`."""
    return {folder: Row.of(*read_outcomes(folder)) for folder in folders}


def table_of(rows: Mapping[Path, Row], head: Mapping[str, str] | None = None) -> Table:
    """The table: every published row with the measured ones of it, further ones, the totals.

    Args:
        rows: CSP folder → its row.
        head: what all figures rest on.
    """
    printed: dict[tuple[str, str], Mapping[str, Any]] = {
        (str(row["model"]), str(row["set"])): row
        for row in published_tables()["extended_data_table_3"]["rows"]
    }
    measured: dict[tuple[str, str], list[tuple[Path, Row]]] = {key: [] for key in printed}
    for folder, row in rows.items():
        measured.setdefault(row.key, []).append((folder, row))
    lines = []
    for key, listed in measured.items():
        shown = printed.get(key, {})
        lines += [_line(key, shown, row.counts, _source(row), folder) for folder, row in listed]
        if not listed:
            lines.append(_line(key, shown))
    summed = total([row.counts for row in rows.values()]) if rows else None
    everything = published_tables()["extended_data_table_3"]["total"]
    lines.append(_line(("all", ""), everything, summed, "measured" if rows else ""))
    return Table(
        name="ed3",
        title=TITLE,
        labels=("model", "set"),
        headings=("model", "set", "source", *(column.key for column in _COLUMNS), "searches"),
        lines=tuple(lines),
        head=head or {},
        fields=_FIELDS,
        legend="What the searches left, as `pigen csp-collect DIR --json` counts it.",
        more={"rows": [row.to_json() for row in rows.values()], "notes": list(NOTES)},
    )


def _line(
    key: tuple[str, str],
    printed: Mapping[str, Any],
    counts: Counts | None = None,
    source: str = "",
    folder: Path | None = None,
) -> Line:
    searches = ""
    if counts is not None:
        searches = status_line(counts.statuses)
        if folder is not None and counts.seeds_unread:
            searches += f"; {counts.seeds_unread} read no seed"
    cells = tuple(
        Cell(
            column.key,
            column.unit,
            n=None if counts is None else getattr(counts, column.of),
            value=None if counts is None else getattr(counts, column.key),
            published=printed.get(column.key),
            published_of=20 if column.unit == "n / N" else None,
            files=f"{folder}/*/{{{','.join(MODES)}}}/{GRAPH}" if folder else "",
            query=column.query if counts is not None else "",
        )
        for column in _COLUMNS
    )
    published = _PUBLISHED_SEARCHES[key == ("all", "")]
    return Line(key, cells, source=source, last=(published, searches))


def _source(row: Row) -> str:
    return f"{' and '.join(row.engines) or 'no engine'}, rmax {row.experiment.settings.rmax}"


def render(rows: Mapping[Path, Row]) -> str:
    """The table as Markdown, with its notes."""
    table = table_of(rows)
    return "\n\n".join([f"# {TITLE}", "\n".join(table.to_markdown()), *NOTES]) + "\n"


def new_frameworks(folders: Iterable[Path]) -> str:
    """The lowest structures of searches that match no known framework, as Markdown.

    Raises as `outcome.read_outcomes`.
    """
    libraries = {name: load_library(PROTOTYPES / f"{name}.h5") for name in LIBRARIES}
    reference = load_reference()
    lines, n = [], 0
    holes: list[str] = []
    for folder in folders:
        experiment, outcomes = read_outcomes(folder)
        found = novelty(minima(outcomes, libraries, reference))
        n += found.minima
        holes += found.implausible
        for name, height in found.new:
            shown = f"{1000 * height:.0f}" if height == height else "–"
            lines.append((experiment.model, experiment.chosen, name, shown))
    said = (
        f"Lowest structures that match no prototype of {' or '.join(LIBRARIES)}: {len(lines)} of "
        f"{n} compositions, E_hull from {reference.note}."
    )
    if holes:
        said += f" More than {IMPLAUSIBLE:g} eV/atom below it, no crystals: {', '.join(holes)}."
    headings = ("model", "set", "search", "E_hull, meV/atom")
    return "\n".join([said, "", *markdown(headings, lines), ""])


def describe(row: Row) -> list[str]:
    """One row for the terminal."""
    counts = row.counts
    means = {"c": counts.gains, "d": counts.losses}
    lines = [
        f"{', '.join(row.key)}: {counts.compositions} compositions, "
        f"rmax {row.experiment.settings.rmax}, {' and '.join(row.engines) or 'no engine ran'}",
        f"searches: {status_line(counts.statuses)}",
    ]
    for column, cell in zip(_COLUMNS, _line(row.key, {}, counts).cells, strict=True):
        n = f"  (n = {len(means[column.key])})" if column.key in means else ""
        lines.append(f"{f'{column.key}  {column.words}':<34} {cell.figure}{n}")
    lines.append(
        f"relaxed again to {FMAX:g} eV/Å before they were compared: {counts.decided} of "
        f"{counts.compositions} compositions"
    )
    if counts.continued:
        lines.append(
            f"searches that were cut off and went on, in several parts: {counts.continued}"
        )
    if counts.seeds_unread:
        lines.append(f"seeded searches that read no seed: {counts.seeds_unread}")
    return lines


def optima_of(rows: Mapping[Path, Row], tables: Iterable[RunTable]) -> dict[str, Rate]:
    """Name of a run → column G of Extended Data Table 2: column a, all sets of its row together."""
    found = {}
    for table in tables:
        name = published_name(table.row or table.name)
        counts = [row.counts for row in rows.values() if row.experiment.model == name]
        if counts:
            summed = total(counts)
            found[table.name] = Rate(summed.a, summed.judged)
    return found
