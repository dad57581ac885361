"""Samples against a reference: distances with known answers, rates, the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from real_crystals import COPPER, NACL, PEROVSKITE

from pigen.bundle import Bundle, Column, Reject, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.descriptors import get_descriptor
from pigen.runtime.executor import SerialExecutor
from pigen.screening.compare import ANION, NO_SYMMETRY, QUANTITIES, SMACT, fidelity
from pigen.screening.composition import (
    densities,
    effective_elements,
    element_counts,
    smact_valid,
)

ALL = Crystals.concatenate([COPPER, NACL, PEROVSKITE])


def bundle(crystals: Crystals, rejects: int = 0) -> Bundle:
    ids = np.array([f"s{i}" for i in range(len(crystals))], dtype=object)
    return Bundle(
        crystals=crystals,
        ids=ids,
        rejects=tuple(Reject(f"r{i}", "no reason") for i in range(rejects)),
    )


def scaled(crystals: Crystals, factor: float) -> Crystals:
    return Crystals(
        lattice=crystals.lattice * factor,
        frac_coords=crystals.frac_coords,
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def test_how_far_relaxation_moved_is_in_angstrom() -> None:
    """A cell of V/n = 27 Å^3 has a unit of 3 Å; what has no match does not count."""
    cell = Crystals.single(np.eye(3) * 3.0, np.zeros((1, 3)), [29])
    three = bundle(Crystals.concatenate([cell, cell, cell]))
    relaxed = three.with_columns({"rmsd": Column(np.array([0.1, 0.3, np.nan]), "", "test")})
    assert fidelity(relaxed, [three], SerialExecutor()).moved == (pytest.approx(0.6), 2)
    assert fidelity(three, [three], SerialExecutor()).moved is None


def test_space_groups_are_those_of_pymatgen() -> None:
    found = get_descriptor("space_group")(ALL)
    expected = [SpacegroupAnalyzer(s, 0.1).get_space_group_number() for s in ALL.to_pymatgen()]
    assert found.values["space_group"].tolist() == expected
    assert expected == [225, 225, 221]


@pytest.mark.slow
def test_a_set_is_at_no_distance_from_itself_and_nothing_in_it_is_new() -> None:
    found = fidelity(bundle(ALL), [bundle(ALL)], SerialExecutor())
    assert {one.quantity for one in found.distances} == {*QUANTITIES, "elements", "space groups"}
    assert all(one.distance == pytest.approx(0, abs=1e-12) for one in found.distances)
    rates = {name.split(":")[0].split(",")[0]: rate.passed for name, rate in found.rates.items()}
    assert rates["A′"] == 3
    assert rates["unique among the samples"] == 3
    assert rates["new structure"] == rates["new composition"] == 0
    assert rates["without symmetry (space group P1)"] == 0


def test_wasserstein_distance_of_scaled_cells_is_the_difference_of_their_means() -> None:
    found = fidelity(bundle(scaled(ALL, 2.0)), [bundle(ALL)], SerialExecutor())
    volume = next(one for one in found.distances if one.quantity == "volume per atom")
    assert volume.distance == pytest.approx(7 * np.mean(ALL.volume / ALL.n_atoms))
    assert volume.unit == "Å^3"


def test_frequencies_and_rates_count_every_sample_asked_for() -> None:
    twice = Crystals.concatenate([COPPER, COPPER])
    found = fidelity(bundle(twice, rejects=2), [bundle(NACL)], SerialExecutor())
    elements = next(one for one in found.distances if one.quantity == "elements")
    assert elements.distance == pytest.approx(1.0)  # no element in common
    rates = {name.split(",")[0]: str(rate) for name, rate in found.rates.items()}
    assert rates["unique among the samples"].startswith("1 / 4 ")
    assert rates["new structure"].startswith("2 / 4 ")
    assert rates["unique and new structure"].startswith("1 / 4 ")
    assert found.n_samples == 4


def test_a_reference_smaller_than_the_samples_has_a_floor() -> None:
    parts = [scaled(ALL, 1 + 0.05 * i) for i in range(4)]
    found = fidelity(bundle(Crystals.concatenate(parts)), [bundle(ALL)], SerialExecutor())
    floors = {one.quantity: one.floor for one in found.distances}
    assert floors["volume per atom"] > 0
    assert floors["elements"] > 0


def test_shares_by_number_of_atoms_add_up_and_stand_beside_the_reference() -> None:
    found = fidelity(bundle(ALL, rejects=2), [bundle(NACL)], SerialExecutor())
    assert [one.atoms for one in found.sizes] == ["1–4", "5–8"]
    for name in (NO_SYMMETRY, SMACT, ANION):
        among = [one.samples[name] for one in found.sizes]
        assert sum(rate.passed for rate in among) == found.rates[name].passed
        assert sum(rate.total for rate in among) == 3  # crystals; the rates count rejects too
        assert found.rates[name].total == 5
        assert found.reference_rates[name].total == 1
    assert found.rates[ANION].passed == 2  # not copper
    assert found.rates[SMACT].passed == 3


def test_smact_is_as_in_published_figures() -> None:
    valid = {f: smact_valid(f) for f in ("Na1Cl1", "Na2Cl1", "Cu1Au3", "Cu1", "Ti1O2", "Og1O1")}
    assert valid == {
        "Na1Cl1": True,
        "Na2Cl1": False,
        "Cu1Au3": True,  # an alloy
        "Cu1": True,
        "Ti1O2": True,
        "Og1O1": False,  # not known
    }


def test_densities_are_those_of_pymatgen() -> None:
    expected = [structure.density for structure in ALL.to_pymatgen()]
    assert densities(ALL) == pytest.approx(expected, rel=1e-6)


def test_effective_elements_of_equal_shares_is_their_number() -> None:
    assert effective_elements(element_counts(NACL)) == pytest.approx(2.0)
    assert effective_elements(element_counts(COPPER)) == pytest.approx(1.0)
    assert effective_elements(element_counts(ALL[:0])) == 0.0


def test_the_verb_prints_tables_or_json(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "samples.h5", tmp_path / "train.h5"
    write_bundle(ours, bundle(scaled(ALL, 1.1)))
    write_bundle(theirs, bundle(ALL))
    shown = CliRunner().invoke(main, ["compare", str(ours), "--to", str(theirs)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("3 samples, 3 reference structures")
    assert "| volume per atom (Å^3) |" in shown.output
    assert "| DiffCSP | 36.6 | 83.25 | 0.35 | 0.34 |" in shown.output
    assert "| SMACT valid (charges balance, or an alloy) | 3 / 3 (100.0 ± 0.0 %) |" in shown.output
    as_json = CliRunner().invoke(main, ["compare", str(ours), "--to", str(theirs), "--json"])
    assert len(json.loads(as_json.output)["distances"]) == len(QUANTITIES) + 2
    write_bundle(tmp_path / "empty.h5", bundle(ALL[:0]))
    empty = CliRunner().invoke(main, ["compare", str(tmp_path / "empty.h5"), "--to", str(theirs)])
    assert empty.exit_code == 2
    assert "no structure to compare" in empty.output
