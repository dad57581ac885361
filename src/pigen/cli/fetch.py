"""The verb data: public data sets."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pigen.cli.common import show_result


@click.group()
def data() -> None:
    """Public data sets to train on.

    \b
    Example:
        pigen data fetch mp-20
    """


@data.command(short_help="Download a data set, as tables that other verbs read.")
@click.argument("name", type=click.Choice(["alex-mp-20", "mp-20"]), metavar="alex-mp-20|mp-20")
@click.option(
    "-o",
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder; that of the name by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
def fetch(name: str, folder: Path | None, as_json: bool) -> None:
    """Download a data set, as tables that `pigen label` and `pigen import` read.

    What comes is checked by its sha256. An interrupted download goes on where it was when the
    command is given again. On a machine without internet, put the archive that the message names
    into the folder: it is checked and unpacked all the same.

    \b
    Examples:
        pigen data fetch alex-mp-20
        pigen label alex-mp-20/train.csv -o train.h5
    """
    from tqdm import tqdm

    from pigen.io.fetch import DATASETS
    from pigen.io.fetch import fetch as download

    dataset = DATASETS[name]
    with tqdm(
        total=dataset.size,
        desc=name,
        unit="B",
        unit_scale=True,
        delay=1.0,
        disable=not sys.stderr.isatty(),
    ) as bar:
        tables = download(dataset, folder or Path(name), lambda done: bar.update(done - bar.n))
    paths = [str(table) for table in tables]
    said = {"name": name, "tables": paths, "url": dataset.url, "sha256": dataset.sha256}
    counts = {**said, "licence": dataset.licence}
    show_result(as_json, counts, *paths, f"{dataset.what}; {dataset.licence}; cite {dataset.cite}")
