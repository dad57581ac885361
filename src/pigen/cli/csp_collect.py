"""The verb csp-collect."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of, resolved
from pigen.cli.options import executor_option, output_as, relaxation_options, writing_options
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.config import RelaxConfig
    from pigen.csp.collect import Collected
    from pigen.energy.potential import Potential
    from pigen.runtime.executor import Where

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SHOWN = 10
"""New frameworks listed on the terminal; all are in the bundle."""


@click.command("csp-collect")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="DIR...")
@output_as("Bundle of the minima of one DIR.", required=False)
@click.option(
    "--library",
    "names",
    multiple=True,
    default=("reference", "aflow"),
    show_default=True,
    metavar="aflow|reference|PATH",
    help="Library of known frameworks. Repeatable.",
)
@click.option(
    "--reference", type=_FOLDER, help="Reference of the hull; the shipped one by default."
)
@click.option(
    "--tie",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Energies that differ by no more than this, in meV/atom, are equal.",
)
@click.option(
    "--as-left",
    is_flag=True,
    help="Compare the energies that the searches left, and relax nothing again.",
)
@relaxation_options()
@executor_option
@writing_options
def csp_collect(
    folders: tuple[Path, ...],
    output: Path | None,
    names: tuple[str, ...],
    reference: Path | None,
    tie: float,
    force: bool,
    as_left: bool,
    settings: RelaxConfig,
    where: Where,
    as_json: bool,
) -> None:
    """Read what the searches in each DIR reached: columns a to f, and a bundle of the minima.

    Searches of FUSE and of `pigen csp-run` alike, in whatever state they are. The structures whose
    energies decide a, b and e are first relaxed again, tightly and by one optimiser, which leaves a
    decided.json with each composition. The bundle holds the lowest structure of each search,
    DIR_minima.h5 in this folder unless -o says otherwise; a search that has none is a reject with
    its status.

    \b
    Examples:
        pigen csp-collect csp/filtered -o minima.h5
        pigen csp-collect csp/filtered csp/unfiltered
    """
    from pigen.bundle import write_bundle
    from pigen.csp.collect import collect
    from pigen.descriptors.prototypes.library import library_file, load_library
    from pigen.energy.hull import load_reference
    from pigen.runtime.executor import open_executor
    from pigen.runtime.progress import progress_bar

    settings, _ = resolved(settings, where)
    outputs = _outputs(folders, output, force=force)
    with tempfile.TemporaryDirectory() as scratch:
        known = {name: load_library(library_file(name, Path(scratch))) for name in names}
    with (
        open_executor(where.for_few()) as executor,
        progress_bar(None) as bar,
    ):
        found = collect(
            folders,
            known,
            load_reference(reference),
            None if as_left else partial(_potential, settings, executor),
            executor,
            bar.update,
        )
    for one, path in zip(found, outputs, strict=True):
        write_bundle(
            path, replace(one.minima, provenance=provenance_of("pigen csp-collect", [one.folder]))
        )
        _show(one, path, tie / 1000, names, as_json=as_json)


def _outputs(folders: Sequence[Path], output: Path | None, *, force: bool) -> list[Path]:
    """The bundle of each folder; UsageError if one can't be written, or two are one."""
    if output is not None and len(folders) > 1:
        raise UsageError("-o takes the minima of one DIR; without it each has DIR_minima.h5")
    outputs = [output or Path(f"{folder.resolve().name}_minima.h5") for folder in folders]
    for path in outputs:
        check_output(path, (), force=force)
    if len(set(outputs)) < len(outputs):
        raise UsageError(
            f"{', '.join(map(str, folders))}: two of one name, whose minima would "
            f"be one file; collect them apart, with -o"
        )
    return outputs


def _potential(settings: RelaxConfig, executor: Executor) -> Potential:
    from pigen.energy.elsewhere import PotentialElsewhere

    return PotentialElsewhere.of(settings.potential, settings.device, executor)


def _show(one: Collected, path: Path, tie: float, names: tuple[str, ...], *, as_json: bool) -> None:
    from pigen.csp.minima import novelty
    from pigen.paper.ed3 import Row, describe

    row, new = Row.of(one.experiment, one.outcomes, tie), novelty(one.minima)
    if as_json:
        said = {
            "folder": str(one.folder),
            "minima": new.minima,
            "no_prototype": [name for name, _ in new.new],
            "implausible": list(new.implausible),
            "output": str(path),
        }
        click.echo(json.dumps({**row.to_json(), **said}, ensure_ascii=False))
        return
    click.echo("\n".join(describe(row)))
    which = f"lowest structures with no prototype of {' or '.join(names)}"
    click.echo(f"{which}: {len(new.new)} of {new.minima}")
    for name, height in new.new[:_SHOWN]:
        click.echo(f"  {name:<44} E_hull {1000 * height:6.0f} meV/atom")
    if new.implausible:
        click.echo(f"holes of the potential, no crystals: {', '.join(new.implausible)}")
    click.echo(f"{path}: {len(one.minima)} minima, {len(one.minima.rejects)} searches without one")
