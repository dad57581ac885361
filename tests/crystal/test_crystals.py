"""The ragged batch: what it accepts, how it is cut and joined, and its edges to other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_crystals import ALL, COPPER, NACL, PEROVSKITE, QUARTZ

from pigen.crystal.crystals import Crystals, wrap
from pigen.crystal.elements import file_formula, usual_formula

BATCH = Crystals.concatenate(ALL)


def same(a: Crystals, b: Crystals) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("lattice", "frac_coords", "atomic_numbers", "ptr")
    )


def test_counts() -> None:
    assert len(BATCH) == 4
    assert BATCH.n_atoms.tolist() == [2, 1, 5, 9]
    assert BATCH.batch.tolist() == [0] * 2 + [1] + [2] * 5 + [3] * 9
    np.testing.assert_allclose(BATCH.volume[1], 3.61**3 / 4)


def test_a_left_handed_cell_has_a_volume() -> None:
    assert Crystals.single(-np.eye(3), [[0, 0, 0]], [1]).volume == pytest.approx([1.0])


@pytest.mark.parametrize("i", [0, 1, 3, -1])
def test_taking_one_out_gives_it_back(i: int) -> None:
    assert same(BATCH[i], ALL[i])


def test_taking_out_by_mask_indices_and_slice() -> None:
    picked = Crystals.concatenate([ALL[3], ALL[1]])
    assert same(BATCH[np.array([3, 1])], picked)
    assert same(BATCH[np.array([False, True, False, True])], picked[np.array([1, 0])])
    assert same(BATCH[1:3], Crystals.concatenate([COPPER, PEROVSKITE]))
    assert len(BATCH[np.array([], dtype=int)]) == 0


def test_a_number_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        BATCH[4]


def test_iterating_gives_batches_of_one() -> None:
    assert all(same(a, b) for a, b in zip(BATCH, ALL, strict=True))


def test_nothing_concatenated_is_empty() -> None:
    assert len(Crystals.concatenate([])) == 0
    assert same(Crystals.concatenate([Crystals.empty(), NACL, Crystals.empty()]), NACL)


def test_immutable_and_inputs_are_not_shared() -> None:
    lattice = np.eye(3)[None] * 4.0
    crystal = Crystals(
        lattice=lattice, frac_coords=np.zeros((1, 3)), atomic_numbers=[1], ptr=[0, 1]
    )
    lattice[0, 0, 0] = 9.0
    assert crystal.lattice[0, 0, 0] == 4.0
    with pytest.raises(ValueError, match="read-only"):
        crystal.lattice[0, 0, 0] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lattice": np.eye(3)}, r"shape \(B, 3, 3\)"),
        ({"ptr": [0]}, "ptr must have shape"),
        ({"ptr": [1, 1]}, "start at 0"),
        ({"frac_coords": np.zeros((2, 3))}, r"frac_coords must have shape \(1, 3\), got \(2, 3\)"),
        ({"frac_coords": [[np.nan, 0, 0]]}, "finite"),
        ({"lattice": np.full((1, 3, 3), np.inf)}, "finite"),
        ({"atomic_numbers": [0]}, "1 … 103"),
        ({"atomic_numbers": [104]}, "1 … 103"),
        ({"atomic_numbers": [1, 2]}, "atomic_numbers must have shape"),
    ],
)
def test_what_cannot_be_a_batch(change: dict[str, object], message: str) -> None:
    good = {
        "lattice": np.eye(3)[None],
        "frac_coords": np.zeros((1, 3)),
        "atomic_numbers": [1],
        "ptr": [0, 1],
    }
    with pytest.raises(ValueError, match=message):
        Crystals(**{**good, **change})  # type: ignore[arg-type]


@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e6, 1e6)))
def test_wrapping_stays_below_one(frac: np.ndarray) -> None:
    wrapped = wrap(frac)
    assert (wrapped >= 0).all()
    assert (wrapped < 1).all()


def test_wrapping_a_hair_below_zero() -> None:
    assert wrap(np.array([[-1e-17, 0.0, 1.0]])).tolist() == [[0.0, 0.0, 0.0]]


def test_pymatgen_and_back() -> None:
    again = Crystals.from_pymatgen(BATCH.to_pymatgen())
    np.testing.assert_allclose(again.lattice, BATCH.lattice, atol=1e-12)
    np.testing.assert_allclose(again.frac_coords, BATCH.frac_coords, atol=1e-12)
    assert again.atomic_numbers.tolist() == BATCH.atomic_numbers.tolist()


def test_disorder_does_not_pass_from_pymatgen() -> None:
    from pymatgen.core import Lattice, Structure

    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="disordered"):
        Crystals.from_pymatgen([alloy])


def test_ase_has_the_same_atoms() -> None:
    atoms = QUARTZ.to_ase()[0]
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.positions, QUARTZ.frac_coords @ QUARTZ.lattice[0], atol=1e-12)
    assert atoms.get_chemical_formula() == "O6Si3"


def test_formulas_are_keys() -> None:
    keys = BATCH.reduced_formulas()
    assert keys == ["Cl1Na1", "Cu1", "O3Sr1Ti1", "O2Si1"]
    assert [usual_formula(key) for key in keys] == ["NaCl", "Cu", "SrTiO3", "SiO2"]
    assert [file_formula(key) for key in keys] == ["NaCl", "Cu", "SrTiO3", "SiO2"]
    assert usual_formula("Ir2Nd1Si2") == "Nd(SiIr)2"
    assert file_formula("Ir2Nd1Si2") == "NdSi2Ir2"
