"""Extended Data Table 3: measured rows beside the published ones, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pigen.csp.folder import Experiment
from pigen.csp.minima import minima, novelty
from pigen.csp.outcome import TIE, Counts, Outcome, count, read_outcomes, status_line, total
from pigen.csp.results import IMPLAUSIBLE
from pigen.descriptors.prototypes.library import load_library
from pigen.energy.hull import load_reference
from pigen.paper.published import published_tables
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
    f"{1000 * TIE:g} meV/atom of each other are equal, which is what relaxations of one structure "
    "differ by. A search that was killed counts with what it had reached.",
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

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "model": self.experiment.model,
            "set": self.experiment.chosen,
            "engines": list(self.engines),
            "rmax": self.experiment.settings.rmax,
            **counts_json(self.counts),
        }


def counts_json(counts: Counts) -> dict[str, Any]:
    """Columns a–f and what they rest on, as plain data."""
    return {
        "compositions": counts.compositions,
        "searches": dict(counts.statuses),
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


def table_of(folders: Iterable[Path]) -> str:
    """The table with a measured row for each CSP folder, and the new frameworks below it.

    Raises as `outcome.read_outcomes`.
    """
    libraries = {name: load_library(PROTOTYPES / f"{name}.h5") for name in LIBRARIES}
    reference = load_reference()
    rows, lines = [], ["| model | set | search | E_hull, meV/atom |", "|---|---|---|---|"]
    new, n = 0, 0
    holes: list[str] = []
    for folder in folders:
        experiment, outcomes = read_outcomes(folder)
        rows.append(Row.of(experiment, outcomes))
        found = novelty(minima(outcomes, libraries, reference))
        n, new = n + found.minima, new + len(found.new)
        holes += found.implausible
        for name, height in found.new:
            shown = f"{1000 * height:.0f}" if height == height else "–"
            lines.append(_line(experiment.model, experiment.chosen, name, shown))
    said = (
        f"Lowest structures that match no prototype of {' or '.join(LIBRARIES)}: {new} of {n} "
        f"compositions, E_hull from {reference.note}."
    )
    if holes:
        said += f" More than {IMPLAUSIBLE:g} eV/atom below it, no crystals: {', '.join(holes)}."
    return "\n".join([render(rows), said, "", *lines, ""])


def render(rows: Iterable[Row]) -> str:
    """The whole table as Markdown: every published row, measured ones below theirs, totals last."""
    measured: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        measured.setdefault((row.experiment.model, row.experiment.chosen), []).append(row)
    everything = [row for group in measured.values() for row in group]
    published = published_tables()["extended_data_table_3"]
    lines = [f"# {TITLE}", "", "| model | set | source | a | b | c | d | e | f | searches |"]
    lines.append("|---" * 10 + "|")
    for printed in published["rows"]:
        key = (str(printed["model"]), str(printed["set"]))
        figures = [f"{printed['a']}/20", f"{printed['b']}/20", printed["c"], printed["d"]]
        lines.append(_line(*key, "published", *figures, printed["e"], printed["f"], 40))
        lines += [_measured(row) for row in measured.pop(key, [])]
    lines += [_measured(row) for group in measured.values() for row in group]
    all_of = published["total"]
    figures = [all_of[column] for column in "abcdef"]
    lines.append(_line("all", "", "published", *figures, 880))
    if everything:
        counts = total([row.counts for row in everything])
        lines.append(_line("all", "", "measured", *_figures(counts), status_line(counts.statuses)))
    return "\n\n".join(["\n".join(lines), *NOTES]) + "\n"


def describe(row: Row) -> list[str]:
    """One row for the terminal."""
    counts = row.counts
    names = ("a  generated stays lowest", "b  seeded lower than unseeded")
    a, b, c, d, e, f = _figures(counts)
    lines = [
        f"{row.experiment.model}, {row.experiment.chosen}: {counts.compositions} compositions, "
        f"rmax {row.experiment.settings.rmax}, {' and '.join(row.engines) or 'no engine ran'}",
        f"searches: {status_line(counts.statuses)}",
        f"{names[0]:<34} {a}",
        f"{names[1]:<34} {b}",
        f"{'c  E_generated − E_CSP, meV/atom':<34} {c}  (n = {len(counts.gains)})",
        f"{'d  E_CSP − E_generated, meV/atom':<34} {d}  (n = {len(counts.losses)})",
        f"{'e  seed lowest starting point':<34} {e}",
        f"{'f  seed did not converge':<34} {f}",
    ]
    if counts.seeds_unread:
        lines.append(f"seeded searches that read no seed: {counts.seeds_unread}")
    return lines


def _measured(row: Row) -> str:
    source = f"{' and '.join(row.engines) or 'no engine'}, rmax {row.experiment.settings.rmax}"
    said = status_line(row.counts.statuses)
    if row.counts.seeds_unread:
        said += f"; {row.counts.seeds_unread} read no seed"
    key = (row.experiment.model, row.experiment.chosen)
    return _line(*key, source, *_figures(row.counts), said)


def _figures(counts: Counts) -> tuple[str, ...]:
    return (
        f"{counts.a}/{counts.judged}",
        f"{counts.b}/{counts.compared}",
        "–" if counts.c is None else f"{counts.c:.1f}",
        "–" if counts.d is None else f"{counts.d:.1f}",
        str(counts.e),
        str(counts.f),
    )


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
