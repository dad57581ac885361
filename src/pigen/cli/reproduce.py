"""The verb reproduce: every table and figure of the paper."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import readable, say
from pigen.cli.options import executor_option, folder_as
from pigen.paper.reproduce.scales import SCALES

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.runtime.executor import Where

_FILE = click.Path(exists=True, path_type=Path)


@click.command()
@click.option(
    "--scale",
    type=click.Choice(list(SCALES)),
    default="laptop",
    show_default=True,
    help="smoke: minutes; laptop: below 90 minutes on two cores; paper: its numbers, for GPUs.",
)
@folder_as("Folder; reproduce/SCALE by default. What is finished there is kept.")
@click.option(
    "--mattergen", type=_FILE, metavar="FILE", help="Structures of MatterGen, for its row."
)
@click.option(
    "--mattergen-mled-c",
    type=_FILE,
    metavar="FILE",
    help="Structures of MatterGen fine-tuned for M_LED and C.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="NAME=FILE",
    help="Your own checkpoint for an experiment, e.g. diffcsp=FILE; else the shipped one.",
)
@executor_option
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def reproduce(
    scale: str,
    out: Path | None,
    mattergen: Path | None,
    mattergen_mled_c: Path | None,
    checkpoints: tuple[str, ...],
    where: Where,
    as_json: bool,
) -> None:
    """Make every table and figure of the paper, published figures beside measured ones.

    All rows are sampled, filtered, relaxed and searched, as far as their models are here; tables
    are written as Markdown, CSV and JSON, figures as PNG and CSV. The same command goes on where
    it was stopped, and does only what has changed.

    \b
    Examples:
        pigen reproduce --scale smoke
        pigen reproduce --scale laptop --mattergen generated_crystals_cif.zip
    """
    from pigen.paper.reproduce.pipeline import reproduce as work

    structures = {"mattergen": mattergen, "mattergen_mled_c": mattergen_mled_c}
    done = work(
        SCALES[scale],
        out or Path("reproduce") / scale,
        given={name: path for name, path in structures.items() if path is not None},
        checkpoints=_by_name(checkpoints),
        where=where,
        say=say,
    )
    if as_json:
        click.echo(json.dumps(asdict(done), default=str))
        return
    click.echo(readable((done.out / "summary.md").read_text(encoding="utf-8")))
    click.echo(f"\n{done.out / 'tables'} and {done.out / 'figures'} hold the tables and figures.")


def _by_name(checkpoints: tuple[str, ...]) -> dict[str, Path]:
    from pigen.runtime.errors import UsageError

    found = {}
    for text in checkpoints:
        name, equals, file = text.partition("=")
        if not (equals and Path(file).is_file()):
            raise UsageError(f"--checkpoint {text}: expected NAME=FILE, a file that is there")
        found[name] = Path(file)
    return found
