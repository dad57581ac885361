"""The verb hull: references of compounds, and energies above them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.calibrate import calibrate
from pigen.cli.common import (
    check_output,
    count_lines,
    origin_of,
    provenance_of,
    readable,
    resolved,
    show_result,
)
from pigen.cli.options import (
    EXISTING,
    json_option,
    limit_options,
    output_option,
    reading_options,
    relaxation_options,
    resume_option,
    setting_options,
    sources_argument,
    writing_options,
)
from pigen.config import RelaxConfig
from pigen.config.files import Limits
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from collections.abc import Sequence

    from pigen.energy.hull.fitted import Added
    from pigen.energy.hull.reference import Entry, Reference
    from pigen.runtime.executor import Where

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_more_option = click.option(
    "--add",
    "more",
    type=_FILE,
    metavar="FILE2",
    help="Compounds with energies of another level of theory, which are added as by `pigen hull "
    "add FILE2`.",
)


@click.group()
def hull() -> None:
    """Reference compounds and energies above their hull.

    \b
    Example:
        pigen hull build train.csv.gz -o ref
    """


@hull.command(short_help="Make a reference of structures: relax them all.")
@sources_argument
@click.option("-o", "--out", "output", required=True, type=_FOLDER, help="Folder of the reference.")
@click.option(
    "--origin", help="What SRC is a part of, to stand beside every figure; its names by default."
)
@click.option(
    "--substitute",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Add as many as N structures of formulas that SRC lacks, made of its stable binaries by "
    "replacing an element by a similar one, likeliest first.",
)
@_more_option
@relaxation_options()
@resume_option
@reading_options
@click.option("--force", is_flag=True, help="Replace what an earlier run left in the folder.")
@json_option
def build(
    sources: tuple[Path, ...],
    output: Path,
    origin: str | None,
    substitute: int,
    more: Path | None,
    settings: RelaxConfig,
    resume: bool,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Make a reference of structures: all are relaxed, and crystals of the elements with them.

    With --substitute, formulas that SRC lacks are guessed: the ids of such entries begin with
    "substituted-" and name parent and elements, as in substituted-mp-1105223-Zr-Hf.

    SRC is anything that `pigen import` reads. The folder keeps the relaxed structures as they are
    done, so --resume goes on after a kill.

    \b
    Examples:
        pigen hull build train.csv.gz --origin "the Materials Project" -o ref
        pigen hull build mine.csv --add my_dft.csv -o ref
    """
    from pigen.energy.hull.build import make_reference, relax_all
    from pigen.energy.hull.imports import import_reference
    from pigen.energy.stage import CHUNK, level_of, source_of
    from pigen.io.sources import Sources
    from pigen.runtime.files import check_writable

    if output.exists() and any(output.iterdir()) and not (resume or force):
        raise UsageError(f"{output} is not empty; --resume goes on, --force starts over")
    check_writable(output)
    others = import_reference(more).entries if more else ()
    settings, where = resolved(settings, where)
    opened = Sources(sources, limits, chunk_size=CHUNK[settings.device])
    output.mkdir(parents=True, exist_ok=True)
    with opened.executor(where, few=CHUNK[settings.device] - substitute) as executor:
        source, level = source_of(settings, executor), level_of(settings, executor)
        provenance = {**provenance_of("pigen hull build", sources), "relaxed_by": source}
        relaxed = relax_all(
            opened.chunks(executor),
            output,
            settings,
            executor,
            provenance,
            substitute=substitute,
            resume=resume,
            total=opened.total,
        )
    made = {"made_by": "pigen hull build", **origin_of(sources), "relaxed_by": source}
    if substitute:
        made["substitutes"] = f"{substitute} at most"
    origin = origin or ", ".join(source.name for source in sources)
    reference, failed = make_reference(relaxed, output, level, origin, made)
    if more:
        reference = _extend(output, reference, others, more.name)
    _show(reference, output, as_json, failed)


def _extend(folder: Path, reference: Reference, others: Sequence[Entry], name: str) -> Reference:
    """A folder's reference with the compounds that it lacks; its note says the fit's error."""
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.build import copy_phases
    from pigen.energy.hull.fitted import add_fitted

    extended = add_fitted(reference, others, name).reference
    extended.write(folder)
    copy_phases(load_reference(folder), extended, folder)
    return extended


