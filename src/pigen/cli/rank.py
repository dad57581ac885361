"""The verb rank: what to calculate first."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of
from pigen.cli.options import (
    EXISTING,
    executor_option,
    force_option,
    json_option,
    limit_options,
    limits_of,
    sources_argument,
)
from pigen.cli.terminal import show_counts, show_markdown

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from collections.abc import Iterable
    from concurrent.futures import Executor

    from pigen.bundle import Bundle
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
    metavar="NAME[:asc|desc]",
    help="Column to sort by, least first unless :desc; p_hull_050:desc by default. Repeatable: "
    "further ones decide between equals.",
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
    help="Bundle of the best, in order (.h5 is added); a CSV of the same name lies beside it.",
)
@executor_option
@limit_options
@force_option
@json_option
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
    **limits: int,
) -> None:
    """Rank relaxed structures: what to calculate first, and how many hits to expect.

    Sorted by the probability that DFT puts a structure below 50 meV/atom, or by --by. Duplicates
    are left out by pymatgen's matcher, and known compounds by composition and structure: the
    compounds of the shipped hull, those of the Materials Project. One of a known composition whose
    structure is not at hand counts as known.

    \b
    Example:
        pigen rank relaxed.h5 --n 50 --per-system 3 -o best
        pigen dft-export best.h5 --competing -o vasp
    """
    from pigen.bundle import Bundle, write_bundle
    from pigen.energy.calibration.estimate import share_of
    from pigen.io.sources import Sources
    from pigen.screening.rank import BY, Key
    from pigen.screening.rank import rank as ranked_of

    output = output if output.suffix == ".h5" else output.with_name(output.name + ".h5")
    table = output.with_suffix(".csv")
    check_output(output, sources, force=force)
    check_output(table, sources, force=force)
    keys = [Key.parse(text) for text in by or (BY,)]
    opened = Sources(sources, limits_of(**limits))
    with opened.executor(where) as executor:
        bundle = Bundle.concatenate(list(opened.chunks(executor)))
        formulas, structures = (frozenset[str](), ()) if keep_known else _known(known, executor)
        found = ranked_of(
            bundle,
            n,
            keys,
            executor,
            known_formulas=formulas,
            known=structures,
            per_system=per_system,
        )
    best = found.bundle
    expected = share_of(best)
    made = {**best.provenance, **provenance_of("pigen rank", sources)}
    write_bundle(output, replace(best, rejects=(), provenance=made))
    _write_table(table, best)
    counts = {
        "read": bundle.n_entries,
        "ranked": len(best),
        "left_out": dict(found.left_out.most_common()),
        "expected": expected,
        "output": str(output),
        "table": str(table),
    }
    if as_json:
        click.echo(json.dumps(counts, ensure_ascii=False))
        return
    click.echo(f"{output} and {table}: the best {len(best)} of {bundle.n_entries}")
    show_counts(found.left_out)
    if expected:
        show_markdown(f"{expected['text']}\n")


def _known(path: Path | None, executor: Executor) -> tuple[frozenset[str], Iterable[Bundle]]:
    """Formulas and structures of known compounds."""
    from pigen.bundle import iter_bundle
    from pigen.descriptors.novelty import read_formulas
    from pigen.energy.hull import load_reference
    from pigen.io import read_chunks
    from pigen.screening.criteria import lists_formulas

    if path is None:
        reference = load_reference()
        formulas = frozenset(entry.formula for entry in reference.entries)
        return formulas, iter_bundle(reference.phases) if reference.phases else ()
    if lists_formulas(path):
        return read_formulas(path), ()
    chunks = list(read_chunks([str(path)], executor=executor))
    return frozenset(f for c in chunks for f in c.crystals.reduced_formulas()), chunks


def _write_table(path: Path, best: Bundle) -> None:
    """One line for each structure: rank, id, formula, and its columns of one value."""
    from pigen.runtime.files import replaced

    columns = {n: c for n, c in best.columns.items() if not c.per_atom and n != "rank"}
    crystals = best.crystals
    with replaced(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["rank", "id", "parent", "formula", "n_atoms", "volume (Å^3)", *columns])
        for i, formula in enumerate(crystals.reduced_formulas()):
            values = [c.values[i] for c in columns.values()]
            fixed = [i + 1, best.ids[i], best.parents[i], formula, int(crystals.n_atoms[i])]
            rows.writerow([*fixed, f"{crystals.volume[i]:.3f}", *values])
