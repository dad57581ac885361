"""The energy stage of a run: survivors relaxed, set against the hull, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from pigen.bundle import Bundle, content_digest, divide, read_bundle
from pigen.config import EnergyConfig
from pigen.descriptors.novelty import read_formulas
from pigen.io import read_chunks
from pigen.run.folder import RunFolder, is_complete
from pigen.run.table import RunTable
from pigen.runtime.device import resolve_device
from pigen.runtime.executor import Where, open_executor
from pigen.screening.stability import stability


def check_energies(config: EnergyConfig) -> None:
    """Raise UsageError for a device, a potential, a judge or a reference that is not there."""
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.stage import check_level
    from pigen.energy.judge import load_judge
    from pigen.energy.potential import load_potential

    resolve_device(config.device)
    reference = load_reference(_reference(config))
    if config.potential != "chgnet":
        check_level(load_potential(config.potential).name, reference)
    if config.judge:
        load_judge(config)


def relax_survivors(
    config: EnergyConfig, folder: RunFolder, survivors: Bundle, executor: Executor, progress: bool
) -> None:
    """Write the survivors of a run, relaxed, with ``e_hull``; goes on where it was stopped."""
    if is_complete(folder.relaxed):
        return
    from pigen.energy.hull import load_reference
    from pigen.energy.stage import CHUNK, RelaxStage, judged_by, source_of

    device = resolve_device(config.device).type
    settings = replace(config, device=device)
    reference = load_reference(_reference(config))
    digest = content_digest(survivors)
    survivors = replace(survivors, rejects=())  # those of the filters stay where they are
    with open_executor(Where(workers=1)) if device == "cuda" else nullcontext(executor) as pool:
        RelaxStage(settings, reference).write(
            divide(survivors, CHUNK[device]),
            folder.relaxed,
            {
                **survivors.provenance,
                "parent": f"{folder.survivors.name} content {digest}",
                "reference": reference.digest,
                "relaxed_by": source_of(settings, pool),
                "judged_by": judged_by(settings, pool),
            },
            executor=pool,
            resume=True,
            total=len(survivors),
            title="energy",
            show=progress,
        )


def with_energies(
    table: RunTable,
    folder: RunFolder,
    survivors: Bundle,
    total: int,
    known_formulas: Path,
    known: Sequence[str],
    executor: Executor,
) -> RunTable:
    """A run's table with columns E, F and S.U.N.

    Args:
        table: of the filters.
        folder: with the relaxed survivors.
        survivors: as generated.
        total: structures generated.
        known_formulas: file of the known compositions.
        known: sources of known structures.
        executor: where structures are compared.
    """
    values = survivors.columns["mled"].values if len(survivors) else ()
    mled = dict(zip(survivors.ids, values, strict=True))
    relaxed = read_bundle(folder.relaxed)
    formulas, structures = read_formulas(known_formulas), read_chunks(known, executor=executor)
    found = stability(relaxed, mled, total, formulas, structures, executor)
    estimate = {"estimate": found.estimate} if found.estimate else {}
    return replace(
        table,
        rates={**table.rates, **found.rates},
        largest_mled=found.largest_mled,
        expected=found.expected,
        systematic=found.systematic,
        provenance={**table.provenance, "hull": found.hull, **estimate},
    )


def _reference(config: EnergyConfig) -> Path | None:
    return Path(config.reference) if config.reference else None
