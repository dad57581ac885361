"""The verbs csp-seed and csp-run."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pigen.cli.common import count_lines, resolved, say, show_result
from pigen.cli.options import (
    EXISTING,
    executor_option,
    json_option,
    limit_options,
    output_as,
    relaxation_options,
    setting_options,
    shard_option,
)
from pigen.config.searches import Request, Settings
from pigen.runtime.checked import checked

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.bundle import Bundle
    from pigen.config import RelaxConfig
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard

GENERATED = 20
"""Seeds of a composition that is asked for, unless --each says otherwise."""
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("csp-seed")
@click.argument("sources", nargs=-1, type=EXISTING, metavar="[SRC...]")
@output_as("A new folder.")
@click.option(
    "--composition",
    "formulas",
    multiple=True,
    metavar="FORMULA",
    help=f"Generate the seeds, of this composition, {GENERATED} unless --each says so. Repeatable.",
)
@setting_options(Request, "n", "each", "choice", "seed", "engine", flags={"choice": "--select"})
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
    formulas: tuple[str, ...],
    as_json: bool,
    limits: Limits,
    **options: Any,
) -> None:
    """Write search folders for generated structures: seeded, and by composition alone.

    One composition each, n in all. SRC is anything that `pigen import` reads; --select filtered
    needs the verdicts that `pigen filter` or `pigen run` leave in a bundle. With --composition the
    model generates the seeds, as `pigen predict` does.

    \b
    Examples:
        pigen csp-seed runs/first/survivors.h5 -o csp/filtered
        pigen csp-seed runs/first/samples.h5 --select random -o csp/unfiltered
        pigen csp-seed --composition LiFePO4 --composition SrTiO3 -o csp/asked
    """
    from pigen.bundle import count_rejects
    from pigen.csp.seed import csp_seed as write
    from pigen.runtime.errors import UsageError

    if bool(sources) == bool(formulas):
        raise UsageError("give either structures, SRC..., or --composition FORMULA")
    if formulas:
        given = click.get_current_context().get_parameter_source
        for name, flag in (("n", "--n"), ("choice", "--select")):
            if given(name) is not ParameterSource.DEFAULT:
                raise UsageError(f"{flag} chooses among SRC; with --composition all are taken")
        options |= {"n": len(formulas), "choice": "random"}
        if given("each") is ParameterSource.DEFAULT:
            options["each"] = GENERATED
    search = {field.name: options.pop(field.name) for field in fields(Settings)}
    request = checked(Request, {**options, "settings": search}, "csp-seed")
    if formulas:
        bundle = _generated(formulas, request)
        request = replace(request, model=request.model or "pigen")
    else:
        bundle = _read(sources, limits)
    experiment = write(bundle, request, output, (*map(str, sources), *formulas))
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
    click.echo("\n".join(count_lines(count_rejects(refused))), nl=bool(refused))


def _read(sources: tuple[Path, ...], limits: Limits) -> Bundle:
    from pigen.io.sources import Sources
    from pigen.runtime.executor import Where

    opened = Sources(sources, limits)
    with opened.executor(Where()) as executor:
        return opened.read(executor)


def _generated(formulas: tuple[str, ...], request: Request) -> Bundle:
    """As many structures of each composition as it is to have seeds, as they were sampled."""
    from pigen.run.predict import predict, sampling
    from pigen.runtime.executor import SerialExecutor

    base = sampling(request.each, overrides=[f"seed={request.seed}"])
    with tempfile.TemporaryDirectory() as scratch:
        return predict(
            formulas,
            base,
            Path(scratch),
            top=request.each,
            relaxed=False,
            executor=SerialExecutor(),
            say=say,
        )


@click.command("csp-run")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="DIR...")
@click.option(
    "--only",
    multiple=True,
    metavar="SEARCH",
    help="Only this search or composition, like 001_MgO/seeded or 001_MgO. Repeatable.",
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Wall clock of this run."
)
@shard_option(
    "Do part I of N of the searches, in groups of 4 (16 on CUDA), as one of a job array; nothing "
    "needs to be merged."
)
@relaxation_options()
@executor_option
@json_option
def csp_run(
    folders: tuple[Path, ...],
    only: tuple[str, ...],
    hours: float | None,
    shard: Shard | None,
    settings: RelaxConfig,
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
    from pigen.energy.hull.diagram import hull_energies
    from pigen.runtime.executor import open_executor
    from pigen.runtime.progress import progress_bar

    settings, where = resolved(settings, where)
    kind = settings.device
    with (
        open_executor(where) as executor,
        progress_bar(None, "relaxation") as bar,
    ):
        elsewhere = PotentialElsewhere.of(settings.potential, kind, executor)

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
    said = f"{done.relaxations} relaxations; {done.ended} of {done.searches} searches have ended"
    show_result(as_json, asdict(done), said)
