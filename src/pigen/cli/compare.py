"""The verb `compare`: generated structures against those a model learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import readable, show_result
from pigen.cli.options import EXISTING, reading_options
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where
    from pigen.screening.compare import Distance, Fidelity


@click.command()
@click.argument("samples", type=EXISTING, metavar="SAMPLES")
@click.option(
    "--to",
    "references",
    required=True,
    multiple=True,
    type=EXISTING,
    metavar="SRC",
    help="Structures to compare with, such as the training set. Repeatable.",
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def compare(
    samples: Path,
    references: tuple[Path, ...],
    where: Where,
    as_json: bool,
    limits: Limits,
) -> None:
    """Compare generated structures with real ones: how far their distributions are apart.

    Medians and Wasserstein distances of volume per atom, density, C, M_LED, K and sizes; total
    variation distances of elements and space groups; validity, uniqueness, novelty, symmetry and
    charges, also by number of atoms; how far relaxed samples moved; published figures of other
    generators. The floor beside each
    distance is what it is between two such sets drawn from the reference itself.

    \b
    Example:
        pigen compare runs/pigen_mled_c/samples.h5 --to train.h5
    """
    from pigen.bundle import Bundle
    from pigen.io.sources import Sources
    from pigen.screening.compare import fidelity

    ours = Sources([samples], limits)
    theirs = Sources(references, limits)
    with theirs.executor(where) as executor:
        chunks = list(ours.chunks(executor))
        if not any(len(chunk) for chunk in chunks):
            raise UsageError(f"{samples}: no structure to compare")
        known = list(theirs.watched(executor))
        if not any(len(chunk) for chunk in known):
            raise UsageError(f"{references[0]}: no structure to compare with")
        found = fidelity(Bundle.concatenate(chunks), known, executor)
    show_result(as_json, found.as_json(), readable("\n".join(_lines(found))))


def _lines(found: Fidelity) -> list[str]:
    """The tables as Markdown."""
    from pigen.paper.cells import markdown
    from pigen.screening.compare import ANION, NO_SYMMETRY, SMACT

    both = f"{found.n_samples} samples, {found.n_reference} reference structures"
    distances = [
        (
            f"{one.quantity} ({one.unit})" if one.unit else one.quantity,
            *_middle(one),
            f"{one.distance:.3f}",
            f"{one.floor:.3f}",
        )
        for one in found.distances
    ]
    rates = [
        (name, rate, found.reference_rates.get(name, "–")) for name, rate in found.rates.items()
    ]
    shares = (NO_SYMMETRY, SMACT, ANION)
    sizes = [
        (one.atoms, *(rate[name] for name in shares for rate in (one.samples, one.reference)))
        for one in found.sizes
    ]
    ours, theirs = found.effective_elements
    headings = [f"{name}, {of}" for name in ("P1", "SMACT", "anion") for of in _BOTH]
    return [
        *(both, ""),
        *markdown(("distribution", *_BOTH, "distance", "floor"), distances),
        "",
        *markdown(("of all samples, n / N (%)", *_BOTH), rates),
        "",
        f"Effective number of elements, exp(H) of their shares of all atoms: samples {ours:.1f}, "
        f"reference {theirs:.1f}.",
        "",
        *markdown(("atoms per cell", *headings), sizes),
        "",
        *_moved(found),
        *_published(found),
    ]


_BOTH = ("samples", "reference")


def _moved(found: Fidelity) -> list[str]:
    if found.moved is None:
        return []
    median, n = found.moved
    return [f"RMSD to the structure before relaxation: median {median:.3f} Å ({n} have one).", ""]


def _published(found: Fidelity) -> list[str]:
    """The samples beside what other generators publish."""
    from pigen.paper.cells import markdown
    from pigen.paper.published import YARDSTICKS, YARDSTICKS_NOTE
    from pigen.screening.compare import NO_SYMMETRY, SMACT

    distances = {one.quantity: one.distance for one in found.distances}
    shares = [f"{found.rates[name].percent:.1f}" for name in (NO_SYMMETRY, SMACT)]
    names = ("density", "elements per cell")
    away = [f"{distances[name]:.3f}" if name in distances else "–" for name in names]
    moved = "–" if found.moved is None else f"{found.moved[0]:.3f}"
    rows = [("these samples", *shares, *away, moved, f"n = {found.n_samples}")]
    for one in YARDSTICKS:
        figures = (one.no_symmetry, one.smact, one.density, one.n_elements, one.moved)
        shown = ["–" if figure is None else f"{figure:g}" for figure in figures]
        rows.append((one.model, *shown, one.source))
    distances_of = ("density, g/cm3", "elements per cell")
    headings = (
        "",
        "P1, %",
        "SMACT valid, %",
        *(f"distance of {d}" for d in distances_of),
        "RMSD to relaxed, Å",
        "source",
    )
    return [*markdown(headings, rows), "", YARDSTICKS_NOTE]


def _middle(one: Distance) -> tuple[str, str]:
    """Medians, or the commonest kinds."""
    from pigen.crystal.elements import SYMBOLS

    values = (one.samples, one.reference)
    if one.quantity == "elements":
        return SYMBOLS[int(values[0])], SYMBOLS[int(values[1])]
    digits = 0 if one.quantity == "space groups" else 2
    return f"{values[0]:.{digits}f}", f"{values[1]:.{digits}f}"
