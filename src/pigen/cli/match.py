"""The verb match: what is known of structures already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, output_of, provenance_of
from pigen.cli.options import (
    EXISTING,
    output_option,
    reading_options,
    sources_argument,
    stage_options,
    writing_options,
)

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard


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
@stage_options
@reading_options
@writing_options
def match(
    sources: tuple[Path, ...],
    known: tuple[Path, ...],
    output: Path,
    resume: bool,
    shard: Shard | None,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Find what is known already: the nearest known entry of each structure.

    Adds the columns nearest (its id; empty if no known entry has the same elements),
    nearest_formula, same_composition, same_structure (by pymatgen's StructureMatcher, elements
    included) and rmsd, in (volume per atom)^(1/3); the percentages are of the structures
    read. --resume goes on after a kill. For compositions alone, `pigen filter --novel --known mp`
    needs no structures.

    \b
    Example:
        pigen match candidates.h5 --to mp.csv -o matched.h5
    """
    from pigen.bundle import Rate
    from pigen.io.sources import Sources
    from pigen.screening.match import CHUNK, Known, NearestStage

    output = output_of(output, shard)
    check_output(output, (*sources, *known), force=force, resume=resume)
    opened = Sources(sources, limits, chunk_size=CHUNK, shard=shard)
    entries = Sources(known, limits)
    against = ", ".join(path.name for path in known)
    provenance = provenance_of("pigen match", (*sources, *known), limits=limits, shard=shard)
    with entries.executor(where) as executor:
        stage = NearestStage(Known(entries.watched(executor)), executor)
        written = opened.through(
            stage, executor, output, {**provenance, "against": against}, resume=resume
        )
    n_known = len(stage.known)
    if as_json:
        counts = {"read": written.entries, "rejected": written.rejects, "known": n_known}
        click.echo(
            json.dumps({**counts, "against": against, **stage.counts, "output": str(output)})
        )
        return
    click.echo(f"{output}: {written.entries} structures against {n_known} of {against}")
    counted = {**stage.counts, **({"rejected": written.rejects} if written.rejects else {})}
    width = max(map(len, counted))
    for kind, n in counted.items():
        click.echo(f"  {kind:<{width}}  {Rate(n, written.entries)}")
