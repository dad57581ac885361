"""The verb init."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def init(folder: Path) -> None:
    """Make a folder with a commented experiment, which runs as it is.

    DIR/experiment.toml has every setting with its meaning and its default. It samples from the
    shipped model; what to change for a model of your own stands in it. A file that is there is
    never overwritten.

    \b
    Example:
        pigen init mine
        pigen run mine/experiment.toml --out mine/run
    """
    from pigen.config.starter import starter
    from pigen.runtime.errors import UsageError

    path = folder / "experiment.toml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(starter(folder.resolve().name or "experiment"))
    except FileExistsError:
        raise UsageError(
            f"{path} exists and is left as it is; run it with `pigen run`, or choose another folder"
        ) from None
    click.echo(f"{path}: an experiment to change and run; next:")
    click.echo(f"  pigen run {shlex.quote(str(path))} --out {shlex.quote(str(folder / 'run'))}")
