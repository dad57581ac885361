"""The verbs prototypes build, prototypes match and prototypes unique."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of, show_result
from pigen.cli.options import output_option, reading_options, sources_argument, writing_options

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.bundle.stage import Written
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where


@click.group()
def prototypes() -> None:
    """Known frameworks: make libraries of them, match structures against them, find duplicates.

    \b
    Example:
        pigen prototypes match candidates.h5 --library reference -o matched.h5
    """


@prototypes.command(short_help="Make a library of the frameworks of structures.")
@sources_argument
@output_option
@click.option("--aflow", is_flag=True, help="Rank the AFLOW prototypes by the structures of SRC.")
@click.option(
    "--least",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Keep frameworks of so many structures or more.",
)
@click.option("--most", type=click.IntRange(min=1), help="Keep so many frameworks; all by default.")
@reading_options
@writing_options
def build(
    sources: tuple[Path, ...],
    output: Path,
    aflow: bool,
    least: int,
    most: int | None,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Make a library of the frameworks of structures, the most frequent first.

    SRC is anything that `pigen import` reads. Structures share a framework if pymatgen's
    StructureMatcher fits them regardless of elements; the first of them represents it.

    \b
    Example:
        pigen prototypes build train.csv.gz --least 2 -o frameworks.h5
    """
    from pigen.descriptors.prototypes.build import Frameworks, Usage, aflow_frameworks
    from pigen.descriptors.prototypes.reduce import prepare
    from pigen.io.sources import Sources

    check_output(output, sources, force=force)
    opened = Sources(sources, limits)
    counter: Usage | Frameworks = Usage(aflow_frameworks()) if aflow else Frameworks()
    n = 0
    with opened.executor(where) as executor:
        for prepared in prepare(opened.watched(executor), executor):
            counter.add(prepared)
            n += len(prepared[0])
    named = ", ".join(source.name for source in sources)
    source = f"counted in {n} structures of {named}"
    library = counter.library(source, least=least, most=most)
    provenance = provenance_of("pigen prototypes build", sources)
    kept = f"{len(library)} frameworks of {least} or more structures"
    provenance["kept"] = f"{kept}, out of {len(counter)}; {source}"
    library.write(output, provenance)
    counts = {
        "read": n,
        "frameworks": len(counter),
        "kept": len(library),
        "not_compared": counter.left_out,
        "output": str(output),
    }
    left_out = f"; {counter.left_out} structures could not be compared" if counter.left_out else ""
    said = f"{output}: {kept}, out of {len(counter)} in {n} structures{left_out}"
    show_result(as_json, counts, said)


@prototypes.command(short_help="Find the known framework of each structure.")
@sources_argument
@click.option(
    "--library",
    required=True,
    metavar="aflow|reference|PATH",
    help="A shipped library, one that build made, or structures, ranked as they come.",
)
@click.option(
    "--top", type=click.IntRange(min=1), help="Match only ranks up to this; all by default."
)
@output_option
@reading_options
@writing_options
def match(
    sources: tuple[Path, ...],
    library: str,
    top: int | None,
    output: Path,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Find the highest-ranked known framework of each structure, if it has one.

    Adds the columns prototype (its label, empty if there is none) and prototype_rank. SRC is
    anything that `pigen import` reads. PATH may be a folder of CIFs; a column rank orders it.

    \b
    Example:
        pigen prototypes match good.h5 --library aflow --top 100 -o matched.h5
    """
    from pigen.bundle import Rate
    from pigen.descriptors.prototypes.library import library_file, load_library
    from pigen.io.sources import Sources
    from pigen.screening.label import MatchStage

    check_output(output, sources, force=force)
    opened = Sources(sources, limits)
    with tempfile.TemporaryDirectory() as folder, opened.executor(where) as executor:
        path = library_file(library, Path(folder))
        stage = MatchStage(library, path, top or len(load_library(path)))
        provenance = provenance_of("pigen prototypes match", sources)
        written = opened.through(stage, executor, output, provenance)
    counts = {name: stage.counts[name] for name in ("matched", "unmatched", "failed")}
    total = sum(counts.values())
    rates = [f"  {name:<10} {Rate(n, total)}" for name, n in counts.items()]
    said = f"{output}: of {total} structures{_and_rejects(written)}"
    counts |= {"rejected": written.rejects}
    show_result(as_json, {**counts, "output": str(output)}, said, *rates)


@prototypes.command(short_help="Mark duplicates.")
@sources_argument
@output_option
@reading_options
@writing_options
def unique(
    sources: tuple[Path, ...],
    output: Path,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Mark duplicates: the column unique is true for the first of each kind.

    Structures are duplicates if pymatgen's StructureMatcher fits them, elements included.

    \b
    Example:
        pigen prototypes unique candidates.h5 -o marked.h5
    """
    from pigen.descriptors.prototypes.known import UniqueStage
    from pigen.io.sources import Sources

    check_output(output, sources, force=force)
    opened, stage = Sources(sources, limits), UniqueStage()
    provenance = provenance_of("pigen prototypes unique", sources)
    with opened.executor(where) as executor:
        written = opened.through(stage, executor, output, provenance)
    counts = {name: stage.counts[name] for name in ("unique", "duplicates")}
    said = f"{output}: {counts['unique']} unique, {counts['duplicates']} duplicates"
    said, counts = said + _and_rejects(written), {**counts, "rejected": written.rejects}
    show_result(as_json, {**counts, "output": str(output)}, said)


def _and_rejects(written: Written) -> str:
    return f"; {written.rejects} rejected" if written.rejects else ""
