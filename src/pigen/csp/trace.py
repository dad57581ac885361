"""The energy trace of a search (Fig. 5a, b of the paper) as a PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from pigen.csp.results import Step
from pigen.runtime.files import replaced

if TYPE_CHECKING:  # imported when something is drawn
    from matplotlib.axes import Axes


def draw_trace(
    path: Path,
    steps: Sequence[Step],
    n_seeds: int,
    elements: Mapping[str, int],
    hull: float | None = None,
) -> None:
    """Energies of all relaxations above the lowest, and the lowest so far, against their number.

    Args:
        path: of the PNG.
        steps: of the search, in order; one at least with an energy.
        n_seeds: of the initial pool.
        elements: atoms in the reduced formula, for the title.
        hull: energy of the hull at this composition, eV/atom, if it is known.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lowest = min(step.energy for step in steps)
    heights = [1000 * (step.energy - lowest) for step in steps]
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for initial, label, marker in ((True, "initial pool", "s"), (False, "search", "o")):
        rows = [i for i, s in enumerate(steps) if s.initial is initial and math.isfinite(s.energy)]
        shown = [heights[i] for i in rows]
        axes.plot(rows, shown, marker, markersize=3, alpha=0.5, label=label)
    step_down(axes, heights, label="lowest so far")
    seeds = [h for s, h in zip(steps, heights, strict=True) if s.initial and s.slot < n_seeds]
    for height in filter(math.isfinite, seeds):
        axes.axhline(height, linestyle="--", linewidth=1, color="grey", label="generated structure")
    if hull is not None:
        label = "hull of known compounds"
        axes.axhline(1000 * (hull - lowest), linestyle="--", linewidth=1, color="C2", label=label)
    axes.set_yscale("symlog", linthresh=10)
    if hull is None or hull >= lowest:
        axes.set_ylim(bottom=-2)
    axes.set_xlabel("relaxations")
    axes.set_ylabel("energy above the lowest, meV/atom")
    axes.set_title("".join(f"{e}{n if n > 1 else ''}" for e, n in elements.items()))
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    with replaced(path) as part:
        figure.savefig(part, format="png", dpi=100)


def step_down(
    axes: Axes, heights: Sequence[float], *, label: str, color: str | None = None
) -> None:
    """Draw the lowest of the heights so far, from the first that is finite."""
    so_far = list(accumulate(heights, min))
    first = next((i for i, height in enumerate(so_far) if math.isfinite(height)), len(so_far))
    axes.step(range(first, len(so_far)), so_far[first:], where="post", color=color, label=label)
