"""The verb energy."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen.cli.common import (
    Sources,
    check_output,
    limits_said,
    output_of,
    provenance_of,
    shard_of,
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
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.energy.hull import Reference
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
    e_hull_reason). They are written as they are done; --resume goes on after a kill.

    \b
    Examples:
        pigen energy good.h5 -o relaxed.h5
        pigen energy all.h5 --only-passed --model ase.calculators.emt:EMT
    """
    from pigen.bundle import BundleWriter, iter_bundle
    from pigen.energy.hull import Hull, with_e_hull
    from pigen.energy.stage import CHUNK, relax_stream, source_of
    from pigen.runtime.device import resolve_device
    from pigen.screening.label import skip_entries

    output = output_of(output or Path(f"{stem_of(sources[0])}_relaxed.h5"), shard)
    check_output(output, sources, force=force, resume=resume)
    allowed = limits_of(**limits)
    device = resolve_device(device).type
    settings = RelaxConfig(potential=potential, device=device, fmax=fmax, max_steps=max_steps)
    opened = Sources(sources, allowed, chunk_size=CHUNK[device], shard=shard)
    if device == "cuda":
        where = where.for_few()
    with ExitStack() as stack:
        executor = stack.enter_context(opened.executor(where, few=CHUNK[device]))
        source = source_of(settings, executor)
        loaded = _reference(reference, source)
        hull = Hull(loaded) if loaded else None
        provenance = {
            **provenance_of("pigen energy", sources),
            "relaxed_by": source,
            "reference": loaded.digest if loaded else "",
            "device": device,
            "only_passed": str(only_passed),
            **limits_said(allowed),
            **shard_of(shard),
        }
        writer = stack.enter_context(BundleWriter(output, provenance, resume=resume))
        done = writer.n_written + writer.n_rejected
        chunks = skip_entries(opened.chunks(executor), done)
        with opened.bar(done) as bar:
            for chunk in relax_stream(chunks, settings, executor, only_passed=only_passed):
                writer.append(with_e_hull(chunk, loaded, hull) if loaded and hull else chunk)
                bar.update(chunk.n_entries)
    statuses: Counter[str] = Counter()
    no_hull: Counter[str] = Counter()
    for chunk in filter(len, iter_bundle(output)):
        statuses.update(status.split(":")[0] for status in chunk.columns["status"].values)
        if loaded:
            reasons = chunk.columns["e_hull_reason"].values
            no_hull.update(reason for reason in reasons if reason.startswith("no hull"))
    counts = {
        "read": writer.n_written + writer.n_rejected,
        "relaxed": writer.n_written,
        "rejected": writer.n_rejected,
        "resumed_after": done,
        "status": dict(statuses.most_common()),
        "no_hull": dict(no_hull.most_common()),
        "hull": loaded.note if loaded else None,
        "output": str(output),
    }
    if as_json:
        click.echo(json.dumps(counts, ensure_ascii=False))
        return
    click.echo(
        f"{output}: read {counts['read']}, relaxed {writer.n_written}, rejected {writer.n_rejected}"
    )
    show_counts(statuses)
    show_counts(no_hull)
    said = f"hull of {loaded.note}" if loaded else f"no e_hull: no --reference for {potential}"
    show_markdown(f"{said}\n")


def _reference(path: Path | None, source: str) -> Reference | None:
    """The reference to take; None if the shipped one is of another potential than is asked for."""
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.stage import check_level

    reference = load_reference(path)
    try:
        check_level(source, reference)
    except UsageError:
        if path is not None:
            raise
        return None
    return reference
