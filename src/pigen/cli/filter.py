"""The verb filter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pigen.cli.chemistry import chemistry_options, chemistry_settings, known_option
from pigen.cli.common import (
    check_output,
    heading,
    output_of,
    provenance_of,
    settings_of,
    show_result,
    stem_of,
)
from pigen.cli.options import (
    EXISTING,
    descriptor_options,
    output_as,
    sources_argument,
    stage_options,
    writing_options,
)
from pigen.config import LESS_IS_BETTER, MORE_IS_BETTER
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.bundle.stage import Written
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard
    from pigen.screening.funnel import Funnel

_Verb = TypeVar("_Verb", bound=Callable[..., Any])
Window = tuple[float | None, float | None]
_WINDOWS = {"c", *MORE_IS_BETTER, *LESS_IS_BETTER}
"""Quantities with an option of their own."""


class WindowType(click.ParamType[Window]):
    """``lo:hi``, ``lo:``, ``:hi`` or a number, which is the natural bound of the quantity."""

    name = "window"

    def __init__(self, quantity: str = "") -> None:
        """Of a quantity; one of which a bare number says nothing must be a window."""
        self.is_least, self.is_most = quantity in MORE_IS_BETTER, quantity in LESS_IS_BETTER

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How the help shows it."""
        return "LO:HI"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Window:
        """Parse; BadParameter for what is no window, or one that holds no number."""
        if isinstance(value, tuple):
            return value
        low_text, colon, high_text = str(value).partition(":")
        low, high = self._number(low_text, param, ctx), self._number(high_text, param, ctx)
        if not (colon or self.is_least or self.is_most):
            self.fail(f"{value!r}: give a window, like 0.55:0.85 or 0.55:", param, ctx)
        if not colon and self.is_most:
            low, high = None, low
        if low is None and high is None:
            self.fail(f"{value!r} has neither a lower nor an upper end", param, ctx)
        if low is not None and high is not None and not low < high:
            self.fail(f"{value!r}: the lower end must be below the upper", param, ctx)
        return low, high

    def _number(
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if not text.strip():
            return None
        try:
            number = float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number", param, ctx)
        if not abs(number) < float("inf"):
            self.fail(f"{text!r}: leave an end open instead, like 9:", param, ctx)
        return number


def _window(quantity: str, text: str) -> Callable[[_Verb], _Verb]:
    flag = "--ehull" if quantity == "e_hull" else f"--{quantity.replace('_', '-')}"
    kind = WindowType(quantity)
    if kind.is_least or kind.is_most:
        text = f"{text}; a number is the {'least' if kind.is_least else 'most'}."
    return click.option(flag, quantity, type=kind, help=text)


@click.command("filter")
@sources_argument
@chemistry_options
@_window("min_distance", "A′: distances between atoms, Å")
@_window("spp", "A: statistical proxy potential")
@click.option(
    "--novel", is_flag=True, help="B: composition new to the training set, or to what --known says."
)
@_window("c", "C: compactness, e.g. 0.55:0.85.")
@_window("mled", "D: diversity of local environments, bits")
@_window("e_hull", "E: energy above the hull, eV/atom")
@_window("p_hull_050", "Probability that DFT puts it below 50 meV/atom")
@_window("p_hull_100", "The same below 100 meV/atom")
@click.option(
    "--prototypes",
    metavar="aflow|reference|PATH",
    help="Framework not among the first of a library of known ones.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="How many of the library, the most frequent first; 100 by default.",
)
@_window("k", "K: crystallographic complexity, bits/atom")
@click.option(
    "--where",
    "named",
    multiple=True,
    metavar="NAME=LO:HI",
    help="A criterion on any other descriptor or column of numbers. Repeatable.",
)
@click.option("--spp-table", type=EXISTING, help="SPP table, ours or published JSON.")
@known_option
@output_as("Bundle of the survivors.", required=False)
@click.option("--keep-all", is_flag=True, help="Write all structures with their verdicts.")
@stage_options
@descriptor_options
@writing_options
def filter(
    sources: tuple[Path, ...],
    output: Path | None,
    keep_all: bool,
    resume: bool,
    shard: Shard | None,
    where: Where,
    force: bool,
    as_json: bool,
    assignments: tuple[str, ...],
    named: tuple[str, ...],
    own: tuple[Path, ...],
    limits: Limits,
    **options: Any,
) -> None:
    """Keep the structures that pass the criteria, and count what each takes out.

    A window is LO:HI with either end open; ends are excluded, but those of whole numbers, such as
    n_elements and space_group, are included. Without criteria: the paper's A′, A,
    B, C, D and K each alone, and A to D in sequence. SRC is anything that `pigen import` reads.
    Columns that are missing are computed, but for e_hull and p_hull_050, p_hull_100, which `pigen
    energy` makes. Survivors go to SRC_passed.h5 in this folder unless -o says otherwise, and with
    them the id and reason of every reject: kept + rejected = read. --resume goes on after a kill.

    \b
    Examples:
        pigen filter all.csv --spp 0.362 --novel --c 0.55:0.85 --mled 9 -o good.h5
        pigen filter all.csv --elements Li,O --n-elements 3:4 --charge-balanced
        pigen filter samples.h5 --where density=4:6 --descriptors density.py
    """
    from pigen.config import ChemistryConfig
    from pigen.descriptors import load_descriptors
    from pigen.io.sources import Sources
    from pigen.runtime.checked import checked
    from pigen.screening.criteria import criteria_of
    from pigen.screening.filter import FilterStage

    output = output_of(output or Path(f"{stem_of(sources[0])}_passed.h5"), shard)
    check_output(output, sources, force=force, resume=resume)
    load_descriptors(own)
    chemistry = checked(ChemistryConfig, chemistry_settings(options), "pigen filter")
    windows: dict[str, Window | None] = {name: options.pop(name) for name in _WINDOWS}
    windows |= _named(named)
    settings = settings_of(assignments)
    opened = Sources(sources, limits, shard=shard)
    with tempfile.TemporaryDirectory() as folder, opened.executor(where) as executor:
        given = {"chemistry": chemistry, "settings": settings, **options}
        criteria = criteria_of(windows, Path(folder), executor, **given)
        stage = FilterStage(criteria, keep_all=keep_all)
        provenance = provenance_of("pigen filter", sources, limits=limits, shard=shard)
        written = opened.through(stage, executor, output, provenance, resume=resume)
    _print(stage.funnel, written, output, as_json)


def _print(funnel: Funnel, written: Written, output: Path, as_json: bool) -> None:
    if written.was_complete:
        n = {"crystals": written.crystals, "rejected": written.rejects}
        said = f"{written.crystals} crystals, {written.rejects} rejected"
        done = {"complete": True, **n, "output": str(output)}
        show_result(as_json, done, f"{output} is complete: {said}")
        return
    head, *lines = funnel.lines()
    counts = {**funnel.to_json(), "output": str(output)}
    show_result(as_json, counts, heading(head), *lines, f"{output}: {written.crystals} crystals")


def _named(texts: Sequence[str]) -> dict[str, Window]:
    """Windows by name, from texts like ``density=4:6``."""
    from pigen.screening.criteria import ORDER

    found = {}
    for text in texts:
        name, equals, window = text.partition("=")
        if not (name.strip() and equals):
            raise UsageError(f"--where {text}: expected NAME=LO:HI")
        if name.strip() in (*ORDER, "ehull"):
            raise UsageError(f"--where {text}: {name} has an option of its own")
        found[name.strip()] = WindowType().convert(window, None, None)
    return found
