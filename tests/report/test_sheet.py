"""Pictures of crystals: what bonds are drawn, that all is seen, and the sheet as SVG and PNG."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from known_structures import known_structures

from pigen.bundle import Bundle, Column, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.report.content import figures_of
from pigen.report.picture import picture, shapes
from pigen.report.scene import bond_lengths, scene_of
from pigen.report.sheet import MOST, _grid, sheet, to_png

EVIL = '</text><script>alert("1")</script>'


def crystal(name: str) -> Crystals:
    return known_structures()[name].crystals[0]


def test_perovskite_has_its_octahedron_and_its_corners() -> None:
    scene = scene_of(crystal("SrTiO3"))
    counts = Counter(scene.numbers.tolist())
    titanium = int(np.flatnonzero(scene.numbers == Z_OF["Ti"])[0])
    drawn = {Z_OF["Sr"]: 8, Z_OF["Ti"]: 1, Z_OF["O"]: 6}
    origin_at_titanium = {Z_OF["Sr"]: 1, Z_OF["Ti"]: 8, Z_OF["O"]: 12}
    assert counts in (drawn, origin_at_titanium)
    if counts == drawn:
        assert int((scene.bonds == titanium).sum()) == 6
    pairs = {frozenset(scene.numbers[pair].tolist()) for pair in scene.bonds}
    assert frozenset((Z_OF["Sr"], Z_OF["Ti"])) not in pairs  # no bond between cations


def test_a_primitive_cell_is_drawn_as_the_conventional_one() -> None:
    salt = Crystals.single(
        2.82 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), [[0, 0, 0], [0.5] * 3], [11, 17]
    )
    scene = scene_of(salt)
    assert len(scene.numbers) == 27
    np.testing.assert_allclose(np.linalg.norm(scene.cell, axis=1), 5.64, rtol=1e-6)
    assert len(scene.bonds) == 54
    apart = np.linalg.norm(
        scene.positions[scene.bonds[:, 0]] - scene.positions[scene.bonds[:, 1]], axis=1
    )
    np.testing.assert_allclose(apart, 2.82, rtol=1e-6)


def test_a_metal_has_bonds_to_its_nearest_neighbours_alone() -> None:
    iron = Crystals.single(2.866 * np.eye(3), [[0, 0, 0], [0.5] * 3], [26, 26])
    ((pair, length),) = bond_lengths(iron).items()
    assert pair == (26, 26)
    assert 2.482 < length < 2.866
    assert len(scene_of(iron).bonds) == 8


def test_a_picture_stays_in_its_box_and_refers_to_its_shapes() -> None:
    for name in ("MgO", "LiCoO2"):
        scene = scene_of(crystal(name))
        drawn = picture(scene, 300, 200)
        ElementTree.fromstring(drawn)
        for x, y, radius in re.findall(r"translate\((\S+) (\S+)\)scale\((\S+)\)", drawn):
            assert -0.2 <= float(x) - float(radius)
            assert float(x) + float(radius) <= 300.2
            assert -0.2 <= float(y) - float(radius)
            assert float(y) + float(radius) <= 200.2
        shown = shapes(scene.numbers.tolist())
        assert set(re.findall(r'href="#([^"]+)"', drawn)) <= set(re.findall(r'id="([^"]+)"', shown))
        assert len(re.findall("scale", drawn)) == len(scene.numbers)


def best(n: int = 3) -> Bundle:
    names = ("MgO", "SrTiO3", "LiCoO2")
    one = Bundle(
        crystals=Crystals.concatenate([crystal(name) for name in names]),
        ids=strings(names),
        columns={
            "space_group": Column(np.array([225, 221, -1]), "", ""),
            "e_hull_est": Column(np.array([0.012, -0.03, np.nan]), "eV/atom", ""),
            "e_hull_est_sd": Column(np.array([0.05, 0.04, np.nan]), "eV/atom", ""),
            "mine": Column(np.array([1.5, np.nan, 2.0]), "GPa", ""),
        },
    )
    return one.select(np.arange(n) % 3)


def test_sheet_says_formula_group_and_figures_with_errors() -> None:
    drawn = sheet(best(), EVIL, "by mine", ["mine"])
    root = ElementTree.fromstring(drawn)
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert EVIL in texts
    assert "Fm-3m (225)" in texts
    assert any("mine 1.500 GPa" in text and "12 ± 50 meV/atom" in text for text in texts)
    assert any("−30 ± 40 meV/atom" in text for text in texts)
    values = {"c": float("nan"), "e_hull_est": 0.012, "e_hull_est_sd": 0.05}
    assert list(figures_of(values)) == [("E_hull_est", "12 ± 50 meV/atom")]
    png = to_png(drawn, 640)
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 640


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (4, 2), (10, 4), (20, 5), (24, 6)])
def test_tiles_are_as_large_as_they_can_be(n: int, columns: int) -> None:
    assert _grid(n)[0] == columns


@pytest.mark.parametrize(("n", "tiles"), [(0, 0), (1, 1), (MOST + 1, MOST)])
def test_sheet_of_any_number(n: int, tiles: int) -> None:
    drawn = sheet(best(n), "some", "")
    ElementTree.fromstring(drawn)
    assert drawn.count('class="crystal"') == tiles
