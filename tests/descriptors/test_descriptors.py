"""Descriptors: known answers, independence of how a crystal is written, nasty input, columns."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_structures import (
    CHANGES,
    displaced,
    every_element,
    known_structures,
    mp20_crystals,
    nasty_crystals,
)

from pigen.bundle import Bundle, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import canonical_formula
from pigen.descriptors import (
    column_source,
    descriptor_names,
    evaluate,
    get_descriptor,
    resolve_settings,
)
from pigen.descriptors.novelty import read_formulas, write_formulas
from pigen.runtime.errors import UsageError

OURS = ("c", "k", "min_distance", "novel", "spp")
SECONDS_EACH = 2.0


def values_of(name: str, crystals: Crystals, **settings: object) -> np.ndarray:
    return np.asarray(get_descriptor(name)(crystals, **settings).values[name])


def bundle_of(crystals: Crystals) -> Bundle:
    return Bundle(crystals=crystals, ids=strings(f"s{i}" for i in range(len(crystals))))


# -- known answers --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(known_structures()))
def test_known_compactness_and_complexity(name: str) -> None:
    known = known_structures()[name]
    assert values_of("c", known.crystals)[0] == pytest.approx(known.c, abs=1e-3)
    assert values_of("k", known.crystals)[0] == pytest.approx(known.k, abs=1e-3)


def test_min_distance_counts_own_images() -> None:
    copper = Crystals.single(np.diag([2.5, 4, 9]), [[0, 0, 0]], [29])
    assert values_of("min_distance", copper)[0] == pytest.approx(2.5)


def test_min_distance_equals_pymatgens_neighbour_list(shared_data: Path) -> None:
    crystals = mp20_crystals(shared_data, "test", 100)
    ours = values_of("min_distance", crystals)
    for value, structure in zip(ours, crystals.to_pymatgen(), strict=True):
        distances = structure.get_neighbor_list(r=value + 1.0)[3]
        assert value == pytest.approx(distances.min(), abs=1e-8)


def test_complexity_is_spglibs(shared_data: Path) -> None:
    import spglib

    crystals = mp20_crystals(shared_data, "test", 300)
    expected = []
    for one in crystals:
        cell = (one.lattice[0], one.frac_coords, one.atomic_numbers)
        orbits = spglib.get_symmetry_dataset(cell, symprec=0.1).crystallographic_orbits
        p = np.unique(orbits, return_counts=True)[1] / len(orbits)
        expected.append(-np.sum(p * np.log2(p)))
    np.testing.assert_allclose(values_of("k", crystals), expected, atol=1e-9)


def test_symprec_is_a_setting_of_complexity() -> None:
    silicon = displaced(known_structures()["Si"].crystals, 0.03)
    assert values_of("k", silicon, symprec=0.2)[0] == 0
    assert values_of("k", silicon, symprec=0.001)[0] == pytest.approx(3)


# -- nothing but the crystal counts ---------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(known_structures())),
    st.sampled_from(sorted(CHANGES)),
    st.integers(0, 2**32 - 1),
)
def test_values_do_not_depend_on_the_cell(name: str, change: str, seed: int) -> None:
    crystal = known_structures()[name].crystals
    other = CHANGES[change](crystal, np.random.default_rng(seed))
    for descriptor in OURS:
        before, after = values_of(descriptor, crystal)[0], values_of(descriptor, other)[0]
        assert after == pytest.approx(before, rel=1e-9, abs=1e-9), descriptor


@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, 199), seed=st.integers(0, 2**32 - 1))
def test_real_structures_do_not_depend_on_the_cell(
    shared_data: Path, index: int, seed: int
) -> None:
    crystal = mp20_crystals(shared_data, "test", 200)[index]
    for change in CHANGES.values():
        other = change(crystal, np.random.default_rng(seed))
        for descriptor in ("c", "min_distance", "novel", "spp"):
            before, after = values_of(descriptor, crystal)[0], values_of(descriptor, other)[0]
            assert after == pytest.approx(before, rel=1e-9, abs=1e-7), descriptor


def test_values_do_not_depend_on_the_batch(shared_data: Path) -> None:
    crystals = mp20_crystals(shared_data, "test", 60)
    order = np.random.default_rng(0).permutation(60)
    for name in OURS:
        together = values_of(name, crystals)
        alone = np.array([values_of(name, one)[0] for one in crystals])
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(values_of(name, crystals[order]), together[order])


# -- nasty input ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OURS)
def test_nasty_input_ends_in_a_value_or_a_reason_in_time(name: str) -> None:
    descriptor = get_descriptor(name)
    descriptor(known_structures()["Si"].crystals)  # compiled and loaded before the clock starts
    for what, crystal in nasty_crystals().items():
        started = time.perf_counter()
        found = descriptor(crystal)
        assert time.perf_counter() - started < SECONDS_EACH, what
        value, reason = found.values[name][0], found.reasons[0]
        assert (reason == "") == bool(np.isfinite(value)) or name == "novel", what
    reasons = descriptor(nasty_crystals()["coplanar cell"]).reasons
    assert name == "novel" or reasons[0].startswith("degenerate cell: ")


@pytest.mark.parametrize("name", OURS)
def test_every_element_has_a_value_or_a_reason_naming_it(name: str) -> None:
    crystals = every_element()
    found = get_descriptor(name)(crystals)
    lacking = [reason for reason in found.reasons if reason]
    if name == "c":
        symbols = "At Fr Cm Bk Cf Es Fm Md No Lr".split()
        assert lacking == [f"no atomic radius: {symbol}" for symbol in symbols]
    else:
        assert lacking == []
        assert np.isfinite(found.values[name]).all()


def test_no_atoms_is_a_reason() -> None:
    empty = Crystals.single(np.eye(3), np.zeros((0, 3)), np.zeros(0, dtype=np.uint8))
    for name in OURS:
        assert get_descriptor(name)(empty).reasons[0] == "no atoms in the cell", name


def test_an_empty_batch_is_fine() -> None:
    for name in OURS:
        assert len(values_of(name, Crystals.empty())) == 0


# -- novelty --------------------------------------------------------------------------------------
def test_novelty_looks_up_reduced_formulas(tmp_path: Path) -> None:
    listed = tmp_path / "known.txt"
    listed.write_text("# mine\nMgO\n\nSi2\nMg(AlO2)2\n")
    names = ["MgO", "Si", "MgAl2O4", "CaF2"]
    crystals = Crystals.concatenate([known_structures()[name].crystals for name in names])
    assert values_of("novel", crystals, known=listed).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NaCl", "Cl1Na1"),
        ("NaN", "N1Na1"),
        ("Fe4O6", "Fe2O3"),
        ("Mg(InSe2)2", "In2Mg1Se4"),
        ("O2", "O1"),
        ("CO", "C1O1"),
        ("Co", "Co1"),
    ],
)
def test_formulas_are_read_in_any_notation(text: str, expected: str) -> None:
    assert canonical_formula(text) == expected


@pytest.mark.parametrize("line", ["Xx2", "LiFe0.5O2 and", "na", "Fe0.5O"])
def test_a_line_that_is_no_formula_is_named(tmp_path: Path, line: str) -> None:
    listed = tmp_path / "known.txt"
    listed.write_text(f"NaCl\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        read_formulas(listed)


def test_formulas_survive_writing(tmp_path: Path) -> None:
    path = tmp_path / "known.txt.gz"
    assert write_formulas(path, ["Cl1Na1", "N1Na1", "Cl1Na1"], "two\nlines") == 2
    assert read_formulas(path) == {"Cl1Na1", "N1Na1"}


def test_shipped_compositions_are_those_of_the_model(shared_data: Path) -> None:
    for split, seen in (("train", True), ("extra", True), ("val", True), ("test", False)):
        novel = values_of("novel", mp20_crystals(shared_data, split, 300))
        assert (novel != seen).all(), split


# -- columns --------------------------------------------------------------------------------------
def test_all_descriptors_are_found() -> None:
    assert {*OURS, "mled"} <= set(descriptor_names())
    with pytest.raises(UsageError, match="no descriptor named 'mleg'"):
        get_descriptor("mleg")


def test_evaluate_adds_columns_that_say_how_they_were_made() -> None:
    bundle = bundle_of(known_structures()["MgO"].crystals)
    found, reasons = evaluate(bundle, ["c", "k", "spp"], {"k": {"symprec": 0.05}})
    assert found.columns["k"].unit == "bits/atom"
    assert found.columns["k"].source.endswith(" k(symprec=0.05)")
    assert "table=spp.npz sha256 " in found.columns["spp"].source
    assert {name: why.tolist() for name, why in reasons.items()} == {
        "c": [""],
        "k": [""],
        "spp": [""],
    }


def test_a_column_is_used_again_only_if_made_the_same_way() -> None:
    bundle, _ = evaluate(bundle_of(known_structures()["MgO"].crystals), ["k"])
    marked = replace(bundle.columns["k"], values=np.array([7.0]))
    bundle = bundle.with_columns({"k": marked})
    assert evaluate(bundle, ["k"])[0].columns["k"].values[0] == 7.0
    again = evaluate(bundle, ["k"], {"k": {"symprec": 0.2}})[0]
    assert again.columns["k"].values[0] == pytest.approx(1.0)


def test_reasons_are_found_again_for_columns_that_are_there() -> None:
    crystals = Crystals.concatenate([known_structures()["MgO"].crystals, every_element()[84]])
    bundle, first = evaluate(bundle_of(crystals), ["c"])
    _, second = evaluate(bundle, ["c"])
    assert second["c"].tolist() == first["c"].tolist() == ["", "no atomic radius: At"]


def test_source_changes_with_the_content_of_a_settings_file(tmp_path: Path) -> None:
    listed = tmp_path / "known.txt"
    listed.write_text("NaCl\n")
    before = column_source("novel", {"known": listed})
    listed.write_text("NaCl\nMgO\n")
    assert column_source("novel", {"known": listed}) != before


def test_unknown_settings_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no setting 'symprek'; it has: symprec"):
        resolve_settings("k", {"symprek": 1})
    with pytest.raises(UsageError, match=r"gone\.txt"):
        column_source("novel", {"known": tmp_path / "gone.txt"})
