"""The list of survivors: names people know them by, symmetry, figures, and their CIFs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np

from pigen.bundle import Bundle
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, atomic_radii
from pigen.crystal.symmetry import space_group_number, symmetry_of_each
from pigen.io.export import safe_name, to_cif
from pigen.report.content import Cell, Entry, Heading, Listing, Look, View
from pigen.report.gather import E_HULL, N_ATOMS, Survivor, numbers

SYMPREC = 0.1
"""Å, tolerance of the space groups listed: that of K."""
_UNKNOWN_RADIUS = 1.5
"""Å, for drawing the few elements without an atomic radius."""


def listing_of(survivors: Sequence[Survivor], total: int, relaxed: Bundle | None = None) -> Listing:
    """The list.

    Args:
        survivors: to be listed.
        total: survivors there are.
        relaxed: the survivors after relaxation, each naming its parent, with their ``e_hull``.
    """
    after = _by_parent(relaxed) if relaxed is not None else {}
    with_hull = relaxed is not None or any(E_HULL in s.values for s in survivors)
    with_prototype = any("prototype" in s.texts for s in survivors)
    headings = [Heading("Formula", numeric=False), Heading("Space group", numeric=False)]
    if relaxed is not None:
        headings.append(Heading("Relaxed", "space group", numeric=False))
    headings += [
        *(Heading("Atoms"), Heading("C"), Heading("M_LED", "bits"), Heading("SPP")),
        Heading("K", "bits/atom"),
        *([Heading("E_hull", "meV/atom")] if with_hull else []),
        *([Heading("Prototype", numeric=False)] if with_prototype else []),
        Heading("Id", numeric=False),
    ]
    entries = []
    for survivor in survivors:
        crystal, relaxation = survivor.crystal, after.get(survivor.id)
        values, texts = survivor.values, survivor.texts
        cells = [_formula(crystal), _space_group(crystal)]
        if relaxed is not None:
            cells.append(_space_group(relaxation.crystal) if relaxation else Cell("–", None))
        cells += [
            _figure(values[N_ATOMS], 0),
            _figure(values["c"], 3),
            _figure(values["mled"], 2),
            _figure(values["spp"], 3),
            _figure(values["k"], 2),
        ]
        if with_hull:
            said = relaxation or survivor
            reason = said.texts.get("e_hull_reason", "")
            cells.append(_figure(1000 * said.values.get(E_HULL, np.nan), 0, reason))
        if with_prototype:
            name = texts.get("prototype", "")
            cells.append(Cell(name or "none", name or None))
        cells.append(Cell(survivor.id, survivor.id))
        views = [_view("as generated" if relaxed is not None else "", survivor)]
        if relaxation:
            views.append(_view("relaxed", relaxation))
        entries.append(Entry(tuple(cells), tuple(views)))
    return Listing(tuple(headings), tuple(entries), total, _looks(survivors))


def _by_parent(relaxed: Bundle) -> dict[str, Survivor]:
    energies = numbers(relaxed.columns.get(E_HULL))
    reasons = relaxed.columns.get("e_hull_reason")
    return {
        relaxed.parents[i]: Survivor(
            id=relaxed.ids[i],
            crystal=crystal,
            values={E_HULL: float(energies[i])} if energies is not None else {},
            texts={"e_hull_reason": str(reasons.values[i])} if reasons else {},
        )
        for i, crystal in enumerate(relaxed.crystals)
    }


def _formula(crystal: Crystals) -> Cell:
    """In the usual order of elements, e.g. ``SrTiO3``; sorts by it."""
    from pymatgen.core import Composition

    key = crystal.reduced_formulas()[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # Ar goes last
        formula = Composition(key).reduced_formula if key else "–"
    return Cell(formula, formula)


def _space_group(crystal: Crystals) -> Cell:
    """Symbol and number at `SYMPREC`; sorts by number."""
    import gemmi

    found, reasons = symmetry_of_each(crystal, SYMPREC, space_group_number)
    if reasons[0]:
        return Cell("–", None, str(reasons[0]))
    group = gemmi.find_spacegroup_by_number(found[0])
    symbol = group.short_name().replace("H", "R", 1)  # gemmi tells hexagonal axes by an H
    return Cell(f"{symbol} ({found[0]})", float(found[0]))


def _figure(value: float, digits: int, reason: str = "") -> Cell:
    if isnan(value):
        return Cell("–", None, reason)
    return Cell(f"{value:.{digits}f}".replace("-", "−"), value)


def _view(label: str, survivor: Survivor) -> View:
    text = to_cif(survivor.crystal, survivor.id)
    return View(label, f"{safe_name(survivor.id)}.cif", text)


def _looks(survivors: Sequence[Survivor]) -> Mapping[str, Look]:
    """Jmol's colours, as ASE has them, and the radii that C is made of."""
    from ase.data.colors import jmol_colors

    radii = np.nan_to_num(atomic_radii(), nan=_UNKNOWN_RADIUS)
    present = {int(z) for s in survivors for z in s.crystal.atomic_numbers}
    looks = {}
    for z in sorted(present):
        rgb = np.rint(255 * jmol_colors[z]).astype(int)
        looks[SYMBOLS[z]] = Look("#" + "".join(f"{x:02x}" for x in rgb), float(radii[z]))
    return looks
