"""Verbs that go through reference structures: label, spp-fit, known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import (
    check_output,
    count_lines,
    origin_of,
    output_of,
    provenance_of,
    settings_of,
    show_result,
)
from pigen.cli.options import (
    EXISTING,
    descriptor_options,
    output_as,
    output_option,
    reading_options,
    sources_argument,
    stage_options,
    writing_options,
)
from pigen.runtime.errors import PigenError, UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config.files import Limits
    from pigen.crystal.crystals import Crystals
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard


@click.command()
@sources_argument
@output_option
@click.option(
    "--columns",
    metavar="NAMES",
    help="Descriptors to compute, separated by commas; by default c,mled,k and your own.",
)
@click.option(
    "--values",
    type=EXISTING,
    help="CSV with a column id and columns of numbers, which are joined to the structures.",
)
@stage_options
@descriptor_options
@writing_options
def label(
    sources: tuple[Path, ...],
    output: Path,
    columns: str | None,
    values: Path | None,
    resume: bool,
    shard: Shard | None,
    where: Where,
    force: bool,
    as_json: bool,
    assignments: tuple[str, ...],
    own: tuple[Path, ...],
    limits: Limits,
) -> None:
    """Compute descriptor columns for structures, such as a training set.

    SRC is anything that `pigen import` reads; its columns are kept. An energy above hull (column
    e_hull, e_above_hull or energy_above_hull, eV/atom) becomes the label e_hull. What has no value
    stays, with the value missing, and is counted. A model can be trained on any column of numbers.

    \b
    Examples:
        pigen label train.csv.gz extra.csv.gz -o data.h5
        pigen label cifs/ --values mine.csv --descriptors density.py -o data.h5
    """
    from pigen.descriptors import column_specs
    from pigen.io.sources import Sources
    from pigen.io.values import read_values
    from pigen.screening.label import LabelStage

    output = output_of(output, shard)
    check_output(output, sources, force=force, resume=resume)
    names = _names(columns, own)
    table = read_values(values) if values else None
    settings = settings_of(assignments)
    provenance = provenance_of("pigen label", sources, limits=limits, shard=shard)
    if table is not None:
        table.check_apart(column_specs(names))
    opened, stage = Sources(sources, limits, shard=shard), LabelStage(names, settings, table)
    with opened.executor(where) as executor:
        written = opened.through(stage, executor, output, provenance, resume=resume)
    counts = {
        **written.counts("labelled"),
        "missing": dict(stage.counts.most_common()),
        "output": str(output),
    }
    if table is not None:
        joined = written.crystals - stage.counts[table.no_row]
        counts["values"] = {"rows": len(table.row), "joined": joined, "left_out": table.left_out}
    read = f"read {written.entries}, labelled {written.crystals}, rejected {written.rejects}"
    of_table = () if table is None else table.lines(joined)
    show_result(as_json, counts, f"{output}: {read}", *count_lines(stage.counts), *of_table)


def _names(columns: str | None, own: Sequence[Path]) -> tuple[str, ...]:
    """The descriptors that ``--columns`` asks for, or the usual ones and those of the user's."""
    from pigen.descriptors import load_descriptors
    from pigen.screening.label import DEFAULT_LABELS

    of_files = load_descriptors(own)
    asked = (*DEFAULT_LABELS, *of_files) if columns is None else columns.split(",")
    return tuple(dict.fromkeys(name.strip() for name in asked if name.strip()))


@click.command("spp-fit")
@sources_argument
@output_as("Table, .npz.")
@reading_options
@writing_options
def spp_fit(
    sources: tuple[Path, ...],
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Fit a table of statistical pair potentials to reference structures.

    95 % of the reference then score below 0.362. Use the table with `pigen filter --spp-table`.

    \b
    Example:
        pigen spp-fit data.h5 -o table.npz
    """
    from pigen.descriptors.spp import fit_spp

    check_output(output, sources, force=force)
    with _crystals(sources, where, limits) as batches:
        n = fit_spp(batches, output, origin_of(sources))
    said = f"{output}: potentials fitted to {n} structures"
    show_result(as_json, {"structures": n, "output": str(output)}, said)


@click.command()
@sources_argument
@output_as("List, .txt.gz.")
@click.option("--note", default="", help="First lines of the list, such as a credit.")
@reading_options
@writing_options
def known(
    sources: tuple[Path, ...],
    output: Path,
    note: str,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """List the reduced formulas of structures, for `pigen filter --known`.

    SRC may be a list of formulas (.txt, .txt.gz) too.

    \b
    Example:
        pigen known train.csv.gz extra.csv.gz -o known.txt.gz
    """
    from pigen.descriptors.novelty import read_formulas, write_formulas
    from pigen.screening.criteria import lists_formulas

    check_output(output, sources, force=force)
    if not output.name.endswith(".txt.gz"):
        raise UsageError(f"{output}: the name must end in .txt.gz")
    lists = [source for source in sources if lists_formulas(source)]
    formulas = {formula for source in lists for formula in read_formulas(source)}
    structures = [source for source in sources if source not in lists]
    if structures:
        with _crystals(structures, where, limits) as batches:
            formulas |= {formula for batch in batches for formula in batch.reduced_formulas()}
    if not formulas:
        raise PigenError("no structure could be read")
    said = "\n".join(f"{key}: {value}" for key, value in origin_of(sources).items())
    n = write_formulas(output, formulas, "\n".join(filter(None, (note, "reduced formulas", said))))
    show_result(as_json, {"formulas": n, "output": str(output)}, f"{output}: {n} formulas")


@contextmanager
def _crystals(paths: Sequence[Path], where: Where, limits: Limits) -> Iterator[Iterator[Crystals]]:
    """The crystals of sources in batches, parsed by workers, with a progress bar."""
    from pigen.io.sources import Sources

    sources = Sources(paths, limits)
    with sources.executor(where) as executor:
        yield (chunk.crystals for chunk in sources.watched(executor))
