"""The view in three dimensions, by the library weas-widget: what it is given, and its script.

The script is taken from the installed wheel when a page is written: 1.1 MB, with bonds, polyhedra
and atoms on the faces of the cell. It is given the cell, the bonds and the colours that pictures
have too (`scene.py`).
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pigen.bundle import Bundle
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, usual_formula
from pigen.report.scene import Floats, bond_lengths, colours, covalent_radii, drawn_cell, upright
from pigen.runtime.errors import UsageError

MISSING = "views in three dimensions need weas-widget: pip install 'pigen[report]' brings it"
SETTINGS: dict[str, Any] = {
    "boundary": [[-0.01, 1.01]] * 3,
    "modelStyle": 1,
    "cameraSetting": {"direction": [0.35, 0.3, 1]},
    "guiConfig": {"controls": {"enabled": False}, "buttons": {"enabled": False}},
}
"""Of every view: atoms on the faces of the cell, balls and sticks, no panel of its own."""
_AXES = [1, 2, 0]
"""The library looks along its last axis with the second one upwards: b to the right, c upwards."""
_EXPORT = re.compile(r"export\s*\{\s*(\w+) as default\s*\};?")
_WIDGET_MOST = 200
"""Structures that a widget of a notebook holds."""


def viewer_script() -> str:
    """The library's script, which leaves its widget as ``crystalViewer``; "" if it is not there."""
    spec = find_spec("weas_widget")
    if spec is None or not spec.submodule_search_locations:
        return ""
    path = Path(spec.submodule_search_locations[0]) / "static" / "widget.js"
    text, n = _EXPORT.subn(r"globalThis.crystalViewer = \1;", path.read_text(encoding="utf-8"))
    # In a page, nothing in a script may look like its end.
    return text.replace("</script", r"<\/script").replace("<!--", r"<\!--") if n == 1 else ""


def viewed(crystal: Crystals) -> dict[str, Any]:
    """The library's settings for one crystal: conventional cell, atoms, colours, longest bonds."""
    drawn = drawn_cell(crystal)
    cell = upright(drawn.lattice[0])[:, _AXES]
    symbols = [SYMBOLS[z] for z in drawn.atomic_numbers]
    positions = drawn.frac_coords @ cell
    colour = {z: _levels(colours()[z]) for z in np.unique(drawn.atomic_numbers).tolist()}
    bonds = {
        f"{SYMBOLS[a]}-{SYMBOLS[b]}": {
            **{"specie1": SYMBOLS[a], "specie2": SYMBOLS[b]},
            **{"color1": colour[a], "color2": colour[b]},
            **{"min": 0, "max": round(length, 3), "type": 0},
        }
        for (a, b), length in bond_lengths(drawn).items()
    }
    return {
        "atoms": {
            "species": {symbol: symbol for symbol in symbols},
            "cell": [round(float(x), 4) for x in cell.ravel()],
            "symbols": symbols,
            "positions": [[round(float(x), 3) for x in at] for at in positions],
            "attributes": {"atom": {}, "species": {}},
            "pbc": [True] * 3,
        },
        "speciesSettings": {
            SYMBOLS[z]: {
                **{"element": SYMBOLS[z], "symbol": SYMBOLS[z], "color": levels},
                "radius": round(float(covalent_radii()[z]), 2),
            }
            for z, levels in colour.items()
        },
        "bondSettings": bonds,
    }


def parameters(cell: Floats) -> str:
    """Cell parameters in words, Å and degrees.

    Args:
        cell: (3, 3) Å, rows a, b, c.
    """
    lengths = np.linalg.norm(cell, axis=1)
    cosines = [cell[i] @ cell[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    said = [f"{name} = {x:.3f}" for name, x in zip("abc", lengths, strict=True)]
    return f"{', '.join(said)} Å; " + ", ".join(
        f"{name} = {x:.1f}°" for name, x in zip("αβγ", angles, strict=True)
    )


def widget(bundle: Bundle) -> Any:
    """A widget of a notebook that shows structures, one at a time.

    Raises:
        UsageError: weas-widget is not installed, or there is no structure.
    """
    if not len(bundle):
        raise UsageError("no structure to look at")
    try:
        from ipywidgets import Dropdown, VBox
        from weas_widget.base_widget import BaseWidget
    except ImportError:
        raise UsageError(MISSING) from None
    viewer: Any = BaseWidget(**SETTINGS, **viewed(bundle.crystals[0]))

    def show(change: Any) -> None:
        for name, value in viewed(bundle.crystals[change["new"]]).items():
            setattr(viewer, name, value)

    formulas = map(usual_formula, bundle.crystals.reduced_formulas())
    named = zip(formulas, bundle.ids, range(_WIDGET_MOST), strict=False)
    chosen = Dropdown(options=[(f"{formula}  {one}", i) for formula, one, i in named])
    chosen.observe(show, names="value")
    return VBox([chosen, viewer])


def _levels(colour: str) -> list[float]:
    """Red, green and blue from 0 to 1."""
    return [round(int(colour[k : k + 2], 16) / 255, 3) for k in (1, 3, 5)]
