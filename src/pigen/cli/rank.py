"""The verb rank: the best structures, as files and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import check_output, count_lines, provenance_of, readable, show_result
from pigen.cli.options import EXISTING, reading_options, sources_argument, writing_options

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
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
    limits: Limits,
    **chosen: Any,
) -> None:
    """Rank structures: the best N as bundle, table, CIFs and one picture.

    Sorted by the probability that DFT puts a structure below 50 meV/atom, or by --by. Left out are
    duplicates (pymatgen's matcher) and compounds of the Materials Project, by composition and
    structure, or composition alone where no structure is at hand. SRC: what `pigen import` reads.

    BEST.h5 and BEST.csv hold them in order, with space group, volume, density and all their
    columns; the folder BEST their CIFs, named by rank; BEST.svg and BEST.png show the first 24.

    \b
    Examples:
        pigen rank relaxed.h5 --n 50 --per-system 3 -o best
        pigen rank cifs/ --by mled,density:desc --keep-known -o best
    """
    from pigen.energy.calibration.estimate import share_of
    from pigen.io.sources import Sources
    from pigen.report.best import BestFiles
    from pigen.run.best import best_of
    from pigen.runtime.progress import progress_bar

    files = BestFiles.at(output)
    for path in files.files:
        check_output(path, sources, force=force)
    files.check(force=force)
    keys = [key for text in by for key in text.split(",")]
    opened = Sources(sources, limits)
    with opened.executor(where) as executor:
        bundle = opened.read(executor)
        with progress_bar(len(bundle), title="rank") as bar:
            found = best_of(bundle, n, executor, by=keys, watch=bar.update, **chosen)
    provenance = {**found.bundle.provenance, **provenance_of("pigen rank", sources)}
    files.write(found, bundle.n_read, provenance)
    counts = {
        "read": bundle.n_read,
        "ranked": len(found.bundle),
        "by": "; ".join(key.text for key in found.keys),
        "left_out": dict(found.left_out.most_common()),
        "expected": (expected := share_of(found.bundle)),
        "output": str(files.bundle),
        **{name: str(getattr(files, name)) for name in ("table", "picture", "cifs")},
    }
    show_result(
        as_json,
        counts,
        f"the best {len(found.bundle)} of {bundle.n_read} by {counts['by']}",
        *count_lines(found.left_out),
        *([readable(str(expected["text"]))] if expected else []),
        f"{', '.join(map(str, files.files))} and the folder {files.cifs}",
    )
