"""A reference from structures: all are relaxed, with crystals of the elements and substitutes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import h5py
import numpy as np

from pigen.bundle import Bundle, divide, iter_bundle, read_bundle, write_bundle
from pigen.bundle.reading import LIBVER
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy.hull.diagram import Hull
from pigen.energy.hull.elements import ELEMENT, elemental_crystals
from pigen.energy.hull.reference import PHASES, Entry, Reference
from pigen.energy.hull.substitute import SUBSTITUTED, substitutes
from pigen.energy.relax import CONVERGED
from pigen.energy.stage import CHUNK, RelaxStage, count_status
from pigen.runtime.device import resolve_device
from pigen.runtime.errors import PigenError
from pigen.runtime.files import sync

RELAXED, RELAXED_SUBSTITUTES = "relaxed.h5", "substitutes.h5"
"""Files of relaxed structures in the folder of a reference, as `pigen energy` writes them."""
LACKING = "phases that it lacks would lower the hull, so e_hull may be too low"
"""What goes with every reference."""

_ON_HULL = 1e-6
"""eV/atom."""
_STEP = 2.0**-20
"""Stored cells (Å) and fractional coordinates are multiples of it.

Relaxation leaves far more open, and the zeros at the end of each number compress.
"""


def relax_all(
    chunks: Iterable[Bundle],
    folder: Path,
    settings: RelaxConfig,
    executor: Executor,
    provenance: Mapping[str, str],
    *,
    substitute: int = 0,
    resume: bool = False,
    total: int | None = None,
) -> list[Path]:
    """Relax structures, and so many `substitutes` at most, into bundles in a folder.

    Arguments and errors as of `relax_reference` and `relax_substitutes`.
    """
    relaxed, more = folder / RELAXED, folder / RELAXED_SUBSTITUTES
    relax_reference(chunks, relaxed, settings, executor, provenance, resume=resume, total=total)
    if not substitute:
        return [relaxed]
    relax_substitutes(relaxed, more, substitute, settings, executor, provenance, resume=resume)
    return [relaxed, more]


def relax_reference(
    chunks: Iterable[Bundle],
    path: Path,
    settings: RelaxConfig,
    executor: Executor,
    provenance: Mapping[str, str],
    *,
    resume: bool = False,
    total: int | None = None,
) -> None:
    """Relax structures, after the elemental crystals, into a bundle.

    Args:
        chunks: the structures; equal ones, in equal chunks, when it is resumed.
        path: where to write.
        settings: of the relaxation.
        executor: where it runs.
        provenance: of the bundle.
        resume: go on after what an unfinished file holds.
        total: structures, for the bar.
    """
    RelaxStage(settings).write(
        _with_elements(chunks), path, provenance, executor=executor, resume=resume, total=total
    )


def relax_substitutes(
    relaxed: Path,
    path: Path,
    at_most: int,
    settings: RelaxConfig,
    executor: Executor,
    provenance: Mapping[str, str],
    *,
    resume: bool = False,
) -> None:
    """Relax `substitutes` of a reference's structures into a bundle.

    Args:
        relaxed: what `relax_reference` wrote.
        path: where to write.
        at_most: structures.
        settings: of the relaxation, as for the structures.
        executor: where it runs.
        provenance: of the bundle; the number of substitutes is added.
        resume: go on after what an unfinished file holds.

    Raises:
        PigenError: not one structure could be relaxed.
        UsageError: resumed with another number.
    """
    given = Reference(tuple(_entries([relaxed], Counter())), "", "")
    size = CHUNK[resolve_device(settings.device).type]
    chunks = divide(substitutes(relaxed, given, at_most), size)
    provenance = {**provenance, "substitutes": str(at_most)}
    RelaxStage(settings).write(
        chunks, path, provenance, executor=executor, resume=resume, total=at_most
    )


def _with_elements(chunks: Iterable[Bundle]) -> Iterator[Bundle]:
    yield elemental_crystals()
    yield from chunks


def make_reference(
    relaxed: Sequence[Path], folder: Path, level: str, origin: str, provenance: Mapping[str, str]
) -> tuple[Reference, Counter[str]]:
    """Write the reference of relaxed structures into a folder.

    A relaxation that did not converge gives no entry: its energy may lie anywhere. An element of
    which no crystal converged has no reference.

    Args:
        relaxed: bundles with ``e_relaxed`` and ``status``.
        folder: of the reference.
        level: name and version of the potential.
        origin: what the structures are a part of, for the note beside every figure.
        provenance: how it was made.

    Returns:
        The reference, and how many structures have no entry, by reason.

    Raises:
        PigenError: not one structure could be relaxed.
    """
    failed: Counter[str] = Counter()
    entries = _entries(relaxed, failed)
    n_elemental, n_made = (
        sum(entry.id.startswith(prefix) for entry in entries) for prefix in (ELEMENT, SUBSTITUTED)
    )
    note = f"{len(entries) - n_elemental - n_made} structures of {origin}"
    note += f" and {n_elemental} of the elements"
    if n_made:
        note += f", with {n_made} guessed by replacing an element in binaries among them"
    note += f": {LACKING}"
    reference = Reference(tuple(entries), level, note, provenance)
    reference.write(folder)
    _write_phases(relaxed, folder / PHASES, reference)
    return reference, failed


def _entries(relaxed: Sequence[Path], failed: Counter[str]) -> list[Entry]:
    """Entries of what converged; the reasons of the rest are counted."""
    entries: list[Entry] = []
    for chunk in _chunks(relaxed):
        failed.update(f"not read, {reject.reason.split(': ')[0]}" for reject in chunk.rejects)
        formulas = chunk.crystals.reduced_formulas()
        energies, status = (chunk.columns[name].values for name in ("e_relaxed", "status"))
        for row in zip(formulas, energies, chunk.parents, status, strict=True):
            if row[3] == CONVERGED:
                entries.append(Entry(row[0], float(row[1]), row[2]))
            else:
                count_status(failed, row[3])
    if not entries:
        said = "".join(f"; {n}: {reason}" for reason, n in failed.most_common(1))
        raise PigenError(f"{relaxed[0]}: not one structure could be relaxed{said}")
    return entries


def _chunks(relaxed: Sequence[Path]) -> Iterator[Bundle]:
    return chain.from_iterable(iter_bundle(path) for path in relaxed)


def _write_phases(relaxed: Sequence[Path], path: Path, reference: Reference) -> None:
    formulas = [entry.formula for entry in reference.entries]
    energies = np.array([entry.energy for entry in reference.entries])
    above, _ = Hull(reference).above(formulas, energies)
    stable = {e.id for e, value in zip(reference.entries, above, strict=True) if value < _ON_HULL}
    parts = []
    for chunk in _chunks(relaxed):
        found = chunk.select(np.isin(chunk.parents, list(stable)))
        parts.append(
            Bundle(
                crystals=_rounded(found.crystals),
                ids=found.parents,
                columns={"e_relaxed": found.columns["e_relaxed"]},
                provenance={"made_by": "pigen hull build", "reference": reference.digest},
            )
        )
    write_bundle(path, Bundle.concatenate(parts))
    _compress(path)


def copy_phases(source: Reference, target: Reference, folder: Path) -> None:
    """Write the structures that a reference has of another's entries beside the latter."""
    if source.phases is None:
        return
    kept = {entry.id for entry in target.entries}
    phases = read_bundle(source.phases)
    chosen = phases.select(np.isin(phases.ids, list(kept)))
    made = {**phases.provenance, "reference": target.digest}
    write_bundle(folder / PHASES, replace(chosen, provenance=made))
    _compress(folder / PHASES)


def _rounded(crystals: Crystals) -> Crystals:
    return Crystals(
        lattice=(crystals.lattice / _STEP).round() * _STEP,
        frac_coords=(crystals.frac_coords / _STEP).round() * _STEP,
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def _compress(path: Path) -> None:
    """Rewrite a bundle with compressed datasets; readers need not know."""
    packed = path.with_name(f".{path.name}.packed")
    with h5py.File(path, "r") as source, h5py.File(packed, "w", libver=LIBVER) as target:
        target.attrs.update(source.attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                made = target.create_group(name, track_order=True)
            else:
                made = target.create_dataset(
                    name,
                    data=item[()],
                    dtype=item.dtype,
                    maxshape=item.maxshape,
                    compression=9,
                    shuffle=True,
                )
            made.attrs.update(item.attrs)

        source.visititems(copy)
    sync(packed)
    os.replace(packed, path)
