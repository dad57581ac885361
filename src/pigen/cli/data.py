"""Verbs that move structures in and out of bundles: import, export, show."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import check_output, count_lines, heading, provenance_of, show_result
from pigen.cli.options import (
    EXISTING,
    LIMITS,
    executor_option,
    output_as,
    output_option,
    setting_options,
    sources_argument,
    writing_options,
)
from pigen.config.files import EXPORT_FORMATS, Limits
from pigen.runtime.errors import PigenError, UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.bundle.summary import ColumnSummary, Summary
    from pigen.runtime.executor import Where

_WORTH_WORKERS = 20_000
"""Entries below which starting worker processes takes longer than they save."""


@click.command("import")
@sources_argument
@output_option
@executor_option
@setting_options(Limits, *LIMITS, "ignore_hydrogen", into="limits")
@writing_options
def import_(
    sources: tuple[Path, ...],
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Read structure files into a bundle.

    SRC is a CIF, a folder, zip or tar of structure files, a CSV or parquet with structures (its
    other columns are kept), extxyz, POSCAR, JSON as pymatgen and the databases write it, ASE's .db
    or .traj, or another bundle. Each entry becomes a crystal or a counted reject with its reason:
    kept + rejected = read.

    \b
    Example:
        pigen import train.csv.gz more_cifs/ -o data.h5
    """
    from pigen.bundle import iter_bundle
    from pigen.io import CHUNK_SIZE, NOTE
    from pigen.io.sources import ImportStage, Sources

    check_output(output, sources, force=force)
    provenance = provenance_of("pigen import", sources)
    if limits.ignore_hydrogen:
        provenance["hydrogen"] = "ignored where it has no coordinates (--ignore-hydrogen)"
    started = time.monotonic()
    opened, stage = Sources(sources, limits, chunk_size=CHUNK_SIZE), ImportStage()
    with opened.executor(where, few=_WORTH_WORKERS - 1) as executor:
        written = opened.through(stage, executor, output, provenance)
    kept, rejected, reasons = written.crystals, written.rejects, stage.counts["reasons"]
    noted = stage.counts["remarks"].total()
    counts = {
        "read": written.entries,
        "kept": kept,
        "rejected": rejected,
        "reasons": dict(reasons.most_common()),
        "noted": noted,
        "seconds": round(time.monotonic() - started, 2),
        "output": str(output),
    }
    said = f"{output}: read {kept + rejected}, kept {kept}, rejected {rejected}"
    remark = f"{noted} with a remark on how they were read, in the column {NOTE}"
    show_result(as_json, counts, said, *count_lines(reasons), *([remark] if noted else []))
    if rejected and not kept:
        first = next(reject.reason for chunk in iter_bundle(output) for reject in chunk.rejects)
        raise PigenError(f"no entry became a crystal; the first was refused: {first}")


@click.command()
@click.argument("bundle", type=EXISTING)
@click.option(
    "--format",
    "form",
    type=click.Choice(EXPORT_FORMATS),
    help="cif and poscar: a file for each crystal; extxyz and csv: one for all, with the columns.",
)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["lemat-genbench"]),
    help="The files that a benchmark takes: the first 2,500 crystals, as CIFs.",
)
@output_as("A folder, or a .zip, for cif and poscar; else a file.")
@click.option(
    "--symmetry",
    is_flag=True,
    help="In CIFs, the space group's operations and one atom of each orbit.",
)
@click.option(
    "--symprec",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    default=0.01,
    show_default=True,
    help="Tolerance of --symmetry, Å.",
)
@writing_options
def export(
    bundle: Path,
    form: str | None,
    purpose: str | None,
    output: Path,
    symmetry: bool,
    symprec: float,
    force: bool,
    as_json: bool,
) -> None:
    """Write a bundle as CIF, extxyz, CSV or POSCAR.

    \b
    Examples:
        pigen export survivors.h5 --format cif -o survivors.zip
        pigen export survivors.h5 --format cif --symmetry -o cifs
        pigen export generated.h5 --for lemat-genbench -o submission
    """
    from pigen.bundle import bundle_info
    from pigen.bundle.stage import with_bar
    from pigen.io.export import GENBENCH, export_bundle

    if (form is None) == (purpose is None) and form != "cif":
        raise UsageError("give --format, or --for with a benchmark")
    most = GENBENCH if purpose else None
    n_all = bundle_info(bundle).n_crystals
    n = export_bundle(
        bundle,
        output,
        form or "cif",
        force=force,
        symprec=symprec if symmetry else None,
        most=most,
        progress=partial(with_bar, total=min(n_all, most or n_all), unit="crystal"),
    )
    lines = [f"{output}: {n} crystals"]
    if most and n < most:
        lines.append(f"{most - n} fewer than the {most:,} of a submission to LeMat-GenBench")
    if most and n < n_all:
        lines.append(f"the first {n:,} of {n_all:,} crystals")
    show_result(as_json, {"crystals": n, "output": str(output)}, *lines)


