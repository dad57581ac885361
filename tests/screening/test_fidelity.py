"""Samples against a reference: distances with known answers, rates, the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from real_crystals import COPPER, NACL, PEROVSKITE

from pigen.bundle import Bundle, Reject, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.descriptors import get_descriptor
from pigen.runtime.executor import SerialExecutor
from pigen.screening.compare import QUANTITIES, fidelity

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


def test_the_verb_prints_tables_or_json(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "samples.h5", tmp_path / "train.h5"
    write_bundle(ours, bundle(scaled(ALL, 1.1)))
    write_bundle(theirs, bundle(ALL))
    shown = CliRunner().invoke(main, ["compare", str(ours), "--to", str(theirs)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("3 samples, 3 reference structures")
    assert "| volume per atom (Å^3) |" in shown.output
    as_json = CliRunner().invoke(main, ["compare", str(ours), "--to", str(theirs), "--json"])
    assert len(json.loads(as_json.output)["distances"]) == len(QUANTITIES) + 2
    write_bundle(tmp_path / "empty.h5", bundle(ALL[:0]))
    empty = CliRunner().invoke(main, ["compare", str(tmp_path / "empty.h5"), "--to", str(theirs)])
    assert empty.exit_code == 2
    assert "no structure to compare" in empty.output
