"""The verb hull calibrate: an estimate of DFT's energies, fitted to DFT's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import check_output, provenance_of, readable, show_result
from pigen.cli.options import (
    EXISTING,
    executor_option,
    output_as,
    setting_options,
    writing_options,
)
from pigen.config import RelaxConfig
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.bundle import Bundle
    from pigen.energy.calibration.fit import Scores
    from pigen.runtime.executor import Where


@click.command(short_help="Fit the estimate of DFT's energies to structures that have them.")
@click.argument("source", type=EXISTING, metavar="DATA")
@click.option(
    "--relaxed",
    type=EXISTING,
    help="DATA relaxed by `pigen energy`; without it they are relaxed into OUT_relaxed.h5.",
)
@click.option("--column", help="DFT energy above the hull; e_hull_dft or e_decomposition_dft.")
@click.option("--group", help="Column of what is left out together; generator, if there is one.")
@click.option("--origin", help="What DATA is, to stand beside every figure; its name by default.")
@click.option("--reference", type=EXISTING, help="Reference of the hull; the shipped by default.")
@setting_options(RelaxConfig, "judge")
@output_as("JSON file.")
@executor_option
@writing_options
def calibrate(
    source: Path,
    relaxed: Path | None,
    column: str | None,
    group: str | None,
    origin: str | None,
    reference: Path | None,
    judge: str,
    output: Path,
    where: Where,
    force: bool,
    as_json: bool,
) -> None:
    """Fit the estimate of DFT's energies above the hull to structures that have them.

    DATA is anything that `pigen import` reads, with a column of DFT energies above the hull in
    eV/atom: a CSV of structures, or what `pigen dft-collect` wrote. Groups of structures are left
    out in turn and estimated by a fit to the others; the table shows how well. OUT holds
    coefficients alone and goes into `pigen energy --calibration`. With --judge, or where DATA or
    --relaxed were judged already, a second set is fitted, for structures with a second opinion.

    \b
    Example:
        pigen hull calibrate with_dft.h5 -o mine.json
    """
    from pigen.energy.calibration.data import calibration_data
    from pigen.energy.calibration.fit import calibrate as fit
    from pigen.energy.hull import load_reference
    from pigen.io import read

    check_output(output, (source,), force=force)
    loaded = load_reference(reference)
    given = read(source)
    found = given
    if "e_relaxed" not in given.columns:
        found = read(relaxed or _relax(source, output, where, force))
    if judge:
        found = _judged(found, judge, where)
    data, moved = calibration_data(given, found, loaded, source, column, group)
    named = origin or f"{source.name} ({len(data.dft)} structures)"
    calibration, scores, with_judge = fit(data, loaded, named)
    calibration.write(output)
    counts = {
        "groups": {name: asdict(one) for name, one in scores.items()},
        "with_judge": {name: asdict(one) for name, one in with_judge.items()},
        "another_structure": moved,
        "output": str(output),
    }
    judged = []
    if beside := calibration.judged:
        judged = [f"with {beside.level} beside:", readable(_table(with_judge, "e_hull_judge"))]
    show_result(
        as_json,
        counts,
        readable(_table(scores, "e_hull")),
        *judged,
        f"{moved} structures left out: relaxation led to another than DFT's energy is of",
        f"{output}: fitted to {len(data.dft)} structures, systematic error "
        f"{1000 * calibration.systematic:.0f} meV/atom",
    )


def _relax(source: Path, output: Path, where: Where, force: bool) -> Path:
    from pigen.energy.stage import CHUNK, RelaxStage
    from pigen.io import Limits
    from pigen.io.sources import Sources

    path = output.with_name(f"{output.stem}_relaxed.h5")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give it as --relaxed, or --force to relax anew")
    path.unlink(missing_ok=True)
    opened = Sources((source,), Limits(), chunk_size=CHUNK["cpu"])
    made = provenance_of("pigen hull calibrate", (source,))
    with opened.executor(where, few=CHUNK["cpu"]) as executor:
        # DFT's energy is of the structure as it was given, on a saddle or not.
        stage = RelaxStage(RelaxConfig(device="cpu", rattle=False))
        chunks = opened.chunks(executor)
        stage.write(chunks, path, made, executor=executor, total=opened.total)
    return path


def _judged(relaxed: Bundle, judge: str, where: Where) -> Bundle:
    from pigen.bundle import Bundle, divide
    from pigen.energy.judge import JudgeStage
    from pigen.energy.stage import CHUNK
    from pigen.runtime.executor import open_executor

    stage, chunks = (
        JudgeStage(RelaxConfig(judge=judge, device="cpu")),
        divide(relaxed, CHUNK["cpu"]),
    )
    with open_executor(where) as executor:
        return Bundle.concatenate(list(stage.over(chunks, executor)))


def _table(scores: dict[str, Scores], raw: str) -> str:
    lines = [
        f"| left out | n | {raw}: mean error | {raw}: MAE | mean error | MAE | < 50: DFT | {raw} "
        f"| expected | in 80 % interval | AP: {raw} | AP | hits in first 50: {raw} | hits |",
        "|---" * 14 + "|",
    ]
    for name, s in scores.items():
        lines.append(
            f"| {name} | {s.n} | {s.raw_mean_error:+.0f} | {s.raw_mae:.0f} | {s.mean_error:+.0f} "
            f"| {s.mae:.0f} | {s.found} | {s.raw} | {s.expected:.1f} | {100 * s.coverage:.0f} % "
            f"| {s.raw_precision:.2f} | {s.precision:.2f} | {s.raw_first} | {s.first} |"
        )
    return "\n".join(lines)
