"""One crystal as a picture: a scene turned, set in perspective and written as SVG.

Atoms are shaded spheres, bonds sticks of two colours, and what is far away fades into the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.elements import SYMBOLS
from pigen.report.scene import Floats, Scene, colours, covalent_radii

_Place: TypeAlias = Callable[[Floats], tuple[Floats, Floats, Floats]]
"""Points (n, 3) in Å → places (n, 2), depths (n,) and scales (n,) on the picture."""

PAGE = "#ffffff"
"""Colour of the page behind a picture; the class ``fog`` lets a style sheet set another."""
_EYE = 7.0
"""Distance of the eye, in half diagonals of the scene: a weak perspective."""
_LEVELS = 6
_EDGE = "#48525c"
_FOG = 0.5
"""How far the farthest things fade into the page."""
_STICK = 0.13
"""Å, half the width of a bond."""
_PIECES = 10
"""In which an edge of the cell is cut, so that atoms can hide a part of it."""
_MARGIN = 0.04
_AZIMUTHS = (-20.0, -35.0, 18.0, 33.0)
_TILTS = (12.0, 22.0)
"""Degrees: the directions from which a crystal is seen are tried, the best one is drawn."""
_STANDING = 1.15
"""How much a picture with c upwards is preferred to one that lies on its side."""
_GRID = 56


@dataclass(frozen=True, eq=False)
class _Seen:
    """A scene from one direction.

    Attributes:
        turn: (3, 3) rows: right, up and towards the eye.
        reach: Å, half diagonal of what is drawn.
        low, high: (2,) Å, corners of the picture before it is scaled.
    """

    turn: Floats
    reach: float
    low: Floats
    high: Floats

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Places (n, 2) in Å, depths (n,) from −1, far, to 1, and magnifications (n,)."""
        right, up, depth = (points @ self.turn.T).T
        near = _EYE * self.reach / (_EYE * self.reach - depth)
        return np.stack([right * near, up * near], axis=1), depth / self.reach, near


def drawn_radii(numbers: NDArray[np.int64]) -> Floats:
    """Å, radii (n,) of the spheres: smaller than atoms are, and less unlike."""
    radii: Floats = 0.2 + 0.27 * covalent_radii()[numbers]
    return radii


def picture(scene: Scene, width: float, height: float) -> str:
    """The scene as one SVG group that fills a box, its corner at the origin.

    It refers to the shapes of `shapes`, which stand once in a document.

    Args:
        scene: what is drawn.
        width, height: of the box, in the units of the drawing.
    """
    seen = _best(scene, width / height)
    size = (1 - 2 * _MARGIN) * np.array([width, height])
    scale = float(min(size / (seen.high - seen.low)))
    middle = (seen.low + seen.high) / 2

    def place(points: Floats) -> tuple[Floats, Floats, Floats]:
        at, depth, near = seen.project(points)
        at = (at - middle) * scale * (1, -1) + (width / 2, height / 2)
        return at, depth, scale * near

    items = [*_atoms(scene, place), *_sticks(scene, place), *_edges(scene, place)]
    drawn = "".join(text for _, text in sorted(items, key=lambda item: item[0]))
    return f'<g class="crystal" stroke="{_EDGE}" stroke-width="1.1" fill="none">{drawn}</g>'


def shapes(numbers: Iterable[int], page: str = PAGE) -> str:
    """Spheres and sticks of these elements at every depth, for the ``<defs>`` of a document.

    Args:
        numbers: atomic numbers.
        page: colour of the page behind the pictures.
    """
    written = []
    for z in sorted(set(numbers)):
        name, colour = SYMBOLS[z], colours()[z]
        light, dark = _mixed(colour, 255, 0.2), _mixed(colour, 0, 0.2)
        sphere = (
            *((0, _mixed(colour, 255, 0.75)), (0.35, light), (0.75, dark)),
            *((0.97, _mixed(colour, 0, 0.45)), (1, _mixed(colour, 0, 0.65))),
        )
        stick = (
            *((0, _mixed(colour, 0, 0.5)), (0.15, dark), (0.35, _mixed(colour, 255, 0.45))),
            *((0.7, dark), (1, _mixed(colour, 0, 0.6))),
        )
        written.append(
            f'<radialGradient id="ball-{name}" cx=".42" cy=".4" fx=".34" fy=".28" r=".6">'
            f"{_stops(sphere)}</radialGradient>"
            f'<linearGradient id="bar-{name}" x1="0" y1="0" x2="0" y2="1">'
            f"{_stops(stick)}</linearGradient>"
        )
        for level in range(_LEVELS + 1):
            fog = f'class="fog" fill="{page}" opacity="{_FOG * level / _LEVELS:.2f}"'
            ball, bar = f"url(#ball-{name})", f"url(#bar-{name})"
            written.append(
                f'<g id="{name}-{level}" stroke="none"><circle r="1" fill="{ball}"/>'
                + (f'<circle r="1.02" {fog}/>' if level else "")
                + f'</g><g id="{name}-{level}-bond" stroke="none">'
                + f'<rect y="-1" width="1" height="2" fill="{bar}"/>'
                + (f'<rect y="-1" width="1" height="2" {fog}/>' if level else "")
                + "</g>"
            )
    return "".join(written)


def ball(z: int, x: float, y: float, radius: float, level: int = 0) -> str:
    """One shaded sphere, as SVG."""
    at = f"translate({x:.1f} {y:.1f})scale({radius:.1f})"
    return f'<use href="#{SYMBOLS[z]}-{level}" transform="{at}"/>'


