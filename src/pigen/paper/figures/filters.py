"""Figure 3b and Extended Data Figures 2 and 3: what passes the filters, and how near the hull."""

from __future__ import annotations

from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pigen.paper.columns import SEQUENCE, column_of
from pigen.paper.figures.data import Measured, named
from pigen.paper.figures.style import BLACK, legend_above, look_of, new_figure, plain_axes, save
from pigen.paper.published import published, published_figures
from pigen.screening.stability import STABLE

_OVERLAP_ROWS = ("pigen_c", "pigen_ehull")
_ENERGY_ROWS = (
    *("diffcsp", "diffcsp_pi", "mattergen", "mattergen_mled_c"),
    *("pigen_c", "pigen_ehull", "pigen_mled", "pigen_mled_c"),
)
_MEANING = {"A": "A  SPP", "B": "B  new composition", "C": "C  compactness", "D": "D  M_LED"}
_THRESHOLDS = np.arange(0, 151, 5)  # meV/atom


def draw_overlap(folder: Path, rows: list[Measured]) -> None:
    """Fig. 3b: how many structures pass which of the filters together (an UpSet plot)."""
    letters = list(_MEANING)
    sets = [dict(zip(letters, held, strict=True)) for held in product((True, False), repeat=4)]
    shares = {row.label: [_share_of(row, wanted) for wanted in sets] for row in rows}
    shown = named(rows, _OVERLAP_ROWS)[:2]
    order = sorted(range(len(sets)), key=lambda i: -sum(shares[row.label][i] for row in shown))
    drawn = [i for i in order if any(shares[row.label][i] for row in shown)]
    figure = new_figure(8.0, 4.4)
    bars, dots = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    width = 0.8 / max(len(shown), 1)
    for place, row in enumerate(shown):
        left = np.arange(len(drawn)) + (place - (len(shown) - 1) / 2) * width
        values = [shares[row.label][i] for i in drawn]
        errors = [_error(value, row.total) for value in values]
        label, colour = f"{row.label}, n = {row.total}", look_of(row.name).colour
        bars.bar(left, values, width, yerr=errors, color=colour, label=label, error_kw=_THIN)
    bars.set(ylabel="structures that pass these\nand no other, %", ylim=(0, None))
    bars.legend(fontsize=8, frameon=False)
    plain_axes(bars)
    bars.tick_params(bottom=False)
    for x, i in enumerate(drawn):
        held = [y for y, letter in enumerate(letters) if sets[i][letter]]
        dots.plot([x] * 4, range(4), "o", color="#DDDDDD", markersize=7)
        dots.plot([x] * len(held), held, "o-", color=BLACK, markersize=7)
    dots.set_yticks(range(4), [_MEANING[letter] for letter in letters])
    dots.set_xticks([])
    dots.tick_params(left=False)
    dots.invert_yaxis()
    for side in ("top", "right", "bottom", "left"):
        dots.spines[side].set_visible(False)
    header = [*letters, *(f"{name}, %" for name in shares)]
    lines = [[*map(int, sets[i].values()), *(v[i] for v in shares.values())] for i in order]
    save(figure, folder, "figure_3b", header, lines)


def _share_of(row: Measured, wanted: dict[str, bool]) -> float:
    """Percent of all generated that pass exactly these filters."""
    alike = np.ones(len(row.mled), dtype=bool)
    for letter, held in wanted.items():
        alike &= row.passed[letter] == held
    return 100 * float(alike.sum()) / max(row.total, 1)


