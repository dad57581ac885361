"""The verb match: what is known of structures already."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of
from pigen.cli.options import (
    EXISTING,
    output_option,
    reading_options,
    sources_argument,
    writing_options,
)

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from collections.abc import Iterator

    from pigen.config.files import Limits
    from pigen.runtime.executor import Where


@click.command()
@sources_argument
@click.option(
    "--to",
    "known",
    required=True,
    multiple=True,
    type=EXISTING,
    metavar="KNOWN",
    help="Known structures, anything that `pigen import` reads. Repeatable.",
)
@output_option
@reading_options
@writing_options
def match(
    sources: tuple[Path, ...],
    known: tuple[Path, ...],
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Find what is known already: the nearest known entry of each structure.

    Adds the columns nearest (its id; empty if no known entry has the same elements),
    nearest_formula, same_composition, same_structure (by pymatgen's StructureMatcher, elements
    included) and rmsd, in (volume per atom)^(1/3). For compositions alone, `pigen filter --novel
    --known mp` needs no structures.

    \b
    Example:
        pigen match candidates.h5 --to mp.csv -o matched.h5
    """
    from pigen.bundle import Bundle, Rate, write_bundle
    from pigen.io.sources import Sources
    from pigen.screening.match import match as matched_of

    check_output(output, (*sources, *known), force=force)
    opened, entries = Sources(sources, limits), Sources(known, limits)
    with entries.executor(where) as executor:
        candidates = Bundle.concatenate(list(opened.watched(executor)))
        n_known = 0

        def counted() -> Iterator[Bundle]:
            nonlocal n_known
            for chunk in entries.watched(executor):
                n_known += len(chunk)
                yield chunk

        found, counts = matched_of(candidates, counted(), executor)
    against = ", ".join(path.name for path in known)
    provenance = {**provenance_of("pigen match", (*sources, *known)), "against": against}
    write_bundle(output, replace(found, provenance=provenance))
    if as_json:
        said = {"read": found.n_entries, "known": n_known, "against": against, **counts}
        click.echo(json.dumps({**said, "output": str(output)}))
        return
    click.echo(f"{output}: {len(found)} structures against {n_known} of {against}")
    width = max(map(len, counts))
    for kind, n in counts.items():
        click.echo(f"  {kind:<{width}}  {Rate(n, len(found))}")
