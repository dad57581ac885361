"""Cell reduction and nearest images, against the libraries that do it slowly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from known_structures import known_structures, rebased, repeated, unimodular

from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import minimum_image
from pigen.crystal.symmetry import primitive_cells

SEEDS = st.integers(0, 2**32 - 1)


def random_cell(rng: np.random.Generator) -> np.ndarray:
    while True:
        cell = rng.normal(0, 4, (3, 3))
        if abs(np.linalg.det(cell)) > 5:
            return cell


@settings(deadline=None)
@given(SEEDS)
def test_reduction_is_unimodular_and_as_short_as_ases(seed: int) -> None:
    from ase.geometry import minkowski_reduce as reference

    rng = np.random.default_rng(seed)
    lattice = unimodular(rng) @ random_cell(rng)
    cell, transform, ok = minkowski_reduce(lattice)
    assert ok
    assert round(abs(np.linalg.det(transform))) == 1
    np.testing.assert_allclose(transform @ lattice, cell, atol=1e-9)
    expected = np.sort(np.linalg.norm(reference(lattice)[0], axis=1))
    np.testing.assert_allclose(np.linalg.norm(cell, axis=1), expected, rtol=1e-9)


@settings(deadline=None)
@given(SEEDS)
@example(10_000_000)  # the nearest image is more than 8 cells away
def test_minimum_image_is_the_shortest_of_all_that_can_be(seed: int) -> None:
    # Not ase.geometry.find_mic: in skewed cells it can miss the nearest image.
    rng = np.random.default_rng(seed)
    lattice = random_cell(rng)
    start, stop = rng.random((2, 3))
    # An image nearer than the one given is at most so many cells away along each height.
    bound = np.linalg.norm((stop - start) @ lattice)
    reach = np.ceil(bound * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int) + 1
    assume(np.prod(2.0 * reach + 1) < 2e6)
    shifts = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach)), -1).reshape(-1, 3)
    expected = np.linalg.norm((stop - start + shifts) @ lattice, axis=1).min()
    matrix = unimodular(rng)
    cell, transform, _ = minkowski_reduce(matrix @ lattice)
    coords = reduced_coords(np.array([start, stop]) @ np.linalg.inv(matrix), transform)
    assert minimum_image(cell, coords[0], coords[1]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("lattice", [np.zeros((3, 3)), np.diag([5, 5, 1e-9]), np.ones((3, 3))])
def test_degenerate_cells_are_refused(lattice: np.ndarray) -> None:
    assert not minkowski_reduce(lattice)[2]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(known_structures())), SEEDS)
def test_primitive_cell_of_a_supercell_is_spglibs(name: str, seed: int) -> None:
    import spglib

    rng = np.random.default_rng(seed)
    crystal = known_structures()[name].crystals
    times = (int(rng.integers(1, 3)), int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    supercell = rebased(repeated(crystal, times), unimodular(rng))
    primitive, reasons = primitive_cells(supercell)
    expected = spglib.find_primitive(
        (supercell.lattice[0], supercell.frac_coords, supercell.atomic_numbers), symprec=0.01
    )
    assert reasons[0] == ""
    assert primitive.n_atoms[0] == len(expected[2])
    assert primitive.volume[0] == pytest.approx(abs(np.linalg.det(expected[0])))
    assert primitive.reduced_formulas() == crystal.reduced_formulas()


def test_copies_within_the_tolerance_are_averaged() -> None:
    frac = [[0, 0, 0], [0.5004, 0, 0]]  # 2.4 mÅ off an exact half
    doubled = Crystals.single(np.diag([6, 3, 3]), frac, [29, 29])
    assert primitive_cells(doubled, 0.01)[0].n_atoms.tolist() == [1]
    assert primitive_cells(doubled, 0.001)[0].n_atoms.tolist() == [2]


def test_other_elements_or_places_are_no_translation() -> None:
    ordered = Crystals.single(np.diag([6, 3, 3]), [[0, 0, 0], [0.5, 0, 0]], [29, 28])
    dimer = Crystals.single(np.diag([6, 3, 3]), [[0, 0, 0], [0.45, 0, 0]], [29, 29])
    both = Crystals.concatenate([ordered, dimer])
    assert primitive_cells(both)[0].n_atoms.tolist() == [2, 2]