def draw_funnel(folder: Path, rows: list[Measured]) -> None:
    """Extended Data Fig. 2: what is left after each filter, row by row."""
    columns = 4
    figure = new_figure(10.0, 0.6 + 2.1 * max(ceil(len(rows) / columns), 1))
    grid = figure.subplots(
        max(ceil(len(rows) / columns), 1), columns, sharex=True, sharey=True, squeeze=False
    )
    lines: list[list[Any]] = []
    below = [column_of("E50").heading] if any("E50" in row.table.rates for row in rows) else []
    names = [*_sequence_names(), *below]
    for axes, row in zip(grid.flat, rows, strict=False):
        steps = _steps(row)
        look = look_of(row.name)
        values, errors = [value for _, value, _, _ in steps], [error for _, _, error, _ in steps]
        axes.bar(range(len(steps)), values, yerr=errors, color=look.colour, error_kw=_THIN)
        printed = [(x, value) for x, (*_, value) in enumerate(steps) if value is not None]
        axes.plot(*zip(*printed, strict=True) if printed else ([], []), "D", **_PUBLISHED)
        axes.set_title(f"{row.label}\nn = {row.total}", fontsize=8)
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_ylim(0, 100)
        plain_axes(axes)
        lines += [[row.label, row.total, *step] for step in steps]
    for axes in list(grid.flat)[len(rows) :]:
        axes.set_visible(False)
    figure.supylabel("of all generated, %", fontsize=9)
    unit = ", E_hull in meV/atom" if below else ""
    figure.supxlabel(f"filters in sequence{unit}; ◇ published", fontsize=9)
    header = ["row", "n", "filters", "left, %", "standard error, %", "published, %"]
    save(figure, folder, "extended_data_figure_2", header, lines)


def _sequence_names() -> list[str]:
    return [SEQUENCE[0], *(f"{SEQUENCE[0]}–{letter}" for letter in SEQUENCE[1:])]


def _steps(row: Measured) -> list[tuple[str, float, float, float | None]]:
    """Name, percent left, standard error and published figure, filter after filter."""
    rates, columns = row.table.rates, {SEQUENCE[0]: SEQUENCE[0], SEQUENCE[-1]: "sequence"}
    steps = [
        (name, rate, columns.get(letter, ""))
        for name, (letter, rate) in zip(_sequence_names(), row.table.funnel.items(), strict=False)
    ]
    if "E50" in rates:
        steps.append((column_of("E50").heading, rates["E50"], "E50"))
    return [
        (name, rate.percent, rate.percent_error, published(row.table.row, column))
        for name, rate, column in steps
    ]


def draw_thresholds(folder: Path, rows: list[Measured]) -> None:
    """Extended Data Fig. 3a: what passes A–D and, relaxed, stays below an energy above the hull."""
    with_energies = [row for row in rows if row.e_hull is not None]
    shares = {row.label: _below(row) for row in with_energies}
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for row in named(with_energies, _ENERGY_ROWS):
        look = look_of(row.name)
        label = f"{row.label}, n = {row.total}"
        axes.plot(_THRESHOLDS, shares[row.label], look.dashes, color=look.colour, label=label)
        printed = [published_figures(row.table.row, column)[:1] for column in STABLE]
        for threshold, figures in zip(STABLE.values(), printed, strict=True):
            if figures:
                axes.plot(1000 * threshold, figures[0], "D", **_PUBLISHED | {"mec": look.colour})
    axes.set(xlabel="E_hull below, meV/atom", ylabel="of all generated, %", xlim=(0, 150))
    axes.set_ylim(0, None)
    axes.plot([], [], "D", **_PUBLISHED, label="published")
    legend_above(figure, axes)
    plain_axes(axes)
    header = ["below, meV/atom", *(f"{name}, %" for name in shares)]
    lines = zip(_THRESHOLDS.tolist(), *shares.values(), strict=True)
    save(figure, folder, "extended_data_figure_3", header, lines)


def _below(row: Measured) -> list[float]:
    assert row.e_hull is not None
    near = [(1000 * row.e_hull < threshold).sum() for threshold in _THRESHOLDS]
    return [100 * float(n) / max(row.total, 1) for n in near]


def _error(percent: float, n: int) -> float:
    """Binomial standard error, percent."""
    return float(np.sqrt(percent * (100 - percent) / max(n, 1)))


_THIN = {"elinewidth": 1.2, "ecolor": "#777777"}
_PUBLISHED: dict[str, Any] = {"mfc": "white", "mec": BLACK, "markersize": 5, "zorder": 3}
