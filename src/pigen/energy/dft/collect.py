"""Energies from finished VASP calculations, and the hull they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pigen.bundle import Bundle, Column, read_bundle, strings
from pigen.energy.dft.export import CANDIDATE, EXPORTED, PRESET
from pigen.energy.dft.vasp import PAPER, PRESETS, read_energy
from pigen.energy.hull import Hull, Reference
from pigen.energy.hull.reference import Entry
from pigen.runtime.errors import UsageError

SOURCE = "VASP, vasprun.xml"


def collect(folder: Path, reference: Reference | None = None) -> tuple[Bundle, Bundle]:
    """What `export` wrote to a folder, with its energies as far as there are any.

    Args:
        folder: with ``exported.h5`` and, in each calculation's folder, vasprun.xml or
            vasprun.xml.gz.
        reference: further compounds with energies of the same settings; the hull is made of them
            and of the competing phases in the folder.

    Returns:
        Candidates with columns ``e_dft``, ``e_hull_dft`` (eV/atom), ``e_hull_dft_reason`` and
        ``dft_status`` ("" or why there is no energy), and the competing phases with ``e_dft`` and
        ``dft_status``.

    Raises:
        UsageError: nothing was exported there.
    """
    if not (folder / EXPORTED).is_file():
        raise UsageError(f"{folder}: no {EXPORTED}; not a folder of `pigen dft-export`")
    exported = read_bundle(folder / EXPORTED)
    for name in ("kind", "folder"):
        if name not in exported.columns or exported.columns[name].kind != "str":
            raise UsageError(f"{folder / EXPORTED}: no text column {name!r}")
    preset = exported.provenance.get(PRESET, PAPER)
    if preset not in PRESETS:
        raise UsageError(f"{folder / EXPORTED}: unknown preset {preset[:40]!r}")
    energies, status = np.full(len(exported), np.nan), [""] * len(exported)
    for i, crystal in enumerate(exported.crystals):
        try:
            energies[i] = read_energy(_inside(folder, exported, i), crystal, preset)
        except (ValueError, OSError) as error:
            status[i] = str(error)
    bundle = exported.with_columns(
        {
            "e_dft": Column(energies, "eV/atom", SOURCE),
            "dft_status": Column(strings(status), "", SOURCE),
        }
    )
    mine = bundle.columns["kind"].values == CANDIDATE
    candidates, competing = bundle.select(mine), bundle.select(~mine)
    return _with_hull(candidates, _reference(competing, reference)), competing


def _inside(folder: Path, exported: Bundle, i: int) -> Path:
    """The folder of a calculation; ValueError if it lies elsewhere."""
    named = Path(exported.columns["folder"].values[i])
    if named.is_absolute() or ".." in named.parts:
        raise ValueError(f"outside the folder: {str(named)[:60]!r}")
    return folder / named


def _reference(competing: Bundle, given: Reference | None) -> Reference:
    formulas = competing.crystals.reduced_formulas()
    energies = competing.columns["e_dft"].values
    entries = tuple(
        Entry(formula, float(energy), id_)
        for formula, energy, id_ in zip(formulas, energies, competing.ids, strict=True)
        if energy == energy
    )
    failed = len(competing) - len(entries)
    note = f"{len(entries)} competing phases"
    note += f" ({failed} more without energy)" if failed else ""
    if given is not None:
        note += f" and {len(given.entries)} entries of a reference, {given.note}"
    return Reference((*entries, *(given.entries if given else ())), "", note)


def _with_hull(candidates: Bundle, reference: Reference) -> Bundle:
    energies = candidates.columns["e_dft"].values
    values, reasons = Hull(reference).above(candidates.crystals.reduced_formulas(), energies)
    for i in np.flatnonzero(np.isnan(energies)):
        reasons[i] = f"no e_dft: {candidates.columns['dft_status'].values[i]}"
    source = f"{SOURCE}, hull of {reference.note}"
    return replace(
        candidates,
        columns={
            **candidates.columns,
            "e_hull_dft": Column(values, "eV/atom", source),
            "e_hull_dft_reason": Column(strings(reasons), "", source),
        },
    )