def _show(
    reference: Reference, output: Path, as_json: bool, failed: Counter[str] | None = None
) -> None:
    """Print what a reference holds, and of structures that were relaxed why some failed."""
    without = {} if failed is None else {"without_energy": dict(failed.most_common())}
    own = {"digest": reference.digest, "output": str(output)}
    counts = {"entries": len(reference.entries), **without, **own}
    show_result(
        as_json, counts, readable(f"{output}: {reference.note}"), *count_lines(failed or {})
    )


@hull.command("import")
@click.argument("file", type=_FILE)
@click.option("-o", "--out", "output", required=True, type=_FOLDER, help="Folder of the reference.")
@click.option(
    "--level",
    default="",
    help="Level of theory as the source of e_relaxed names it, e.g. 'chgnet 0.3.0'; energies of "
    "another are then refused.",
)
@click.option(
    "--elements",
    type=_FILE,
    metavar="CSV",
    help="Energies of the elements (element, energy_per_atom) that those in FILE count from; FILE "
    "holds formation energies then.",
)
@click.option(
    "--origin", help="What FILE holds, to stand beside every figure; its name by default."
)
@_more_option
@setting_options(Limits, "max_file_bytes", into="limits")
@click.option("--force", is_flag=True, help="Replace an existing reference.")
@json_option
def import_(
    file: Path,
    output: Path,
    level: str,
    elements: Path | None,
    origin: str | None,
    more: Path | None,
    limits: Limits,
    force: bool,
    as_json: bool,
) -> None:
    """Make a reference of energies you have.

    FILE is a CSV with the columns formula and energy (eV/atom), perhaps id, or JSON as pymatgen and
    the databases write it; either may be gzipped. Or structures in parquet, extxyz, an archive or a
    bundle, with a column energy (eV per cell) or energy_per_atom.

    \b
    Examples:
        pigen hull import my_phases.csv -o ref
        pigen hull import formation.csv --elements elements.csv -o ref
    """
    from pigen.energy.hull.imports import import_reference
    from pigen.energy.hull.reference import META
    from pigen.runtime.files import check_writable

    if output.exists() and any(output.iterdir()) and not (force and (output / META).exists()):
        raise UsageError(
            f"{output} is not empty" + ("" if force else "; --force replaces a reference")
        )
    check_writable(output)
    reference = import_reference(
        file, level, limits.max_file_bytes, elements=elements, origin=origin or ""
    )
    others = import_reference(more).entries if more else ()
    output.parent.mkdir(parents=True, exist_ok=True)
    reference.write(output)
    if more:
        reference = _extend(output, reference, others, more.name)
    _show(reference, output, as_json)


