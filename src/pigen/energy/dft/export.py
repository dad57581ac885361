"""Candidates, and what they compete with, as folders of VASP inputs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pigen.bundle import Bundle, Column, iter_bundle, strings, write_bundle
from pigen.crystal.elements import SYMBOLS, usual_formula
from pigen.energy.dft.vasp import PAPER, potential_of, tags_of, write_inputs
from pigen.energy.hull import Hull, Reference
from pigen.io.export import safe_name
from pigen.runtime.errors import UsageError
from pigen.runtime.files import check_writable, numbered, replaced, write_atomically

EXPORTED, MANIFEST = "exported.h5", "manifest.csv"
"""Bundle of what was exported, with its columns ``kind`` and ``folder``; the same to read."""
LACKING = "phases_without_structure.txt"
"""Formulas of competing phases to be brought by the user, one a line; only where there are any."""
PRESET = "preset"
"""Key of the provenance of `EXPORTED`."""
CANDIDATE, COMPETING = "candidate", "competing"


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        bundle: all structures, with columns ``kind`` and ``folder``.
        n_potcars: how many have a POTCAR.
        no_hull: candidates for which there are no competing phases, by reason.
        without_structure: formulas of competing phases that the reference has energies of alone.
    """

    bundle: Bundle
    n_potcars: int
    no_hull: Counter[str]
    without_structure: tuple[str, ...] = ()


def export(
    candidates: Bundle,
    folder: Path,
    *,
    reference: Reference | None = None,
    preset: str = PAPER,
    changes: Mapping[str, str] | None = None,
    provenance: Mapping[str, str] | None = None,
    agree: Callable[[int], None] = lambda n: None,
) -> Exported:
    """Write a folder for each candidate and each phase it competes with, and the manifest.

    Args:
        candidates: crystals as VASP shall take them: relaxed ones.
        folder: must not exist.
        reference: the phases on its hull in the candidates' chemical systems, elements included,
            are exported too; None for no competing phases.
        preset: whose settings, of `pigen.energy.dft.vasp.PRESETS`.
        changes: INCAR tags in place of, or beside, the preset's.
        provenance: how the candidates came about.
        agree: called with the number of competing phases, before anything is written; what it
            raises ends the export.

    Raises:
        UsageError: the folder exists; no candidates; an element that VASP has no potential for.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists; export to another folder, or remove it")
    check_writable(folder)
    if not len(candidates):
        raise UsageError("no candidates to export")
    parts = [_only_structures(candidates, CANDIDATE)]
    no_hull: Counter[str] = Counter()
    lacking: tuple[str, ...] = ()
    if reference is not None:
        competing, lacking, no_hull = competing_phases(candidates, reference)
        parts.append(_only_structures(competing, COMPETING))
        agree(len(competing))
    exported = Bundle.concatenate(parts)
    for z in np.unique(exported.crystals.atomic_numbers):
        potential_of(SYMBOLS[z], preset)
    tags = tags_of(changes or {})
    made = {**(provenance or {}), PRESET: preset}
    exported = replace(_with_folders(exported), provenance=made)
    folder.mkdir(parents=True)
    n_potcars = 0
    for i, crystal in enumerate(exported.crystals):
        place = folder / exported.columns["folder"].values[i]
        n_potcars += write_inputs(place, crystal, exported.ids[i], preset, tags)
    write_bundle(folder / EXPORTED, exported)
    _write_manifest(folder / MANIFEST, exported)
    if lacking:
        write_atomically(folder / LACKING, "".join(f"{usual_formula(f)}\n" for f in lacking))
    return Exported(exported, n_potcars, no_hull, lacking)


def competing_phases(
    candidates: Bundle, reference: Reference
) -> tuple[Bundle, tuple[str, ...], Counter[str]]:
    """Phases on the hull of the reference in the candidates' chemical systems.

    Also the formulas of those of which the reference has no structure, and how many candidates
    have no hull, and so bring none, by the reason "no hull: X".

    Raises:
        UsageError: the reference has no structures at all.
    """
    if reference.phases is None:
        raise UsageError(
            "the reference has no structures (phases.h5); those of an imported CSV never have: "
            "give a reference that `pigen hull build` made"
        )
    hull = Hull(reference)
    wanted: dict[str, str] = {}
    no_hull: Counter[str] = Counter()
    for formula, n in Counter(candidates.crystals.reduced_formulas()).items():
        try:
            wanted.update((entry.id, entry.formula) for entry in hull.stable(formula))
        except ValueError as error:
            no_hull[str(error)] += n
    chunks = [c.select(np.isin(c.ids, list(wanted))) for c in iter_bundle(reference.phases)]
    found = Bundle.concatenate(chunks)
    lacking = sorted(wanted[id_] for id_ in wanted.keys() - set(found.ids))
    return found, tuple(lacking), no_hull


def _only_structures(bundle: Bundle, kind: str) -> Bundle:
    source = "pigen dft-export"
    column = Column(strings([kind] * len(bundle)), "", source)
    kept = {} if kind == COMPETING else bundle.columns
    return replace(bundle, columns={**kept, "kind": column}, verdicts={}, rejects=())


def _with_folders(bundle: Bundle) -> Bundle:
    """With the column ``folder``: paths that differ, even if case is ignored."""
    taken: set[str] = set()
    folders = []
    for kind, id_ in zip(bundle.columns["kind"].values, bundle.ids, strict=True):
        path = numbered(f"{kind}/{safe_name(id_)}", taken)
        taken.add(path.lower())
        folders.append(path)
    return bundle.with_columns({"folder": Column(strings(folders), "", "pigen dft-export")})


def _write_manifest(path: Path, exported: Bundle) -> None:
    columns = (exported.columns["kind"].values, exported.columns["folder"].values)
    formulas = map(usual_formula, exported.crystals.reduced_formulas())
    n_atoms = exported.crystals.n_atoms.tolist()
    with replaced(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "kind", "folder", "formula", "n_atoms"])
        rows.writerows(zip(exported.ids, *columns, formulas, n_atoms, strict=True))
