"""How figures look, and how they are written: colours the colour-blind can tell, PNG and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pigen.paper.cells import csv_text
from pigen.runtime.files import replaced, write_atomically

if TYPE_CHECKING:  # heavy: imported when a figure is drawn
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
"""Okabe and Ito's palette (https://jfly.uni-koeln.de/color) less yellow, plus grey."""
DENSITY = "cividis"
"""Colour map of densities, made for colour-blind readers."""
_DPI = 150


@dataclass(frozen=True)
class Look:
    """Colour and dashes of a row: the same in every figure."""

    colour: str
    dashes: str = "-"


_LOOKS = {
    "pseudo_random": Look(GREY),
    "diffcsp": Look(ORANGE),
    "diffcsp_pi": Look(ORANGE, "--"),
    "diffcsp_cfg": Look(ORANGE, ":"),
    "diffcsp_symmetric": Look(ORANGE, "-."),
    "mattergen": Look(PURPLE),
    "mattergen_mled_c": Look(PURPLE, "--"),
    "pigen_ehull": Look(VERMILLION),
    "pigen_mled_ehull": Look(VERMILLION, "--"),
    "pigen_c": Look(SKY),
    "pigen_mled": Look(GREEN),
    "pigen_mled_c": Look(BLUE),
    "pigen_mled_c_free": Look(BLUE, "--"),
    "pigen_k": Look(BLACK),
    "pigen_k_c": Look(BLACK, "--"),
}


def look_of(name: str) -> Look:
    """Look of an experiment's lines; one that is none of the paper's is grey and dotted."""
    return _LOOKS.get(name, Look(GREY, ":"))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(
    figure: Figure,
    folder: Path,
    name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write ``name.csv`` and ``name.png``; the header names units."""
    write_csv(folder / f"{name}.csv", header, rows)
    write_png(figure, folder / f"{name}.png")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write the data of a figure."""
    shown = ([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    write_atomically(path, csv_text(header, shown))


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure."""
    # Without matplotlib's version in the file, equal data make equal bytes.
    with replaced(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": None})


def legend_above(figure: Any, axes: Any) -> None:
    """The legend of the axes, above them, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if len(labels) > 3 else max(len(labels), 1)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=7)


def plain_axes(axes: Any) -> None:
    """Take away the frame's upper and right side."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
