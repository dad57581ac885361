"""The verb report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, show_result, stem_of
from pigen.cli.options import EXISTING, output_as, reading_options, writing_options

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where


@click.command()
@click.argument("source", type=EXISTING, metavar="RUN|SRC")
@output_as("The page.", required=False)
@click.option(
    "--survivors",
    "most",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Most structures to list, with their coordinates.",
)
@reading_options
@writing_options
def report(
    source: Path,
    output: Path | None,
    most: int,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Write a report to look at: one HTML page that needs no network and nothing beside it.

    It shows the filters in sequence, the best with their pictures, the survivors as a list to sort
    and filter, each with its CIF and, with pigen[report], a view in 3-D, the rates beside the
    published ones, why structures were rejected, and distributions with the filters' windows. RUN
    is the folder of a finished `pigen run`; SRC is anything that `pigen import` reads. Verdicts
    that a bundle carries count; without any, the paper's criteria are applied, as `pigen filter`
    does. The page goes to SRC_report.html in this folder unless -o says otherwise.

    \b
    Examples:
        pigen report runs/pigen_mled_c
        pigen report candidates.csv -o candidates.html
    """
    from h5py import is_hdf5

    from pigen.bundle import Bundle, KeepingAll, bundle_info
    from pigen.io.sources import Sources
    from pigen.report import prepare, report_of_chunks, report_of_run, to_html
    from pigen.report.viewer import MISSING, viewer_script
    from pigen.run.folder import RunFolder
    from pigen.runtime.executor import map_ordered
    from pigen.runtime.files import write_atomically

    output = output or Path(f"{stem_of(source)}_report.html")
    check_output(output, [source], force=force)
    if RunFolder(source).experiment.is_file():
        made = report_of_run(source, most)
    else:
        opened = Sources([source], limits)
        is_bundle = source.is_file() and is_hdf5(source)
        with opened.executor(where) as executor:
            task = KeepingAll(prepare, Bundle.concatenate)
            judged = map_ordered(executor, task, opened.watched(executor))
            complete = not is_bundle or bundle_info(source).complete
            made = report_of_chunks(judged, source.name, most, complete=complete)
    write_atomically(output, to_html(made))
    listed = len(made.listing.rows)
    counts = {"read": made.read, "kept": made.kept, "listed": listed, "output": str(output)}
    said = f"{output}: {made.read} structures, {made.kept} passed, {listed} listed"
    show_result(as_json, counts, said)
    if not as_json and not viewer_script():
        click.echo(MISSING, err=True)
