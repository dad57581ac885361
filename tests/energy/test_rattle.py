"""Structures on a saddle are left: rattled after relaxation, relaxed again, the lower one kept."""

from __future__ import annotations

import numpy as np
import pytest
from known_structures import known_structures

from pigen.bundle import Bundle, strings
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy import Potential, load_potential, relax
from pigen.energy.minimise import DISPLACEMENT, LEAST_GAIN, STRAIN, off_the_saddle, operations
from pigen.energy.stage import relax_bundle

EMT = "ase.calculators.emt:EMT"


@pytest.fixture(scope="module")
def emt() -> Potential:
    return load_potential(EMT)


def metal(kind: str) -> Crystals:
    """Copper as it is, or metals that their symmetry holds far above."""
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = {
        "fcc": known_structures()["Cu"].crystals,
        "simple cubic": Crystals.single(2.4 * np.eye(3), np.zeros((1, 3)), [29]),
        "rock salt": Crystals.single(
            5 * np.eye(3), np.concatenate([corners, corners + 0.5]), [29] * 4 + [79] * 4
        ),
    }
    return cells[kind]


def test_a_saddle_is_left_and_a_minimum_is_not(emt: Potential) -> None:
    kinds = Crystals.concatenate([metal(kind) for kind in ("simple cubic", "rock salt", "fcc")])
    *held, lowest = relax(kinds, emt)
    *left, same = relax(kinds, emt, rattle=True)
    for before, after in zip(held, left, strict=True):
        assert before.energy > lowest.energy + 0.3
        assert np.isnan(before.rattle_gain)
        assert after.converged
        assert after.rattle_gain == before.energy - after.energy > 0.3
        assert after.n_steps > before.n_steps
    # From one cubic group to another no operation is lost; the alloy keeps few.
    np.testing.assert_allclose(left[0].energy, lowest.energy, atol=1e-3)
    assert [one.symmetry_lost for one in left] == [False, True]
    assert operations(left[1].crystal) < operations(held[1].crystal)
    assert (same.energy, same.rattle_gain, same.symmetry_lost) == (lowest.energy, 0.0, False)
    np.testing.assert_array_equal(same.crystal.frac_coords, lowest.crystal.frac_coords)
    np.testing.assert_array_equal(same.crystal.lattice, lowest.crystal.lattice)
    assert same.n_steps > lowest.n_steps


def test_a_batch_rattles_as_one_alone_does(emt: Potential) -> None:
    kinds = Crystals.concatenate([metal(kind) for kind in ("rock salt", "fcc", "simple cubic")])
    together = relax(kinds, emt, rattle=True, max_atoms=9)
    for i, one in enumerate(together):
        (alone,) = relax(kinds[i], emt, rattle=True)
        assert (one.energy, one.n_steps) == (alone.energy, alone.n_steps)
        np.testing.assert_array_equal(one.crystal.lattice, alone.crystal.lattice)


def test_what_has_no_symmetry_is_not_rattled(emt: Potential) -> None:
    # Five elements at random, and no step: as it is, it has converged.
    places = np.random.default_rng(3).random((5, 3))
    odd = Crystals.single(np.diag([9.0, 10.0, 11.0]), places, [29, 47, 79, 28, 46])
    assert operations(odd) == 1
    (found,) = relax(odd, emt, fmax=1e3, rattle=True)
    assert (found.converged, found.n_steps, found.symmetry_lost) == (True, 1, False)
    assert np.isnan(found.rattle_gain)


def test_rattling_depends_on_the_structure_alone() -> None:
    crystal = Crystals.single(10 * np.eye(3), np.random.default_rng(0).random((500, 3)), [29] * 500)
    once, again = (off_the_saddle(crystal, crystal) for _ in range(2))
    np.testing.assert_array_equal(once.frac_coords, again.frac_coords)
    other = off_the_saddle(crystal, metal("fcc"))
    assert not np.allclose(other.frac_coords, once.frac_coords)
    strain = np.linalg.solve(crystal.lattice[0], once.lattice[0]) - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 0.0 < np.abs(strain).max() < 5 * STRAIN
    moved = (once.frac_coords - crystal.frac_coords + 0.5) % 1.0 - 0.5
    np.testing.assert_allclose((10 * moved).std(axis=0), DISPLACEMENT, rtol=0.15)


@pytest.mark.parametrize("rattle", [True, False])
def test_the_stage_records_what_rattling_gained(rattle: bool) -> None:
    bundle = Bundle(crystals=metal("simple cubic"), ids=strings(["cubic"]))
    found = relax_bundle(bundle, RelaxConfig(potential=EMT, rattle=rattle))
    gain = found.columns["rattle_gain"]
    assert gain.unit == "eV/atom"
    assert (gain.values[0] > LEAST_GAIN) if rattle else np.isnan(gain.values[0])
    assert found.columns["symmetry_lost"].kind == "bool"
    assert ("rattled" in gain.source) == rattle
