"""The energy stage of a run: survivors relaxed, set against the hull, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pigen.bundle import BundleWriter, bundle_info, content_digest, iter_bundle, read_bundle
from pigen.config import EnergyConfig
from pigen.descriptors.novelty import read_formulas
from pigen.io import read_chunks
from pigen.run.folder import RunFolder, is_complete
from pigen.run.table import RunTable
from pigen.runtime.device import resolve_device
from pigen.runtime.executor import Where, open_executor
from pigen.screening.label import skip_entries
from pigen.screening.stability import stability


def check_energies(config: EnergyConfig) -> None:
    """Raise UsageError for a device, a potential or a reference that is not there."""
    from pigen.energy.hull import load_reference
    from pigen.energy.hull.stage import check_level
    from pigen.energy.potential import load_potential

    resolve_device(config.device)
    reference = load_reference(_reference(config))
    if config.potential != "chgnet":
        check_level(load_potential(config.potential).name, reference)


def relax_survivors(
    config: EnergyConfig, folder: RunFolder, executor: Executor, progress: bool
) -> None:
    """Write the survivors of a run, relaxed, with ``e_hull``; goes on where it was stopped."""
    if is_complete(folder.relaxed):
        return
    from pigen.energy.hull import Hull, load_reference, with_e_hull
    from pigen.energy.stage import CHUNK, relax_stream, source_of

    device = resolve_device(config.device).type
    settings = replace(config, device=device)
    reference = load_reference(_reference(config))
    hull = Hull(reference)
    info = bundle_info(folder.survivors)
    provenance = {
        **info.provenance,
        "parent": f"{folder.survivors.name} content {content_digest(folder.survivors)}",
        "reference": reference.digest,
    }
    with (
        open_executor(Where(workers=1)) if device == "cuda" else nullcontext(executor) as pool,
        BundleWriter(
            folder.relaxed,
            {**provenance, "relaxed_by": source_of(settings, pool)},
            resume=True,
        ) as writer,
        tqdm(
            total=info.n_crystals,
            initial=writer.n_written,
            desc="energy",
            unit="structure",
            delay=1.0,
            disable=None if progress else True,
        ) as bar,
    ):
        # The rejects of the filters stay where they are.
        survivors = (replace(c, rejects=()) for c in iter_bundle(folder.survivors, CHUNK[device]))
        chunks = skip_entries(survivors, writer.n_written + writer.n_rejected)
        for chunk in relax_stream(chunks, settings, pool):
            writer.append(with_e_hull(chunk, reference, hull))
            bar.update(len(chunk))


def with_energies(
    table: RunTable,
    folder: RunFolder,
    total: int,
    known_formulas: Path,
    known: Sequence[str],
    executor: Executor,
) -> RunTable:
    """A run's table with columns E, F and S.U.N.

    Args:
        table: of the filters.
        folder: with the relaxed survivors.
        total: structures generated.
        known_formulas: file of the known compositions.
        known: sources of known structures.
        executor: where structures are compared.
    """
    mled = {
        id_: value
        for chunk in iter_bundle(folder.survivors)
        if len(chunk)
        for id_, value in zip(chunk.ids, chunk.columns["mled"].values, strict=True)
    }
    relaxed = read_bundle(folder.relaxed)
    formulas, structures = read_formulas(known_formulas), read_chunks(known, executor=executor)
    found = stability(relaxed, mled, total, formulas, structures, executor)
    estimate = {"estimate": found.estimate} if found.estimate else {}
    return replace(
        table,
        rates={**table.rates, **found.rates},
        largest_mled=found.largest_mled,
        expected=found.expected,
        provenance={**table.provenance, "hull": found.hull, **estimate},
    )


def _reference(config: EnergyConfig) -> Path | None:
    return Path(config.reference) if config.reference else None
