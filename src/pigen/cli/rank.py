"""The verb rank: the best structures, as files and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of
from pigen.cli.options import EXISTING, reading_options, sources_argument, writing_options
from pigen.cli.terminal import show_counts, show_markdown
from pigen.runtime.errors import PigenError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where


@click.command()
@sources_argument
@click.option(
    "--n", "n", type=click.IntRange(min=1), default=20, show_default=True, help="How many."
)
@click.option(
    "--by",
    "by",
    multiple=True,
    metavar="NAME[:asc|desc],…",
    help="Columns or descriptors to sort by, the better end first unless :asc or :desc says "
    "which; further ones decide between equals. By default the first there is of p_hull_050, "
    "e_hull and mled.",
)
@click.option(
    "--per-system",
    type=click.IntRange(min=1),
    metavar="K",
    help="At most K of one chemical system.",
)
@click.option(
    "--known",
    type=EXISTING,
    help="Known compounds, formulas (.txt) or structures, in place of those of the hull.",
)
@click.option("--keep-known", is_flag=True, help="Keep known compounds.")
@click.option(
    "-o",
    "--out",
    "output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="BEST",
    help="How the names of the outputs begin.",
)
@reading_options
@writing_options
def rank(
    sources: tuple[Path, ...],
    n: int,
    by: tuple[str, ...],
    per_system: int | None,
    known: Path | None,
    keep_known: bool,
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
) -> None:
    """Rank structures: the best N as bundle, table, CIFs and one picture.

    Sorted by the probability that DFT puts a structure below 50 meV/atom, or by --by. Duplicates
    are left out by pymatgen's matcher, and known compounds by composition and structure: the
    compounds of the shipped hull, those of the Materials Project. One of a known composition whose
    structure is not at hand counts as known. SRC is anything that `pigen import` reads.

    BEST.h5 and BEST.csv hold them in order, with space group, volume, density and all their
    columns; the folder BEST their CIFs, named by rank; BEST.svg and BEST.png show the first 24.

    \b
    Examples:
        pigen rank relaxed.h5 --n 50 --per-system 3 -o best
        pigen rank cifs/ --by mled,density:desc --keep-known -o best
    """
    from pigen.bundle import Bundle
    from pigen.energy.calibration.estimate import share_of
    from pigen.io.sources import Sources
    from pigen.report.best import BestFiles
    from pigen.run.best import best_of

    files = BestFiles.at(output)
    for path in files.files:
        check_output(path, sources, force=force)
    files.check(force=force)
    keys = [key for text in by for key in text.split(",")]
    opened = Sources(sources, limits)
    with opened.executor(where) as executor:
        bundle = Bundle.concatenate(list(opened.watched(executor)))
        found = best_of(
            bundle, n, executor, by=keys, per_system=per_system, known=known, keep_known=keep_known
        )
    best = found.bundle
    if not len(best):
        why = "; ".join(f"{count}: {reason}" for reason, count in found.left_out.most_common())
        raise PigenError(
            f"nothing is left to rank of {bundle.n_read}: {why or 'no structures'}; "
            "--keep-known keeps what is known"
        )
    made = {**best.provenance, **provenance_of("pigen rank", sources)}
    files.write(found, bundle.n_read, made)
    expected = share_of(best)
    counts = {
        "read": bundle.n_read,
        "ranked": len(best),
        "by": "; ".join(key.text for key in found.keys),
        "left_out": dict(found.left_out.most_common()),
        "expected": expected,
        "output": str(files.bundle),
        "table": str(files.table),
        "picture": str(files.picture),
        "cifs": str(files.cifs),
    }
    if as_json:
        click.echo(json.dumps(counts, ensure_ascii=False))
        return
    click.echo(f"the best {len(best)} of {bundle.n_read} by {counts['by']}")
    show_counts(found.left_out)
    if expected:
        show_markdown(f"{expected['text']}\n")
    click.echo(f"{', '.join(map(str, files.files))} and the folder {files.cifs}")