@hull.command(short_help="Add compounds with energies of another level of theory.")
@click.argument("file", type=_FILE)
@click.option(
    "--to", "reference", type=EXISTING, help="Folder of the reference; the shipped one by default."
)
@click.option(
    "--second",
    type=_FILE,
    help="Further energies of the same compounds, which the correction takes into account.",
)
@click.option(
    "--published",
    type=EXISTING,
    multiple=True,
    metavar="SRC",
    help="Structures of the reference with a column e_above_hull (eV/atom), at FILE's level. A "
    "compound of which all are metastable takes the lower of its energy and FILE's. Repeatable.",
)
@click.option(
    "--origin", help="What FILE holds, to stand beside every figure; its name by default."
)
@click.option("-o", "--out", "output", required=True, type=_FOLDER, help="Folder, to be made.")
@json_option
def add(
    file: Path,
    reference: Path | None,
    second: Path | None,
    published: tuple[Path, ...],
    origin: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Add the compounds of FILE that a reference lacks, brought to its level of theory.

    FILE is what `pigen hull import` reads; total or formation energies, the elements among them.
    The correction is fitted to the compounds that both have, and cross-validated. Own results of
    DFT extend the shipped hull so.

    \b
    Examples:
        pigen hull add my_dft.csv -o whole
        pigen hull add mp_stable.csv.gz --to ref --second mp_2018.csv.gz -o whole
    """
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.build import copy_phases
    from pigen.energy.hull.fitted import add_fitted
    from pigen.energy.hull.imports import import_reference, published_energies
    from pigen.runtime.files import check_writable

    if output.exists():
        raise UsageError(f"{output} exists; name another folder, or remove it")
    check_writable(output)
    others = import_reference(file).entries
    further = import_reference(second).entries if second else ()
    above = published_energies(published)
    added = add_fitted(load_reference(reference), others, origin or file.name, further, above)
    output.parent.mkdir(parents=True, exist_ok=True)
    added.reference.write(output)
    copy_phases(load_reference(reference), added.reference, output)
    note = readable(f"{output}: {added.reference.note}")
    lines = (*_quality_lines(added, bool(published)), *count_lines(added.left_out), note)
    show_result(as_json, {**_counts_of(added), "output": str(output)}, *lines)


def _counts_of(added: Added) -> dict[str, Any]:
    quality = added.quality
    return {
        "entries": len(added.reference.entries),
        "added": added.n_added,
        "lower_than_metastable": added.n_lower,
        "left_out": dict(added.left_out.most_common()),
        "shared": quality.shared,
        "error_cross_validated": {
            name: round(getattr(quality, name), 4) for name in ("median", "mean", "bias")
        },
        "error_without_fit": {
            "median": round(quality.raw_median, 4),
            "mean": round(quality.raw_mean, 4),
        },
        "digest": added.reference.digest,
    }


def _quality_lines(added: Added, with_published: bool) -> Iterator[str]:
    quality = added.quality
    yield (
        f"fitted to {quality.shared} compounds; cross-validated error (meV/atom): median "
        f"{1000 * quality.median:.1f}, mean {1000 * quality.mean:.1f}, bias "
        f"{1000 * quality.bias:+.1f}; without the fit {1000 * quality.raw_median:.1f} and "
        f"{1000 * quality.raw_mean:.1f}"
    )
    if with_published:
        yield f"{added.n_lower} compounds whose own forms are metastable take the fitted energy"


@hull.command(short_help="Give relaxed structures their energy above a hull.")
@sources_argument
@click.option("--reference", type=EXISTING, help="Reference; the shipped one by default.")
@click.option(
    "--calibration",
    type=EXISTING,
    help="Calibration of the estimate, made by `pigen hull calibrate`; the shipped one by default.",
)
@setting_options(RelaxConfig, "judge")
@output_option
@limit_options
@writing_options
def evaluate(
    sources: tuple[Path, ...],
    reference: Path | None,
    calibration: Path | None,
    judge: str,
    output: Path,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Give relaxed structures their energy above the hull of a reference: the column e_hull.

    Where there is a calibration for that reference, the estimate of DFT's value goes with it.

    `pigen energy` does so already; this takes another reference, or a judge afterwards. SRC has
    the column e_relaxed.

    \b
    Examples:
        pigen hull evaluate relaxed.h5 --reference ref -o against_mine.h5
        pigen hull evaluate relaxed.h5 --judge sevennet-l3i5 -o judged.h5
    """
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.stage import HullStage
    from pigen.io.sources import Sources
    from pigen.runtime.executor import Where

    check_output(output, sources, force=force)
    loaded = load_reference(reference)
    stage = HullStage(loaded, calibration, judge)
    opened = Sources(sources, limits)
    provenance = {**provenance_of("pigen hull evaluate", sources), "reference": loaded.digest}
    with opened.executor(Where()) as executor:
        written = opened.through(stage, executor, output, provenance)
    n, reasons = written.crystals, stage.counts
    counts = {
        "read": written.entries,
        "with_e_hull": n - reasons.total(),
        "without": dict(reasons.most_common()),
        "reference": loaded.digest,
        "note": loaded.note,
        "output": str(output),
    }
    said = f"{output}: e_hull of {counts['with_e_hull']} of {n} structures"
    hull_of = readable(f"hull of {loaded.note}")
    show_result(as_json, counts, said, *count_lines(reasons), hull_of)


hull.add_command(calibrate)
