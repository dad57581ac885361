"""The verbs csp-seed and csp-run."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.options import (
    executor_option,
    json_option,
    limit_options,
    limits_of,
    output_as,
    potential_options,
    setting_options,
    shard_option,
    sources_argument,
)
from pigen.cli.terminal import show_counts
from pigen.config.searches import Request, Settings
from pigen.runtime.checked import checked

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("csp-seed")
@sources_argument
@output_as("A new folder.")
@setting_options(Request, "n", "choice", "seed", "engine", flags={"choice": "--select"})
@setting_options(
    Settings,
    *("rmax", "initial", "fmax", "steps", "iterations", "hours"),
    flags={"steps": "--max-steps"},
)
@setting_options(Request, "search_atoms", "seed_atoms", "model", flags={"model": "--name"})
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def csp_seed(
    sources: tuple[Path, ...],
    output: Path,
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
    from pigen.csp.seed import csp_seed as write
    from pigen.io.sources import Sources
    from pigen.runtime.executor import Where

    limits = limits_of(**{key: options.pop(key) for key in list(options) if key.startswith("max")})
    search = {field.name: options.pop(field.name) for field in fields(Settings)}
    request = checked(Request, {**options, "settings": search}, "csp-seed")
    opened = Sources(sources, limits)
    with opened.executor(Where()) as executor:
        chunks = list(opened.watched(executor))
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
    if written < request.n:
        click.echo(f"  no more compositions to choose: {request.n} were asked for")
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
    potential: str,
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

    from pigen.csp.run import GROUP, Progress
    from pigen.csp.run import csp_run as run
    from pigen.energy.elsewhere import PotentialElsewhere
    from pigen.energy.hull.lookup import hull_energies
    from pigen.runtime.device import resolve_device
    from pigen.runtime.executor import open_executor
    from pigen.runtime.progress import progress_bar

    kind = resolve_device(device).type
    with (
        open_executor(where.for_few() if kind == "cuda" else where) as executor,
        progress_bar(None, "relaxation") as bar,
    ):
        elsewhere = PotentialElsewhere.of(potential, kind, executor)

        def watch(progress: Progress) -> None:
            bar.set_postfix_str(f"{progress.ended} of {progress.searches} ended", refresh=False)
            bar.update(progress.relaxations - bar.n)

        done = run(
            folders,
            elsewhere,
            executor=executor,
            only=only,
            shard=shard,
            group=GROUP[kind],
            hours=hours or math.inf,
            hull=hull_energies(elsewhere.name),
            watch=watch,
        )
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    click.echo(
        f"{done.relaxations} relaxations; {done.ended} of {done.searches} searches have ended"
    )
