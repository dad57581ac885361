"""The verb predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import readable, say, show_result
from pigen.cli.options import EXISTING, executor_option, resume_option, writing_options

if TYPE_CHECKING:  # heavy: imported when the verb runs
    from pigen.bundle import Bundle
    from pigen.runtime.executor import Where


@click.command()
@click.argument("formulas", nargs=-1, metavar="FORMULA...")
@click.option(
    "--compositions", type=EXISTING, metavar="FILE", help="A text file, a composition on each line."
)
@click.option(
    "--n", type=click.IntRange(1), default=100, show_default=True, help="Samples a composition."
)
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Best of each to keep."
)
@click.option(
    "--formula-units",
    type=click.IntRange(1),
    multiple=True,
    metavar="Z",
    help="Formula units in the cell; repeatable. As in the training set by default.",
)
@click.option("--space-group", multiple=True, metavar="GROUP", help="Number or symbol; repeatable.")
@click.option(
    "--energy",
    type=click.Choice(["chgnet", "none"]),
    default="chgnet",
    show_default=True,
    help="What relaxes and ranks; none leaves the samples as they are.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the experiment, e.g. seed=1 or sample.symmetry=free. Repeatable.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("predicted"),
    show_default=True,
    help="Folder of what is made.",
)
@resume_option
@executor_option
@writing_options
def predict(
    formulas: tuple[str, ...],
    compositions: Path | None,
    n: int,
    top: int,
    formula_units: tuple[int, ...],
    space_group: tuple[str, ...],
    energy: str,
    overrides: tuple[str, ...],
    out: Path,
    resume: bool,
    force: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Say what a composition looks like: sample structures, relax them, rank them by energy.

    The folder keeps every sample and every relaxed structure; predicted.h5 holds the best of each
    composition, one of each kind, report.html shows them. n_found says how many samples relaxed to
    the same structure. What is interrupted goes on with --resume.

    \b
    Examples:
        pigen predict MgO CaTiO3 --n 50
        pigen predict LiFePO4 --formula-units 4 --space-group Pnma -o olivine
    """
    from pigen.bundle import write_bundle
    from pigen.io.sources import FEW
    from pigen.report import prepare, report_of_chunks, to_html
    from pigen.run.predict import PREDICTED, clear, predict, read_formulas, sampling
    from pigen.runtime.errors import UsageError
    from pigen.runtime.executor import open_executor
    from pigen.runtime.files import write_atomically

    if resume and force:
        raise UsageError("--resume goes on and --force starts over; give one of them")
    asked = [*formulas, *(read_formulas(compositions) if compositions else ())]
    if not asked:
        raise UsageError("no composition: give one, like LiFePO4, or --compositions FILE")
    base = sampling(n, formula_units, space_group, overrides)
    relaxed = energy != "none"
    if force:
        clear(asked, out)
    with open_executor(where.for_few() if n * len(asked) <= FEW else where) as executor:
        found = predict(
            asked, base, out, top=top, relaxed=relaxed, resume=resume, executor=executor, say=say
        )
    write_bundle(out / PREDICTED, found)
    report = report_of_chunks([prepare(found)], "predicted", len(found))
    write_atomically(out / "report.html", to_html(report))
    rows = _rows(found) if relaxed else []
    counts = {"structures": len(found), "rows": rows, "output": str(out)}
    said = f"{out / PREDICTED}: {len(found)} structures; {out / 'report.html'} shows them"
    show_result(as_json, counts, *([readable(_table(rows))] if rows else []), said)


def _rows(found: Bundle) -> list[dict[str, Any]]:
    """The structures as objects of JSON, energies in eV/atom."""
    from pigen.run.predict import ABOVE, COMPOSITION, FOUND, RANK, SPACE_GROUP

    named = [
        COMPOSITION,
        RANK,
        FOUND,
        SPACE_GROUP,
        "e_relaxed",
        ABOVE,
        "e_hull",
        "e_hull_est",
        "e_hull_est_sd",
    ]
    columns = {"id": found.ids.tolist(), "n_atoms": found.crystals.n_atoms.tolist()}
    columns |= {
        name: found.columns[name].values.tolist() for name in named if name in found.columns
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, energies above something in meV/atom."""
    from pigen.paper.cells import markdown

    heads = {
        "composition": "composition",
        "rank": "rank",
        "space_group": "space group",
        "n_atoms": "atoms",
        "n_found": "found",
        "e_relaxed": "E (eV/atom)",
        "e_above_lowest": "above the lowest (meV/atom)",
        "e_hull": "above the hull (meV/atom)",
        "e_hull_est": "DFT, expected (meV/atom)",
    }
    shown = [key for key in heads if key in rows[0]]
    cells = ([_cell(row, key) for key in shown] for row in rows)
    return "\n".join(markdown([heads[key] for key in shown], cells))


def _cell(row: dict[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, float):
        return str(value)
    if value != value:  # NaN
        return "–"
    if key == "e_relaxed":
        return f"{value:.3f}"
    error = row.get(f"{key}_sd")
    return f"{1000 * value:.0f}" + (f" ± {1000 * error:.0f}" if error is not None else "")
