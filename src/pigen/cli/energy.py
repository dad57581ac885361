"""The verb energy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import (
    check_output,
    count_lines,
    output_of,
    provenance_of,
    readable,
    resolved,
    show_result,
    stem_of,
)
from pigen.cli.options import (
    EXISTING,
    reading_options,
    relaxation_options,
    sources_argument,
    stage_options,
    writing_options,
)

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config import RelaxConfig
    from pigen.config.files import Limits
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard


@click.command()
@sources_argument
@click.option(
    "-o", "--out", "output", type=click.Path(path_type=Path), help="Bundle of the relaxed."
)
@relaxation_options("fmax", "max_steps", "rattle", "judge")
@click.option(
    "--reference",
    type=EXISTING,
    help="Reference of the hull, made by `pigen hull`; the shipped one by default.",
)
@click.option(
    "--calibration",
    type=EXISTING,
    help="Calibration of the estimate, made by `pigen hull calibrate`; the shipped one by default.",
)
@click.option("--only-passed", is_flag=True, help="Only structures that passed the filters.")
@stage_options
@reading_options
@writing_options
def energy(
    sources: tuple[Path, ...],
    output: Path | None,
    reference: Path | None,
    calibration: Path | None,
    only_passed: bool,
    resume: bool,
    shard: Shard | None,
    settings: RelaxConfig,
    force: bool,
    as_json: bool,
    where: Where,
    limits: Limits,
) -> None:
    """Relax structures, cell and positions, and give their energies above the hull.

    SRC is anything that `pigen import` reads. Relaxed structures go to SRC_relaxed.h5 here, or to
    -o, each naming its parent, with columns e_relaxed (eV/atom), converged, n_steps, max_force,
    rmsd, status and e_hull (eV/atom above the hull, or e_hull_reason), and what DFT is expected to
    give: e_hull_est, its error e_hull_est_sd (eV/atom), and the probabilities p_hull_050 and
    p_hull_100 to lie below 50, 100 meV/atom. --judge adds another potential's e_judge and
    e_hull_judge, which go into the estimate. What is done is kept; --resume goes on after a kill.

    \b
    Examples:
        pigen energy good.h5 --judge sevennet-l3i5 -o relaxed.h5
        pigen energy all.h5 --only-passed --model ase.calculators.emt:EMT
    """
    from pigen.energy.hull.stage import reference_for
    from pigen.energy.stage import CHUNK, RelaxStage, judged_by, source_of
    from pigen.io.sources import Sources
    from pigen.runtime.files import sha256_of

    output = output_of(output or Path(f"{stem_of(sources[0])}_relaxed.h5"), shard)
    check_output(output, sources, force=force, resume=resume)
    settings, where = resolved(settings, where)
    opened = Sources(sources, limits, chunk_size=CHUNK[settings.device], shard=shard)
    with opened.executor(where, few=CHUNK[settings.device]) as executor:
        source = source_of(settings, executor)
        loaded = reference_for(source, reference)
        stage = RelaxStage(settings, loaded, calibration=calibration, only_passed=only_passed)
        provenance = {
            **provenance_of("pigen energy", sources, limits=limits, shard=shard),
            "relaxed_by": source,
            "judged_by": judged_by(settings, executor),
            "reference": loaded.digest if loaded else "",
            "calibration": sha256_of(calibration) if calibration else "",
            "device": settings.device,
            "only_passed": str(only_passed),
        }
        written = opened.through(stage, executor, output, provenance, resume=resume)
    stage.check_any(output)
    counts = {
        **written.counts("relaxed"),
        **{name: dict(stage.counts[name].most_common()) for name in ("status", "no_hull")},
        "hull": loaded.note if loaded else None,
        "estimate": stage.expected,
        "output": str(output),
    }
    show_result(as_json, counts, *_lines(counts, settings.potential))


def _lines(counts: dict[str, Any], potential: str) -> Iterator[str]:
    read, relaxed, rejected = (counts[key] for key in ("read", "relaxed", "rejected"))
    yield f"{counts['output']}: read {read}, relaxed {relaxed}, rejected {rejected}"
    yield from count_lines(counts["status"])
    yield from count_lines(counts["no_hull"])
    if counts["hull"] is None:
        yield f"no e_hull: no --reference for {potential}"
        return
    yield readable(f"hull of {counts['hull']}")
    if counts["estimate"]:
        yield readable(counts["estimate"]["text"])
    else:
        yield "no estimate of DFT's energies: no calibration for this potential and hull"
