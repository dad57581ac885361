"""The verb `compare`: generated structures against those a model learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import Sources
from pigen.cli.executor import executor_option
from pigen.cli.existing import EXISTING
from pigen.cli.options import limit_options, limits_of
from pigen.cli.terminal import show_markdown
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
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
@executor_option
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def compare(
    samples: Path,
    references: tuple[Path, ...],
    where: Where,
    as_json: bool,
    **limits: int,
) -> None:
    """Compare generated structures with real ones: how far their distributions are apart.

    Medians and Wasserstein distances of volume per atom, C, M_LED, K and sizes; total variation
    distances of elements and space groups; validity, uniqueness, novelty. The floor beside each
    distance is that of as many structures drawn from the reference itself.

    \b
    Example:
        pigen compare runs/pigen_mled_c/samples.h5 --to train.h5
    """
    from pigen.bundle import Bundle
    from pigen.screening.compare import fidelity

    ours = Sources([samples], limits_of(**limits))
    theirs = Sources(references, limits_of(**limits))
    with theirs.executor(where) as executor:
        chunks = list(ours.chunks(executor))
        if not any(len(chunk) for chunk in chunks):
            raise UsageError(f"{samples}: no structure to compare")
        with theirs.bar() as bar:
            known = []
            for chunk in theirs.chunks(executor):
                known.append(chunk)
                bar.update(chunk.n_entries)
        if not any(len(chunk) for chunk in known):
            raise UsageError(f"{references[0]}: no structure to compare with")
        found = fidelity(Bundle.concatenate(chunks), known, executor)
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False))
        return
    show_markdown("\n".join(_lines(found)) + "\n")


def _lines(found: Fidelity) -> list[str]:
    """Two Markdown tables."""
    lines = [
        f"{found.n_samples} samples, {found.n_reference} reference structures",
        "",
        "| distribution | samples | reference | distance | floor |",
        "|---|---|---|---|---|",
    ]
    for one in found.distances:
        name = f"{one.quantity} ({one.unit})" if one.unit else one.quantity
        shown = f"{one.distance:.3f} | {one.floor:.3f}"
        lines.append(f"| {name} | {_middle(one)[0]} | {_middle(one)[1]} | {shown} |")
    lines += ["", "| of all samples | n / N (%) |", "|---|---|"]
    lines += [f"| {name} | {rate} |" for name, rate in found.rates.items()]
    return lines


def _middle(one: Distance) -> tuple[str, str]:
    """Medians, or the commonest kinds."""
    from pigen.crystal.elements import SYMBOLS

    values = (one.samples, one.reference)
    if one.quantity == "elements":
        return SYMBOLS[int(values[0])], SYMBOLS[int(values[1])]
    digits = 0 if one.quantity == "space groups" else 2
    return f"{values[0]:.{digits}f}", f"{values[1]:.{digits}f}"