def _stops(stops: Iterable[tuple[float, str]]) -> str:
    return "".join(f'<stop offset="{at:g}" stop-color="{colour}"/>' for at, colour in stops)


# -- the direction -------------------------------------------------------------------------------
def _best(scene: Scene, aspect: float) -> _Seen:
    """From where most of the atoms is seen, and large."""
    found, best = None, -1.0
    radii = drawn_radii(scene.numbers)
    for lying in (False, True):
        for azimuth in _AZIMUTHS:
            for tilt in _TILTS:
                seen = _from(scene, radii, azimuth, tilt, lying)
                merit = _filled(scene, radii, seen, aspect) * (1 if lying else _STANDING)
                if merit > best:
                    found, best = seen, merit
    assert found is not None
    return found


def _from(scene: Scene, radii: Floats, azimuth: float, tilt: float, lying: bool) -> _Seen:
    a, t = np.radians([azimuth, tilt])
    # Seen along −x the axis b points to the right and c upwards; lying, c points to the right.
    axes = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    axes = axes[[1, 0, 2]] * np.array([[1], [-1], [1]]) if lying else axes
    around = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    over = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    corners = _corners(scene.cell)
    reach = max(
        float((np.linalg.norm(scene.positions, axis=1) + radii).max()),
        float(np.linalg.norm(corners, axis=1).max()),
    )
    seen = _Seen(over @ around @ axes, reach, np.zeros(2), np.zeros(2))
    at, _, near = seen.project(scene.positions)
    radius = (radii * near)[:, None]
    ends, _, _ = seen.project(corners)
    low = np.minimum((at - radius).min(axis=0), ends.min(axis=0))
    high = np.maximum((at + radius).max(axis=0), ends.max(axis=0))
    return _Seen(seen.turn, reach, low, high)


def _filled(scene: Scene, radii: Floats, seen: _Seen, aspect: float) -> float:
    """The share of a box of this aspect that atoms cover when the scene fills it."""
    at, _, near = seen.project(scene.positions)
    span = seen.high - seen.low
    box = np.array([max(span[0], span[1] * aspect), max(span[1], span[0] / aspect)])
    grid = [seen.low[k] + span[k] / 2 + box[k] * (np.arange(_GRID) / _GRID - 0.5) for k in (0, 1)]
    across = (grid[0][:, None, None] - at[:, 0]) ** 2
    along = (grid[1][None, :, None] - at[:, 1]) ** 2
    return float((across + along < (radii * near) ** 2).any(axis=2).mean())


def _corners(cell: Floats) -> Floats:
    return (np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) - 0.5) @ cell


# -- what is painted, with its depth -------------------------------------------------------------
def _atoms(scene: Scene, place: _Place) -> Iterator[tuple[float, str]]:
    at, depth, near = place(scene.positions)
    radii = drawn_radii(scene.numbers) * near
    for z, (x, y), d, radius in zip(scene.numbers.tolist(), at, depth, radii, strict=True):
        yield d, ball(z, x, y, radius, _level(d))


def _sticks(scene: Scene, place: _Place) -> Iterator[tuple[float, str]]:
    """Half a bond each, from the surface of its atom to the middle."""
    radii = drawn_radii(scene.numbers)
    for pair in scene.bonds.tolist():
        middle = scene.positions[pair].mean(axis=0)
        for i in pair:
            along = middle - scene.positions[i]
            start = scene.positions[i] + along * min(0.9 * radii[i] / np.linalg.norm(along), 0.9)
            (p, q), depth, near = place(np.stack([start, middle]))
            (x, y), half = q - p, _STICK * float(near.mean())
            length = max(float(np.hypot(x, y)), 1e-6)
            # The unit stick lies along x; its upper half is the lit one, whichever way it turns.
            side = half / length * (1 if x >= 0 else -1)
            turn = " ".join(f"{v:.1f}" for v in (x, y, -y * side, x * side, *p))
            name = f"#{SYMBOLS[scene.numbers[i]]}-{_level(depth.mean())}-bond"
            yield float(depth.mean()), f'<use href="{name}" transform="matrix({turn})"/>'


def _edges(scene: Scene, place: _Place) -> Iterator[tuple[float, str]]:
    """Pieces of the edges of the cell, but those inside an atom."""
    radii = drawn_radii(scene.numbers)
    steps = np.linspace(0, 1, _PIECES + 1)
    for axis, u, v in product(range(3), (0, 1), (0, 1)):
        frac = np.zeros((_PIECES + 1, 3))
        frac[:, axis], frac[:, axis - 1], frac[:, axis - 2] = steps, u, v
        points = (frac - 0.5) @ scene.cell
        at, depth, _ = place(points)
        middles = (points[1:] + points[:-1]) / 2
        inside = np.linalg.norm(middles[:, None] - scene.positions, axis=2) < radii
        for i in np.flatnonzero(~inside.any(axis=1)):
            (x, y), (to_x, to_y) = at[i], at[i + 1]
            d = float(depth[i] + depth[i + 1]) / 2
            faint = 1 - _FOG * _level(d) / _LEVELS
            path = f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" opacity="{faint:.2f}"/>'
            yield d, path


def _level(depth: float) -> int:
    """How far it fades: 0, not at all, to `_LEVELS`."""
    return round(_LEVELS * min(max((0.6 - float(depth)) / 1.6, 0.0), 1.0))


def _mixed(colour: str, towards: int, share: float) -> str:
    levels = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(x + share * (towards - x)):02x}" for x in levels)
