"""Labels of a training set, and going on where a run was stopped."""

from __future__ import annotations

import numpy as np
import pytest
from known_structures import every_element, known_structures

from pigen.bundle import Bundle, Column, Reject, strings
from pigen.crystal.crystals import Crystals
from pigen.screening.label import LabelStage, label


def chunk_of(n: int, n_rejects: int = 0, start: int = 0) -> Bundle:
    crystals = Crystals.concatenate([known_structures()["MgO"].crystals] * n)
    rejects = tuple(Reject(f"r{start}{i}", "unreadable") for i in range(n_rejects))
    ids = strings(f"s{start}{i}" for i in range(n))
    return Bundle(crystals=crystals, ids=ids, rejects=rejects)


def test_labels_are_columns_with_their_units() -> None:
    labelled, missing = label(chunk_of(2), ("c", "k"))
    assert labelled.columns["k"].values.tolist() == pytest.approx([1.0, 1.0])
    assert labelled.columns["k"].unit == "bits/atom"
    assert not missing
    assert "e_hull" not in labelled.columns


@pytest.mark.parametrize("name", ["e_hull", "e_above_hull", "energy_above_hull"])
def test_energy_above_hull_is_taken_from_its_column(name: str) -> None:
    energy = Column(np.array([0.01, np.nan]), "eV/atom", "imported")
    labelled, _ = label(chunk_of(2).with_columns({name: energy}), ("c",))
    np.testing.assert_array_equal(labelled.columns["e_hull"].values, [0.01, np.nan])
    assert labelled.columns["e_hull"].unit == "eV/atom"
    assert "imported" in labelled.columns["e_hull"].source


def test_a_text_column_is_no_energy() -> None:
    text = Column(strings(["", "low"]), "", "imported")
    assert "e_hull" not in label(chunk_of(2).with_columns({"e_above_hull": text}), ())[0].columns


def test_missing_values_are_counted_by_reason() -> None:
    crystals = Crystals.concatenate([every_element()[i] for i in (84, 86, 10)])
    bundle = Bundle(crystals=crystals, ids=strings("abc"))
    labelled, missing = label(bundle, ("c",))
    assert dict(missing) == {"no c, no atomic radius": 2}
    assert np.isnan(labelled.columns["c"].values).tolist() == [True, True, False]


def test_a_stream_is_labelled_in_order() -> None:
    chunks = [chunk_of(2, start=1), chunk_of(1, 1, start=2)]
    labelled = list(LabelStage(("c",)).over(chunks))
    assert [one.ids.tolist() for one in labelled] == [["s10", "s11"], ["s20"]]
    assert len(labelled[1].rejects) == 1
