"""Figure 5: energies along searches for crystal structures, with and without the generated one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pigen.crystal.elements import usual_formula
from pigen.csp.folder import MODES
from pigen.csp.outcome import Outcome
from pigen.csp.trace import step_down
from pigen.paper.figures.style import BLUE, GREEN, GREY, ORANGE, new_figure, plain_axes, save

_COLOURS = dict(zip(MODES, (BLUE, ORANGE), strict=True))
_NAMES = dict(zip(MODES, ("with the generated structure", "composition alone"), strict=True))


def draw_traces(
    folder: Path, outcomes: Sequence[Outcome], hull: Mapping[str, float | None]
) -> None:
    """Fig. 5, a panel for each composition.

    Args:
        folder: to write to.
        outcomes: of the compositions to show, one at least with an energy each.
        hull: reduced formula → energy of the hull, eV/atom, None where there is none.
    """
    figure = new_figure(5.2 * max(len(outcomes), 1), 3.8)
    grid = figure.subplots(1, max(len(outcomes), 1), squeeze=False)
    lines: list[list[Any]] = []
    for axes, outcome in zip(grid.flat, outcomes, strict=False):
        lowest = min(outcome.seeded.lowest, outcome.unseeded.lowest)
        level = hull.get(outcome.composition.formula)
        for mode, search in zip(MODES, (outcome.seeded, outcome.unseeded), strict=True):
            heights = [1000 * (step.energy - lowest) for step in search.steps]
            colour = _COLOURS[mode]
            shown = [(x, y) for x, y in enumerate(heights) if math.isfinite(y)]
            if shown:
                axes.plot(*zip(*shown, strict=True), ".", color=colour, markersize=4, alpha=0.5)
            step_down(axes, heights, color=colour, label=f"lowest, {_NAMES[mode]}")
            lines += [
                [outcome.composition.formula, mode, x, step.move, step.energy]
                for x, step in enumerate(search.steps)
                if math.isfinite(step.energy)
            ]
        if math.isfinite(outcome.generated):
            height = 1000 * (outcome.generated - lowest)
            axes.axhline(height, color=GREY, linestyle="--", label="generated structure, relaxed")
        if level is not None:
            height = 1000 * (level - lowest)
            axes.axhline(height, color=GREEN, linestyle="--", label="hull of known compounds")
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(bottom=min(-2.0, 1200 * (level - lowest) if level is not None else 0.0))
        axes.set(xlabel="relaxations", ylabel="energy above the lowest, meV/atom")
        axes.set_title(usual_formula(outcome.composition.formula), fontsize=9)
        axes.legend(fontsize=7)
        plain_axes(axes)
    header = ["composition", "search", "relaxation", "move", "energy, eV/atom"]
    save(figure, folder, "figure_5", header, lines)
