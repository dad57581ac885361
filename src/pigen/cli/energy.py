"""The verb energy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import (
    check_output,
    output_of,
    provenance_of,
    stem_of,
)
from pigen.cli.executor import executor_option
from pigen.cli.existing import EXISTING
from pigen.cli.options import (
    force_option,
    json_option,
    limit_options,
    limits_of,
    potential_options,
    resume_option,
    setting_options,
    sources_argument,
)
from pigen.cli.shard import bundle_shard_option
from pigen.cli.terminal import show_counts, show_markdown
from pigen.config import RelaxConfig

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard


@click.command()
@sources_argument
@click.option(
    "-o", "--out", "output", type=click.Path(path_type=Path), help="Bundle of the relaxed."
)
@setting_options(RelaxConfig, "fmax", "max_steps")
@potential_options
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
@resume_option
@bundle_shard_option
@executor_option
@limit_options
@force_option
@json_option
def energy(
    sources: tuple[Path, ...],
    output: Path | None,
    fmax: float,
    max_steps: int,
    potential: str,
    device: str,
    reference: Path | None,
    calibration: Path | None,
    only_passed: bool,
    resume: bool,
    shard: Shard | None,
    force: bool,
    as_json: bool,
    where: Where,
    **limits: int,
) -> None:
    """Relax structures, cell and positions, and give their energies above the hull.

    SRC is anything that `pigen import` reads. Relaxed structures go to SRC_relaxed.h5 in this
    folder unless -o says otherwise, each naming its parent, with columns e_relaxed (eV/atom),
    converged, n_steps, max_force, rmsd, status and e_hull (eV/atom above the hull, or
    e_hull_reason), and what DFT is expected to give: e_hull_est, its error e_hull_est_sd
    (eV/atom), and the probabilities p_hull_050 and p_hull_100 to lie below 50, 100 meV/atom. They
    are written as they are done; --resume goes on after a kill.

    \b
    Examples:
        pigen energy good.h5 -o relaxed.h5
        pigen energy all.h5 --only-passed --model ase.calculators.emt:EMT
    """
    from pigen.bundle import iter_bundle
    from pigen.energy.calibration.estimate import share_of
    from pigen.energy.hull.stage import reference_for
    from pigen.energy.stage import CHUNK, RelaxStage, source_of
    from pigen.io.sources import Sources
    from pigen.runtime.device import resolve_device

    output = output_of(output or Path(f"{stem_of(sources[0])}_relaxed.h5"), shard)
    check_output(output, sources, force=force, resume=resume)
    allowed = limits_of(**limits)
    device = resolve_device(device).type
    settings = RelaxConfig(potential=potential, device=device, fmax=fmax, max_steps=max_steps)
    opened = Sources(sources, allowed, chunk_size=CHUNK[device], shard=shard)
    where = where.for_few() if device == "cuda" else where
    with opened.executor(where, few=CHUNK[device]) as executor:
        source = source_of(settings, executor)
        loaded = reference_for(source, reference)
        stage = RelaxStage(settings, loaded, calibration=calibration, only_passed=only_passed)
        written = stage.write(
            opened.chunks(executor),
            output,
            {
                **provenance_of("pigen energy", sources, limits=allowed, shard=shard),
                "relaxed_by": source,
                "reference": loaded.digest if loaded else "",
                "device": device,
                "only_passed": str(only_passed),
            },
            executor=executor,
            resume=resume,
            total=opened.total,
        )
    estimate = share_of(iter_bundle(output))
    statuses, no_hull = stage.counts["status"], stage.counts["no_hull"]
    counts = {
        "read": written.entries,
        "relaxed": written.crystals,
        "rejected": written.rejects,
        "resumed_after": written.resumed_after,
        "status": dict(statuses.most_common()),
        "no_hull": dict(no_hull.most_common()),
        "hull": loaded.note if loaded else None,
        "estimate": estimate,
        "output": str(output),
    }
    if as_json:
        click.echo(json.dumps(counts, ensure_ascii=False))
        return
    click.echo(
        f"{output}: read {written.entries}, relaxed {written.crystals}, rejected {written.rejects}"
    )
    show_counts(statuses)
    show_counts(no_hull)
    said = f"hull of {loaded.note}" if loaded else f"no e_hull: no --reference for {potential}"
    show_markdown(f"{said}\n")
    if estimate:
        show_markdown(f"{estimate['text']}\n")
    elif loaded:
        show_markdown("no estimate of DFT's energies: no calibration for this potential and hull\n")
