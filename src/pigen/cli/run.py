"""Verbs around whole experiments: run, table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import readable, say
from pigen.cli.options import executor_option, experiment_options, folder_as

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.paper.cells import Table
    from pigen.runtime.executor import Where


@click.command()
@experiment_options
@folder_as("Run folder; runs/NAME of the experiment by default.")
@click.option("--resume", is_flag=True, help="Go on with the run that the folder holds.")
@executor_option
@click.option("--force", is_flag=True, help="Start over, replacing the run in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def run(
    experiment: str,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: bool,
    force: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Run an experiment end to end and print its row of the paper's tables.

    EXPERIMENT is a TOML file or the name of a shipped experiment. A model is trained unless the
    experiment names a checkpoint; then crystals are sampled, filtered and counted. The run folder
    keeps the resolved experiment, all bundles, table.json and table.md.

    \b
    Examples:
        pigen run pigen_mled_c --set sample.n=200 --out runs/first
        pigen run mine.toml --set 'data.train=["train.h5"]' --out runs/mine
    """
    from pigen.config import load_experiment
    from pigen.io.sources import FEW
    from pigen.paper.tables import published_files, render
    from pigen.run.experiment import run as run_experiment
    from pigen.run.folder import kept
    from pigen.runtime.errors import UsageError
    from pigen.runtime.executor import open_executor

    if resume and force:
        raise UsageError("--resume goes on with a run and --force starts over; give one of them")
    loaded = load_experiment(experiment, overrides)
    out = out or Path("runs") / loaded.name
    few = (loaded.n_structures or FEW + 1) <= FEW
    with open_executor(where.for_few() if few else where) as executor:
        table = run_experiment(
            loaded,
            out,
            resume=resume,
            force=force,
            executor=executor,
            say=say,
            files=published_files,
        )
    if as_json:
        click.echo(published_files(table)["table.json"], nl=False)
    else:
        click.echo(readable(render(table)))
    click.echo(f"{out} holds {', '.join(kept(out))}; `pigen report {out}` shows it", err=True)


@click.command()
@click.argument("which", type=click.Choice(["1", "ed1", "ed2", "ed3"]), metavar="TABLE")
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "csv"]),
    default="md",
    show_default=True,
    help="Markdown, or a line for each cell.",
)
@click.option(
    "--explain", is_flag=True, help="Say instead which bundle and query each figure comes from."
)
@click.option(
    "--csp",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of csp-seed, for column G of ed2.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object for each cell as JSON.")
def table(
    which: str,
    runs: tuple[Path, ...],
    form: str,
    as_json: bool,
    explain: bool,
    csp: tuple[Path, ...],
) -> None:
    """Join finished runs in a table of the paper, published rows beside measured ones.

    TABLE is 1 (column D: all filters in sequence; E, F: energies), ed1 (each criterion on its own),
    ed2 (as 1, with structure prediction) or ed3 (structure prediction; RUNS are folders of
    csp-seed).

    \b
    Examples:
        pigen table ed1 runs/pigen_c runs/pigen_mled_c
        pigen table 1 runs/pigen_c --explain
    """
    from pigen.runtime.errors import UsageError

    if csp and which != "ed2":
        raise UsageError("--csp is for the table ed2")
    as_text = form == "md" and not (explain or as_json)
    if which == "ed3":
        found, text = _searched(runs, as_text)
    else:
        found, text = _joined(which, runs, csp, as_text)
    if as_text:
        click.echo(readable(text))
    elif explain:
        click.echo(found.explain(), nl=False)
    else:
        click.echo(found.to_json() if as_json else found.to_csv(), nl=False)


def _searched(folders: tuple[Path, ...], as_text: bool) -> tuple[Table, str]:
    """The table of searches, and its Markdown if that is asked for."""
    from pigen.paper import ed3

    rows = ed3.read_rows(folders)
    text = "\n".join([ed3.render(rows), ed3.new_frameworks(rows)]) if as_text else ""
    return ed3.table_of(rows), text


def _joined(
    which: str, folders: tuple[Path, ...], csp: tuple[Path, ...], as_text: bool
) -> tuple[Table, str]:
    """A table of runs, and its Markdown, which needs no head, if that is asked for."""
    from pigen.paper.ed3 import optima_of, read_rows
    from pigen.paper.tables import join, joined
    from pigen.run.table import RunTable

    runs = {folder: RunTable.read(folder) for folder in folders}
    optima = optima_of(read_rows(csp), runs.values()) if csp else {}
    found = joined(which, runs, optima=optima, head={} if as_text else None)
    return found, join(found, runs.values()) if as_text else ""
