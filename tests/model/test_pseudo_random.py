"""Pseudo-random cells keep their promises on separation, sizes, elements and seeds."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pigen.bundle import Bundle
from pigen.config import PseudoRandomConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.model.pseudo_random import pseudo_random_bundles, pseudo_random_crystal

ELEMENTS = SYMBOLS[1:84]


def generate(config: PseudoRandomConfig, n: int, seed: int = 0, **options: int) -> Bundle:
    return Bundle.concatenate(list(pseudo_random_bundles(config, n, seed, ELEMENTS, **options)))


def shortest(crystal: Crystals, reach: int = 3) -> float:
    """Least distance over all images within ``reach`` cells, by brute force."""
    axis = np.arange(-reach, reach + 1)
    shifts = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    frac = crystal.frac_coords
    vectors = (frac[:, None, None] - frac[None, :, None] + shifts) @ crystal.lattice[0]
    distances = np.linalg.norm(vectors, axis=-1)
    same = np.eye(len(frac), dtype=bool)[..., None] & np.all(shifts == 0, axis=-1)
    return float(distances[~same].min())


def test_settings_hold_in_every_cell() -> None:
    config = PseudoRandomConfig()
    crystals = generate(config, 300, seed=3).crystals
    assert len(crystals) == 300
    assert set(crystals.n_atoms.tolist()) == set(range(1, 21))
    per_atom = crystals.volume / crystals.n_atoms
    assert per_atom.min() >= 5 - 1e-9
    assert per_atom.max() <= 40 + 1e-9
    assert {int(z) for z in crystals.atomic_numbers} <= {Z_OF[e] for e in ELEMENTS}
    for crystal in crystals[:100]:
        assert shortest(crystal) >= config.min_separation


def test_dense_and_small_cells_stay_apart() -> None:
    """Own images count too: a one-atom cell below 1 Å^3 has to be made larger."""
    for config in (
        PseudoRandomConfig(n_atoms=(1, 3), volume_per_atom=(0.05, 0.5)),
        PseudoRandomConfig(n_atoms=(20, 20), volume_per_atom=(0.05, 0.5)),
        PseudoRandomConfig(n_atoms=(2, 5), min_separation=2.5, volume_per_atom=(5.0, 10.0)),
    ):
        for crystal in generate(config, 10).crystals:
            assert shortest(crystal, reach=4) >= config.min_separation


def test_crystal_depends_on_seed_and_index_alone() -> None:
    config = PseudoRandomConfig()
    whole = generate(config, 40, seed=5)
    resumed = generate(config, 40, seed=5, start=17, chunk_size=3)
    assert list(resumed.ids) == list(whole.ids[17:])
    np.testing.assert_array_equal(resumed.crystals.lattice, whole.crystals.lattice[17:])
    np.testing.assert_array_equal(
        resumed.crystals.frac_coords, whole.crystals[np.arange(17, 40)].frac_coords
    )
    alone = pseudo_random_crystal(config, 5, 9, ELEMENTS)
    np.testing.assert_array_equal(alone.frac_coords, whole.crystals[9].frac_coords)
    other = pseudo_random_crystal(config, 6, 9, ELEMENTS)
    assert not np.array_equal(other.lattice, alone.lattice)


def test_sizes_and_elements_are_uniform() -> None:
    crystals = generate(PseudoRandomConfig(), 4000, seed=1).crystals
    assert crystals.n_atoms.mean() == pytest.approx(10.5, abs=0.4)
    counts = np.bincount(crystals.atomic_numbers, minlength=104)[1:84]
    expected = len(crystals.atomic_numbers) / len(ELEMENTS)
    assert abs(counts / expected - 1).max() < 0.25


def test_hopeless_settings_end() -> None:
    config = PseudoRandomConfig(
        n_atoms=(60, 60), min_separation=5.0, volume_per_atom=(0.001, 0.002)
    )
    started = time.perf_counter()
    assert len(generate(config, 3)) == 3
    assert time.perf_counter() - started < 10
