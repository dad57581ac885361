"""Figures 3a, 3c and Extended Data Figure 1: distributions of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.paper.figures import training
from pigen.paper.figures.data import Measured, named
from pigen.paper.figures.style import (
    DENSITY,
    GREY,
    VERMILLION,
    legend_above,
    look_of,
    new_figure,
    plain_axes,
    save,
    write_csv,
    write_png,
)

_MLED_ROWS = ("pseudo_random", "diffcsp", "mattergen", "pigen_ehull", "pigen_mled", "pigen_mled_c")
_K_ROWS = ("pigen_k", "pigen_k_c", "diffcsp")
_MLED, _K = "M_LED, bits", "K, bits per atom"
_SHARE = "share of structures, % per bin"


def draw_mled(folder: Path, rows: list[Measured]) -> None:
    """Fig. 3a: M_LED of the training set and of what was generated."""
    bins = training.edges("mled")
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    known = training.histogram("mled").counts
    shares = {"training set": _percent(known), **{r.label: _shares(r.mled, bins) for r in rows}}
    axes.stairs(
        shares["training set"], bins, fill=True, color=GREY, alpha=0.4, label="training set"
    )
    for row in named(rows, _MLED_ROWS):
        _stairs(axes, shares[row.label], bins, row)
    _edges(axes, "filter D", 9.0)
    axes.set(xlabel=_MLED, ylabel=_SHARE, xlim=(bins[0], bins[-1]), ylim=(0, None))
    legend_above(figure, axes)
    plain_axes(axes)
    header = ["from_bits", "to_bits", *(f"{name}, %" for name in shares)]
    save(figure, folder, "figure_3a", header, _lines(bins, shares))


def draw_compactness(folder: Path) -> None:
    """Fig. 3c: compactness against energy above the hull in the training set."""
    found = training.histogram("c", "e_hull")
    c, e_hull = found.edges
    middle = 500 * (e_hull[1:] + e_hull[:-1])
    figure = new_figure(5.2, 4.0)
    axes = figure.subplots()
    _density(figure, axes, c, 1000 * e_hull, found.counts)
    enough = found.counts.sum(axis=1) >= 20  # fewer say little
    centres = ((c[1:] + c[:-1]) / 2)[enough]
    for share, dashes in ((0.5, ":"), (0.9, "-")):
        below = [
            float(np.interp(share * column.sum(), column.cumsum(), middle))
            for column in found.counts[enough]
        ]
        label = f"{100 * share:.0f} % are below"
        axes.plot(centres, below, dashes, color=VERMILLION, linewidth=2, label=label)
    _edges(axes, "filter C", 0.55, 0.85)
    axes.set(xlabel="compactness C", ylabel="E_hull, meV/atom", xlim=(0.1, 1.3))
    legend_above(figure, axes)
    header = ["from_C", "to_C", "from_meV_per_atom", "to_meV_per_atom", "structures"]
    save(figure, folder, "figure_3c", header, _table(c, 1000 * e_hull, found.counts))


def draw_complexity(folder: Path, rows: list[Measured]) -> None:
    """Extended Data Fig. 1: K against M_LED in the training set, and K of what was generated."""
    found, bins = training.histogram("mled", "k"), training.edges("k")
    mled, k = found.edges
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    _density(figure, left, mled, k, found.counts)
    left.set(xlabel=_MLED, ylabel=_K, title="a   training set", xlim=(5, 11))
    shares = {"training set": _percent(training.histogram("k").counts)}
    shares |= {row.label: _shares(row.k, bins) for row in rows}
    right.stairs(
        shares["training set"], bins, fill=True, color=GREY, alpha=0.4, label="training set"
    )
    for row in named(rows, _K_ROWS):
        _stairs(right, shares[row.label], bins, row)
    right.set(xlabel=_K, ylabel=_SHARE, title="b", ylim=(0, None), xlim=(bins[0], bins[-1]))
    right.legend(fontsize=7, frameon=False)
    plain_axes(right)
    header = ["from_bits", "to_bits", "from_bits_per_atom", "to_bits_per_atom", "structures"]
    table = _table(mled, k, found.counts)
    write_csv(folder / "extended_data_figure_1a.csv", header, table)
    header = ["from_bits_per_atom", "to_bits_per_atom", *(f"{name}, %" for name in shares)]
    write_csv(folder / "extended_data_figure_1b.csv", header, _lines(bins, shares))
    write_png(figure, folder / "extended_data_figure_1.png")


def _edges(axes: Any, name: str, *edges: float) -> None:
    """Mark the window of a filter."""
    for edge in edges:
        axes.axvline(edge, color="black", linewidth=0.8, linestyle=":")
    middle = sum(edges) / len(edges)
    axes.text(middle, 1.01, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)


def _stairs(
    axes: Any, shares: NDArray[np.float64], bins: NDArray[np.float64], row: Measured
) -> None:
    look = look_of(row.name)
    label = f"{row.label}, n = {row.total}"
    axes.stairs(shares, bins, color=look.colour, linestyle=look.dashes, linewidth=1.6, label=label)


def _density(
    figure: Any,
    axes: Any,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    from matplotlib.colors import LogNorm

    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(x, y, shown, norm=LogNorm(1, max(int(counts.max()), 2)), cmap=DENSITY)
    figure.colorbar(mesh, ax=axes, label="structures per cell")


def _shares(values: NDArray[np.float64], bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of the structures that have a value; the ends take what lies beyond them."""
    present = np.clip(values[~np.isnan(values)], bins[0], bins[-1])
    return _percent(np.histogram(present, bins)[0])


def _percent(counts: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = 100 * counts / max(int(counts.sum()), 1)
    return shares


def _lines(bins: NDArray[np.float64], shares: dict[str, NDArray[np.float64]]) -> list[list[float]]:
    columns = [bins[:-1], bins[1:], *shares.values()]
    return [[float(value) for value in line] for line in zip(*columns, strict=True)]


def _table(
    x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.int64]
) -> list[list[Any]]:
    return [
        [float(x[i]), float(x[i + 1]), float(y[j]), float(y[j + 1]), int(counts[i, j])]
        for i, j in np.ndindex(*counts.shape)
        if counts[i, j]
    ]
