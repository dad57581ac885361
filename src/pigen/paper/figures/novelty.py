"""Figure 3d: plausible structures that match none of the most frequent frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pigen.bundle import Rate
from pigen.paper.cells import Cell, Line, Table, markdown
from pigen.paper.figures.data import Measured
from pigen.paper.figures.style import legend_above, look_of, new_figure, plain_axes, save
from pigen.paper.published import difference, published_tables

TOP = 100
"""Frameworks that are looked through, from the most frequent on."""


def unmatched(row: Measured, n: int) -> int:
    """Structures that match none of the ``n`` most frequent frameworks."""
    assert row.ranks is not None
    return int(((row.ranks == 0) | (row.ranks > n)).sum())


def published_unmatched() -> dict[str, float]:
    """Row of the paper → percent unmatched after 100 prototypes; rows are named as in Table 1."""
    bare = {"PIGEN | E_hull": "PIGEN | E_hull=0", "PIGEN | (M_LED, C)": "PIGEN | (M_LED=9, C=0.7)"}
    rows = published_tables()["prototype_novelty"]["rows"]
    return {bare[row["model"]]: float(row["unmatched"]) for row in rows}


def novelty_table(rows: Sequence[tuple[str, Path, Measured]], head: Mapping[str, str]) -> Table:
    """The figure at its right end as a table.

    Args:
        rows: name of each run, the bundle of its ranks, and what it measured.
        head: what all figures rest on.
    """
    lines = []
    for name, bundle, row in rows:
        assert row.ranks is not None
        rate = Rate(unmatched(row, TOP), len(row.ranks))
        printed = published_unmatched().get(row.table.row)
        apart = difference(rate.fraction, rate.total, printed)
        cell = Cell("", published=printed, difference=apart, files=str(bundle), query=_QUERY)
        lines.append(Line((row.table.row,), (cell.of(rate),), (name,), row.label))
    title = f"Fig. 3d: of what passes A, B and C, % that match none of the first {TOP} frameworks"
    return Table("prototype_novelty", title, ("row", "run"), _HEADINGS, tuple(lines), head, _FIELDS)


def render_novelty(table: Table) -> str:
    """The table as Markdown."""
    rows = [
        (line.source, str(cell.n), cell.figure, cell.printed(), cell.apart)
        for line in table.lines
        for cell in line.cells
    ]
    head = [f"- {key}: {value}" for key, value in table.head.items()]
    return "\n".join([f"# {table.title}", "", *head, "", *markdown(table.headings, rows), ""])


_HEADINGS = ("model", "n", "measured", "published", "difference")
_FIELDS = {
    **{"n": "n", "unmatched": "passed", "percent": "value"},
    **{name: name for name in ("standard_error", "published", "difference", "files", "query")},
}
_QUERY = f'np.isin(f["columns/prototype_rank"][:], [0, *range({TOP + 1}, 10**6)]).sum()'


def draw_novelty(folder: Path, rows: list[Measured], library: str) -> None:
    """Fig. 3d.

    Args:
        folder: to write to.
        rows: those with ranks and at least one plausible structure are drawn.
        library: whose frameworks, for the axis.
    """
    shown = [row for row in rows if row.ranks is not None and len(row.ranks)]
    numbers = list(range(TOP + 1))
    shares = {}
    figure = new_figure(6.8, 4.2)
    axes = figure.subplots()
    for row in shown:
        assert row.ranks is not None
        left = [100 * unmatched(row, n) / len(row.ranks) for n in numbers]
        shares[row] = left
        look = look_of(row.name)
        label = f"{row.label}, n = {len(row.ranks)}"
        axes.step(numbers, left, look.dashes, where="post", color=look.colour, label=label)
        if row.table.row in published_unmatched():
            figure_of = published_unmatched()[row.table.row]
            axes.plot(TOP, figure_of, "D", mfc="white", mec=look.colour, clip_on=False, zorder=3)
    axes.plot([], [], "D", mfc="white", mec="black", label="published (ICSD)")
    axes.set(
        xlabel=f"most frequent frameworks of the library {library}",
        ylabel="of what passes A, B and C:\nunmatched, %",
        xlim=(0, TOP),
        ylim=(0, 102),
    )
    legend_above(figure, axes)
    plain_axes(axes)
    header = ["frameworks", *(f"{row.label} (n = {len(_ranks(row))}), %" for row in shares)]
    save(figure, folder, "figure_3d", header, zip(numbers, *shares.values(), strict=True))


def _ranks(row: Measured) -> np.ndarray:
    assert row.ranks is not None
    return row.ranks
