"""The verbs csp-seed and csp-run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import Sources
from pigen.cli.executor import executor_option
from pigen.cli.options import (
    json_option,
    limit_options,
    limits_of,
    potential_options,
    sources_argument,
)
from pigen.cli.shard import shard_option
from pigen.cli.terminal import show_counts

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("csp-seed")
@sources_argument
@click.option(
    "-o", "--out", "output", required=True, type=click.Path(path_type=Path), help="A new folder."
)
@click.option(
    "--n", type=click.IntRange(min=1), default=20, show_default=True, help="How many compositions."
)
@click.option(
    "--select",
    "choice",
    type=click.Choice(["filtered", "random", "lowest-energy"]),
    default="filtered",
    show_default=True,
    help="Structures that passed all filters, any, or those of lowest energy.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice and of the searches.",
)
@click.option(
    "--engine",
    type=click.Choice(["fuse", "airss", "uspex", "calypso", "xtalopt"]),
    default="fuse",
    show_default=True,
    help="fuse: searches for FUSE and pigen csp-run; else seeds in that code's format.",
)
@click.option(
    "--rmax",
    type=click.IntRange(min=1),
    default=1500,
    show_default=True,
    help="Steps without a new minimum that end a search.",
)
@click.option(
    "--initial",
    type=click.IntRange(min=1),
    default=250,
    show_default=True,
    help="Random structures in the initial pool.",
)
@click.option(
    "--fmax",
    type=click.FloatRange(min=0, min_open=True),
    default=0.05,
    show_default=True,
    help="eV/Å at which a relaxation has converged.",
)
@click.option(
    "--max-steps",
    "steps",
    type=click.IntRange(min=1),
    default=750,
    show_default=True,
    help="Most steps of a relaxation.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Most relaxations of a search.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=48.0,
    show_default=True,
    help="Wall clock of a search.",
)
@click.option(
    "--search-atoms",
    type=click.IntRange(min=0),
    default=0,
    help="FUSE's max_atoms, where the seed has fewer.",
)
@click.option(
    "--seed-atoms",
    type=click.IntRange(min=1),
    help="Take only generated cells of at most so many atoms.",
)
@click.option(
    "--name", "model", default="", help="Name in the table; that of the experiment by default."
)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def csp_seed(
    sources: tuple[Path, ...],
    output: Path,
    n: int,
    choice: str,
    seed: int,
    engine: str,
    search_atoms: int,
    seed_atoms: int | None,
    model: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Write search folders for generated structures: seeded, and by composition alone.

    One composition each, n in all. SRC is anything that `pigen import` reads; --select filtered
    needs the verdicts that `pigen filter` or `pigen run` leave in a bundle.

    \b
    Examples:
        pigen csp-seed runs/first/survivors.h5 -o csp/filtered
        pigen csp-seed runs/first/samples.h5 --select random -o csp/unfiltered
    """
    from pigen.bundle import Bundle, count_rejects
    from pigen.csp.folder import Settings
    from pigen.csp.seed import Request
    from pigen.csp.seed import csp_seed as write
    from pigen.runtime.errors import UsageError
    from pigen.runtime.executor import Where

    limits = limits_of(**{key: options.pop(key) for key in list(options) if key.startswith("max")})
    try:
        settings = Settings(**options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    request = Request(
        n=n,
        choice=choice,
        seed=seed,
        engine=engine,
        settings=settings,
        max_atoms=search_atoms,
        most_atoms=seed_atoms,
        model=model,
    )
    opened = Sources(sources, limits)
    chunks = []
    with opened.executor(Where()) as executor, opened.bar() as bar:
        for chunk in opened.chunks(executor):
            chunks.append(chunk)
            bar.update(chunk.n_entries)
    experiment = write(
        Bundle.concatenate(chunks), request, output, tuple(str(source) for source in sources)
    )
    if as_json:
        click.echo((output / "manifest.json").read_text(encoding="utf-8"), nl=False)
        return
    written = len(experiment.compositions)
    click.echo(
        f"{output}: {written} compositions ({experiment.model}, {experiment.chosen}) "
        f"for {experiment.engine}, of {experiment.read} structures read"
    )
    if written < n:
        click.echo(f"  no more compositions to choose: {n} were asked for")
    from pigen.bundle import Reject

    refused = [Reject(name, reason) for name, reason in experiment.refused.items()]
    show_counts(count_rejects(refused))


@click.command("csp-run")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="DIR...")
@click.option(
    "--only",
    multiple=True,
    metavar="SEARCH",
    help="Only this search or composition, like 001_Mg1O1/seeded or 001_Mg1O1. Repeatable.",
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Wall clock of this run."
)
@shard_option(
    "Do part I of N of the searches, in groups of 4 (16 on CUDA), as one of a job array; nothing "
    "needs to be merged."
)
@potential_options
@executor_option
@json_option
def csp_run(
    folders: tuple[Path, ...],
    only: tuple[str, ...],
    hours: float | None,
    shard: Shard | None,
    model: str,
    device: str,
    where: Where,
    as_json: bool,
) -> None:
    """Run the searches in folders of `pigen csp-seed` here, without FUSE.

    Basin hopping on batched CHGNet: every search starts from random symmetric cells, the seeded
    ones from the generated structure too. Searches leave the files that FUSE leaves, and an energy
    trace; one that was interrupted goes on where it was when the command is given again. This
    process leads them, in groups that advance in step; the workers of --executor relax.

    \b
    Example:
        pigen csp-run csp/filtered csp/unfiltered --hours 12
    """
    import math

    from tqdm import tqdm

    from pigen.csp.run import GROUP, Progress
    from pigen.csp.run import csp_run as run
    from pigen.energy.elsewhere import PotentialElsewhere
    from pigen.energy.hull.lookup import hull_energies
    from pigen.runtime.device import resolve_device
    from pigen.runtime.executor import open_executor

    kind = resolve_device(device).type
    with (
        open_executor(where.for_few() if kind == "cuda" else where) as executor,
        tqdm(unit="relaxation", delay=1.0, disable=not sys.stderr.isatty()) as bar,
    ):
        potential = PotentialElsewhere.of(model, kind, executor)

        def watch(progress: Progress) -> None:
            bar.set_postfix_str(f"{progress.ended} of {progress.searches} ended", refresh=False)
            bar.update(progress.relaxations - bar.n)

        done = run(
            folders,
            potential,
            executor=executor,
            only=only,
            shard=shard,
            group=GROUP[kind],
            hours=hours or math.inf,
            hull=hull_energies(potential.name),
            watch=watch,
        )
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    click.echo(
        f"{done.relaxations} relaxations; {done.ended} of {done.searches} searches have ended"
    )