@click.command()
@click.argument("bundle", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show(bundle: Path, as_json: bool) -> None:
    """Summarise a bundle: counts, columns with their ranges, verdicts, rejects, provenance.

    \b
    Example:
        pigen show survivors.h5
    """
    from pigen.bundle import bundle_info
    from pigen.bundle.stage import with_bar
    from pigen.bundle.summary import summarise

    total = bundle_info(bundle).n_crystals
    summary = summarise(bundle, partial(with_bar, total=total, unit="crystal"))
    if as_json:
        click.echo(json.dumps(_as_json(summary), allow_nan=False))
    else:
        click.echo("\n".join(map(_harmless, _as_text(bundle, summary))))


def _harmless(line: str) -> str:
    """A line in which a stranger's names and texts are no commands of the terminal's."""
    from pigen.runtime.files import clean_text

    ours = heading(clean_text(click.unstyle(line)))
    return line if line == ours else clean_text(line)


def _as_json(summary: Summary) -> dict[str, Any]:
    from pigen.crystal.elements import SYMBOLS

    info = summary.info
    return {
        "crystals": info.n_crystals,
        "atoms": info.n_atoms,
        "rejected": info.n_rejects,
        "complete": info.complete,
        "atoms_per_crystal": list(summary.atoms),
        "elements": {SYMBOLS[z]: n for z, n in summary.elements.items()},
        "columns": {name: _column_json(column) for name, column in summary.columns.items()},
        "verdicts": {
            name: {"criterion": criterion.text, "passed": summary.passed[name]}
            for name, criterion in info.verdicts.items()
        },
        "targets": {name: one.to_json() for name, one in summary.targets.items()},
        "rejects": dict(summary.rejects),
        "provenance": dict(info.provenance),
    }


def _column_json(column: ColumnSummary) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": column.kind,
        "unit": column.unit,
        "source": column.source,
        "per_atom": column.per_atom,
        "n": column.n,
        "missing": column.n_missing,
    }
    if column.kind == "str":
        return {**said, "distinct": column.distinct}
    present = column.n > column.n_missing
    values = (column.low, column.mean, column.high) if present else (None, None, None)
    # JSON knows no infinity.
    finite = [v if v is not None and abs(v) < float("inf") else None for v in values]
    return {**said, **dict(zip(("min", "mean", "max"), finite, strict=True))}


def _as_text(path: Path, summary: Summary) -> Iterator[str]:
    info = summary.info
    fewest, most = summary.atoms
    yield (
        f"{path}: {info.n_crystals} crystals of {fewest} to {most} atoms, "
        f"{len(summary.elements)} elements; {info.n_rejects} rejected"
    )
    if not info.complete:
        yield "incomplete: its writer has not finished, or was stopped"
    wide = max(map(len, (*summary.columns, *info.verdicts, "column ")))
    if summary.columns:
        yield ""
        ends = f"{'min':>11} {'mean':>11} {'max':>11} {'missing':>7}"
        yield heading(f"{'column':<{wide}} {'unit':<9} {ends}")
    for name, column in summary.columns.items():
        yield f"{name:<{wide}} {column.unit:<9} {_range(column)} {column.n_missing:>7}"
    if info.verdicts:
        yield ""
        yield heading(f"{'verdict':<{wide}} {'passed':>19}   criterion")
    for name, criterion in info.verdicts.items():
        share = f"{summary.passed[name]} / {info.n_crystals}"
        yield f"{name:<{wide}} {share:>19}   {criterion.text}"
    if summary.targets:
        yield ""
        yield heading("target")
    for name, comparison in summary.targets.items():
        yield from textwrap.wrap(f"{name}: {comparison}", 80, subsequent_indent="    ")
    if summary.rejects:
        yield ""
        yield heading("rejected")
    for reason, n in summary.rejects.items():
        yield f"{n:7d}  {reason}"
    if info.provenance:
        yield ""
        yield heading("provenance")
    for key, value in info.provenance.items():
        lines = value.splitlines() or [""]
        more = f" … ({len(lines)} lines)" if len(lines) > 1 else ""
        # A path or a hash stays whole.
        said = f"  {key}: {lines[0][:200]}{more}"
        yield from textwrap.wrap(
            said, 80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )


def _range(column: ColumnSummary) -> str:
    if column.kind == "str":
        n = "many" if column.distinct is None else str(column.distinct)
        return f"{n + ' distinct texts':>35}"
    if column.n == column.n_missing:
        return f"{'no values':>35}"
    return " ".join(f"{value:>11.5g}" for value in (column.low, column.mean, column.high))
