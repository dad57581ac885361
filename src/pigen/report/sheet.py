"""The best structures on one sheet: pictures with formula, symmetry and figures, SVG and PNG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import ceil
from pathlib import Path

from markupsafe import escape

from pigen.bundle import Bundle
from pigen.crystal.elements import SYMBOLS, usual_formula
from pigen.crystal.symmetry import space_group_name
from pigen.report.content import figures_of
from pigen.report.gather import numbers
from pigen.report.picture import PAGE, ball, picture, shapes
from pigen.report.scene import scene_of

WIDTH, HEIGHT = 1920, 1080
"""Of the sheet: that of a slide."""
MOST = 24
"""Structures on a sheet; on more, nobody at the back could read."""
_MARGIN, _GAP, _HEAD = 36, 16, 72
_TILE_ASPECT = 1.45
_LINES, _LEGEND = 96, 58
"""Below the picture of a tile, and at its right."""
_INK, _MUTED = "#1b1f24", "#59636e"
_EM = 0.62
"""Width of a letter, about, in font sizes."""
_FONT = "DejaVu Sans"
"""Comes with matplotlib, so a sheet looks the same on any machine."""


def sheet(best: Bundle, title: str, remark: str, first: Sequence[str] = ()) -> str:
    """The sheet as SVG.

    Args:
        best: structures in order, at most `MOST` of which are drawn; with the columns
            ``space_group`` and those whose figures are to be shown.
        title, remark: in its head, of any text.
        first: columns whose figures come first.
    """
    shown = best.select(slice(0, MOST))
    columns, width, height = _grid(len(shown))
    tiles = []
    for i in range(len(shown)):
        x = _MARGIN + (i % columns) * (width + _GAP)
        y = _HEAD + (i // columns) * (height + _GAP)
        drawn = "".join(_tile(shown, i, width, height, first))
        tiles.append(f'<g transform="translate({x:.1f} {y:.1f})">{drawn}</g>')
    middle = _HEAD / 2 + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="{_FONT}, Verdana, sans-serif">'
        f"<defs>{shapes(shown.crystals.atomic_numbers.tolist())}</defs>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAGE}"/>'
        + _text(_MARGIN, middle, 30, escape(title), more='font-weight="bold"')
        + _text(WIDTH - _MARGIN, middle, 19, escape(remark), _MUTED, more='text-anchor="end"')
        + "".join(tiles)
        + "</svg>\n"
    )


def _grid(n: int) -> tuple[int, float, float]:
    """Columns of a sheet of n tiles, and width and height of a tile: those of the largest pictures.

    Nothing else decides, so four stand in two rows and twenty in four.
    """
    tried = []
    for columns in range(1, max(n, 1) + 1):
        rows = ceil(n / columns) or 1
        width = (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
        height = (HEIGHT - _HEAD - _MARGIN - (rows - 1) * _GAP) / rows
        tried.append((min(width / _TILE_ASPECT, height), columns, width, height))
    return max(tried)[1:]


def to_png(svg: str, width: int = WIDTH) -> bytes:
    """The picture of an SVG document as PNG, so many pixels wide."""
    import matplotlib
    import resvg_py

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [str(fonts / f"DejaVuSans{kind}.ttf") for kind in ("", "-Bold")]
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            width=width,
            skip_system_fonts=True,
            font_files=files,
            font_family=_FONT,
            sans_serif_family=_FONT,
        )
    )


def _tile(best: Bundle, i: int, width: float, height: float, first: Sequence[str]) -> Iterator[str]:
    crystal = best.crystals[i]
    yield f'<rect width="{width:.1f}" height="{height:.1f}" rx="10" fill="none" stroke="#d5dae0"/>'
    yield '<g transform="translate(10 8)">'
    yield f"{picture(scene_of(crystal), width - _LEGEND - 20, height - _LINES - 12)}</g>"
    yield _text(14, 28, 17, str(i + 1), _MUTED)
    elements = sorted(set(crystal.atomic_numbers.tolist()))
    step = min(26.0, (height - _LINES - 24) / len(elements))
    for k, z in enumerate(elements):
        y = 24 + k * step
        yield ball(z, width - _LEGEND + 6, y, 0.33 * step)
        yield _text(width - _LEGEND + 20, y + 6, 17, SYMBOLS[z])
    number = int(best.columns["space_group"].values[i])
    group = space_group_name(number) if number > 0 else ""
    room = width - 40 - 17 * _EM * len(group)
    formula = usual_formula(crystal.reduced_formulas()[0])
    size = min(25.0, room / (_EM * max(len(formula), 1)))
    yield _text(14, height - 64, size, _lowered(formula), more='font-weight="bold"')
    yield _text(width - 14, height - 64, 17, group, _MUTED, more='text-anchor="end"')
    columns = {name: numbers(column) for name, column in best.columns.items()}
    values = {name: float(column[i]) for name, column in columns.items() if column is not None}
    units = {name: column.unit for name, column in best.columns.items()}
    lines = _lines(figures_of(values, first, units), (width - 28) / (17 * _EM))
    for k, line in enumerate(islice(lines, 2)):
        yield _text(14, height - 37 + 24 * k, 17, line)


def _lines(figures: Iterable[tuple[str, str]], room: float) -> Iterator[str]:
    """Figures as markup in lines of about so many letters."""
    line: list[str] = []
    left = room
    for symbol, value in figures:
        left -= len(symbol.split("_")[0]) + 0.7 * len(symbol) + len(value) + 3
        if left < -3 and line:
            yield "&#160;&#160; ".join(line)
            line, left = [], room - len(symbol) - len(value)
        line.append(f"{_indexed(symbol)} {escape(value)}")
    yield "&#160;&#160; ".join(line)


def _text(x: float, y: float, size: float, text: str, colour: str = _INK, more: str = "") -> str:
    """One line; ``text`` is markup."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" fill="{colour}" {more}>{text}</text>'
    )


def _lowered(formula: str) -> str:
    """A formula as markup, its numbers set low."""
    parts = re.split(r"(\d+)", formula)
    return "".join(_low(part) if part.isdigit() else escape(part) for part in parts)


def _indexed(symbol: str) -> str:
    """A symbol as markup, what follows its "_" set low."""
    name, *index = symbol.split("_")
    return str(escape(name)) + (_low(" ".join(index)) if index else "")


def _low(text: str) -> str:
    # An empty run of text cannot raise the line again: what follows starts with a narrow space.
    return f'<tspan dy="5" font-size="72%">{escape(text)}</tspan><tspan dy="-5">&#8202;</tspan>'
