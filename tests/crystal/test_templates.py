"""Templates: exact groups, and crystals put into them that have the whole symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from real_crystals import ALL
from symmetric_crystals import SYMMETRIC, farthest

from pigen.crystal.crystals import Crystals
from pigen.crystal.templates import Template, template_of, templates_of

NUMBERS = dict(zip(SYMMETRIC, (2, 12, 70, 33, 139, 166, 194, 227, 220), strict=True))


def found(crystal: Crystals) -> tuple[Template, NDArray[np.float64]]:
    return template_of(crystal.lattice[0], crystal.frac_coords, crystal.atomic_numbers)


@pytest.mark.parametrize("symbol", SYMMETRIC)
def test_the_group_is_the_crystals(symbol: str) -> None:
    crystal = SYMMETRIC[symbol]
    template, frac = found(crystal)
    assert template.space_group == NUMBERS[symbol]
    assert farthest(template, frac, crystal.atomic_numbers) < 1e-9
    # moved to the template's origin, and by no more than the crystal was rounded
    steps = frac - crystal.frac_coords
    steps -= steps[0]
    np.testing.assert_allclose(steps - np.rint(steps), 0, atol=1e-4)


@pytest.mark.parametrize("symbol", SYMMETRIC)
def test_the_operations_are_closed(symbol: str) -> None:
    template, _ = found(SYMMETRIC[symbol])
    r, t = template.rotations.astype(float), template.translations

    def keys(r: NDArray[np.float64], t: NDArray[np.float64]) -> set[bytes]:
        rows = np.concatenate([r.reshape(-1, 9), np.rint(t * 1e9) % 1e9], axis=1)
        return {row.tobytes() for row in rows.astype(np.int64)}

    both = np.einsum("gij,hjk->ghik", r, r).reshape(-1, 3, 3)
    moved = (np.einsum("gij,hj->ghi", r, t) + t[:, None]).reshape(-1, 3)
    assert len(keys(r, t)) == len(r)
    assert keys(both, moved) == keys(r, t)


@pytest.mark.parametrize("symbol", SYMMETRIC)
def test_whatever_is_put_into_a_template_has_its_symmetry(symbol: str) -> None:
    crystal = SYMMETRIC[symbol]
    template, _ = found(crystal)
    rng = np.random.default_rng(0)
    frac = template.place(rng.normal(size=crystal.frac_coords.shape))
    assert farthest(template, frac, template.orbit.astype(np.uint8)) < 1e-9
    cell = template.cell(crystal.lattice[0] + 0.3 * rng.normal(size=(3, 3)))
    metric = cell @ cell.T
    for rotation in template.rotations.astype(float):
        np.testing.assert_allclose(rotation.T @ metric @ rotation, metric, atol=1e-9)


def test_a_cell_that_has_the_symmetry_stays() -> None:
    for crystal in SYMMETRIC.values():
        cell = found(crystal)[0].cell(crystal.lattice[0])
        metric = crystal.lattice[0] @ crystal.lattice[0].T
        np.testing.assert_allclose(cell @ cell.T, metric, atol=1e-9)
        assert np.linalg.det(cell) == pytest.approx(np.linalg.det(crystal.lattice[0]))


def test_orbits_and_free_coordinates_of_spinel() -> None:
    template, _ = found(SYMMETRIC["Fd-3m"])
    assert sorted(template.multiplicities.tolist()) == [2, 4, 8]
    free = np.linalg.matrix_rank(template.projector)
    assert dict(zip(template.multiplicities.tolist(), free.tolist(), strict=True)) == {
        2: 0,
        4: 0,
        8: 1,  # u of oxygen
    }


def test_nothing_of_elements_and_places_is_in_a_template() -> None:
    crystal = SYMMETRIC["Fd-3m"]
    other = Crystals.single(
        lattice=crystal.lattice[0] * 1.07,
        frac_coords=crystal.frac_coords + 0.1,
        atomic_numbers=np.where(crystal.atomic_numbers == 8, 16, crystal.atomic_numbers),
    )
    a, b = found(crystal)[0], found(other)[0]
    for name in ("rotations", "translations", "orbit", "operation", "projector"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    free = np.einsum("mij,mj->mi", a.projector, a.special)
    np.testing.assert_allclose(free, 0, atol=1e-12)


def test_a_supercell_keeps_its_translations() -> None:
    crystal = SYMMETRIC["P6_3/mmc"]
    n = len(crystal.atomic_numbers)
    above = crystal.frac_coords + np.array([0, 0, 1.0])
    doubled = Crystals.single(
        lattice=crystal.lattice[0] * [[1.0], [1.0], [2.0]],
        frac_coords=np.concatenate([crystal.frac_coords, above]) / [1, 1, 2],
        atomic_numbers=np.tile(crystal.atomic_numbers, 2),
    )
    template, frac = found(doubled)
    assert template.n_atoms == 2 * n
    assert len(template.rotations) == 2 * len(found(crystal)[0].rotations)
    assert farthest(template, frac, doubled.atomic_numbers) < 1e-9


def test_a_crystal_without_one_is_none_and_stays() -> None:
    on_top = Crystals.single(np.eye(3), [[0, 0, 0], [0, 0, 0.001]], [1, 1])
    crystals = Crystals.concatenate([ALL[0], on_top])
    templates, frac = templates_of(crystals)
    assert templates[0] is not None
    assert templates[1] is None
    np.testing.assert_array_equal(frac[crystals.ptr[1] :], on_top.frac_coords)
