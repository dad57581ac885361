"""Criteria, verdicts and the funnel, as pure functions on bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_structures import every_element, known_structures, mp20_crystals, nasty_crystals

from pigen.bundle import KEEPS, SURVIVORS, Bundle, Column, Criterion, Reject, strings
from pigen.config import ChemistryConfig, FilterConfig
from pigen.crystal.crystals import Crystals
from pigen.descriptors import evaluate
from pigen.descriptors.chemistry import compositions
from pigen.descriptors.novelty import read_formulas
from pigen.runtime.errors import UsageError
from pigen.screening.criteria import (
    check_criteria,
    chemistry_criteria,
    heading_of,
    in_paper_order,
    known_compositions,
    letter_of,
    paper_criteria,
    window_on,
)
from pigen.screening.filter import FilterStage, apply_filters
from pigen.screening.funnel import Funnel

DENSE = Criterion("c", low=0.55, high=0.85)
COMPLEX = window_on("k", (0.95, None))


def bundle_of(crystals: Crystals, prefix: str = "s") -> Bundle:
    ids = strings(f"{prefix}{i}" for i in range(len(crystals)))
    return Bundle(crystals=crystals, ids=ids)


def simple(names: Sequence[str]) -> Bundle:
    """Known structures, named after themselves."""
    crystals = Crystals.concatenate([known_structures()[name].crystals for name in names])
    return Bundle(crystals=crystals, ids=strings(names))


# -- criteria -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (DENSE, "0.55 < c < 0.85"),
        (Criterion("spp", high=0.362), "spp < 0.362"),
        (Criterion("mled", low=9.0), "mled > 9"),
        (Criterion("novel"), "novel"),
        (Criterion("n", low=3, high=4, inclusive=True), "3 ≤ n ≤ 4"),
        (Criterion("n", low=3, inclusive=True), "n ≥ 3"),
        (Criterion("elements", among=("Cl", "Na")), "elements among Cl, Na"),
        (
            Criterion("elements", holding=(("Li",), ("O", "S")), without=("Pb",)),
            "elements with Li, O or S; without Pb",
        ),
        (Criterion("prototype", absent=True), "no prototype"),
    ],
)
def test_a_criterion_reads_as_it_is_written(criterion: Criterion, text: str) -> None:
    assert criterion.text == text


def test_the_papers_criteria() -> None:
    criteria = paper_criteria()
    assert [criterion.text for criterion in criteria] == [
        "min_distance > 0.5",
        "spp < 0.362",
        "new to the training set",
        "0.55 < c < 0.85",
        "mled > 9",
        "k > 3.9",
    ]
    in_sequence = [criterion.name for criterion in criteria if criterion.in_sequence]
    assert in_sequence == ["spp", "novel", "c", "mled"]
    assert [letter_of(criterion) for criterion in criteria] == "A′ A B C D K".split()


def test_a_config_changes_thresholds_and_files(tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    config = FilterConfig(spp=0.5, c=(0.3, 0.6), novel=False, known=str(known))
    criteria = {criterion.name: criterion for criterion in paper_criteria(config)}
    assert criteria["spp"].high == 0.5
    assert (criteria["c"].low, criteria["c"].high) == (0.3, 0.6)
    assert "novel" not in criteria
    with_known = paper_criteria(replace(config, novel=True))
    assert with_known[2].settings == {"known": known}


def test_order_of_a_sequence_is_the_papers() -> None:
    mixed = [COMPLEX, DENSE, Criterion("novel"), Criterion("spp", high=1.0)]
    assert [criterion.name for criterion in in_paper_order(mixed)] == ["spp", "novel", "c", "k"]


def test_wrong_settings_are_found_before_any_work(tmp_path: Path) -> None:
    broken = tmp_path / "table.json"
    broken.write_text("{}")
    for settings, complaint in (
        ({"table": tmp_path / "gone.npz"}, r"gone\.npz"),
        ({"table": broken}, "expected"),
        ({"tabel": broken}, "no setting 'tabel'"),
    ):
        with pytest.raises(UsageError, match=complaint):
            check_criteria([Criterion("spp", high=1.0, settings=settings)])


# -- verdicts -------------------------------------------------------------------------------------
def test_verdicts_and_their_reasons() -> None:
    judged = apply_filters(simple(["MgO", "Si", "CsCl", "LiCoO2"]), [DENSE, COMPLEX])
    dense, complex_ = judged.verdicts["c"], judged.verdicts["k"]
    assert dense.passed.tolist() == [True, False, False, True]
    assert dense.reasons.tolist() == ["", "c not above 0.55: 0.2786", "c not below 0.85: 1.113", ""]
    assert dense.criterion.text == "0.55 < c < 0.85"
    assert complex_.passed.tolist() == [True, False, True, True]
    assert {"c", "k"} <= set(judged.columns)


def test_ends_are_excluded() -> None:
    mgo = simple(["MgO"])
    value = float(evaluate(mgo, ["c"])[0].columns["c"].values[0])
    for window in ({"low": value}, {"high": value}):
        assert not apply_filters(mgo, [Criterion("c", **window)]).verdicts["c"].passed[0]


def test_both_ends_of_whole_numbers_are_included() -> None:
    bundle = simple(["CsCl", "SrTiO3"])
    window = window_on("n_elements", (2, 3))
    assert (window.inclusive, window.text) == (True, "2 ≤ n_elements ≤ 3")
    assert apply_filters(bundle, [window]).passed().all()
    alone = apply_filters(bundle, [window_on("n_elements", (3, 3))]).verdicts["n_elements"]
    assert alone.passed.tolist() == [False, True]
    assert alone.reasons.tolist() == ["n_elements below 3: 2", ""]
    with pytest.raises(UsageError, match="lower end 4 must be below"):
        window_on("n_elements", (4, 3))
    with pytest.raises(UsageError, match="charge_balanced has no numbers"):
        window_on("charge_balanced", (0, 1))


def test_criteria_on_compositions_agree_with_the_rules_of_sampling(shared_data: Path) -> None:
    crystals = mp20_crystals(shared_data, "test")
    config = ChemistryConfig(
        elements_one_of=(("O", "S", "F", "Cl"),),
        elements_excluded=("Cs", "Ba"),
        n_elements=(2, 3),
        charge_balanced=True,
        stoichiometry="metal:nonmetal = 1:2",
    )
    criteria = chemistry_criteria(config)
    assert [one.name for one in criteria] == [
        *("elements", "n_elements", "charge_balanced", "stoichiometry")
    ]
    judged = apply_filters(bundle_of(crystals), criteria)
    chemistry = config.chemistry()
    failures = [chemistry.failure(counts) for counts in compositions(crystals)]
    assert judged.passed().tolist() == [not failure for failure in failures]
    assert 20 < judged.passed().sum() < len(crystals) / 2
    assert chemistry_criteria(ChemistryConfig()) == ()


def test_alloys_are_counted_apart() -> None:
    alloy = Crystals.single(3.8 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [28, 13])
    salt = known_structures()["CsCl"].crystals
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]]
    odd = Crystals.single(5.0 * np.eye(3), places, [11, 11, 17])
    funnel = Funnel((Criterion("charge_balanced"),))
    crystals = Crystals.concatenate([alloy, salt, odd])
    kept = funnel.add(apply_filters(bundle_of(crystals), funnel.criteria))
    assert kept.ids.tolist() == ["s1"]
    assert funnel.reasons == {"no charge_balanced, an alloy": 1, "not charge_balanced": 1}


def test_novelty_names_the_composition(tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    known.write_text("MgO\n")
    criterion = Criterion("novel", settings={"known": known})
    verdict = apply_filters(simple(["MgO", "Si"]), [criterion]).verdicts["novel"]
    assert verdict.reasons.tolist() == ["not novel: MgO", ""]


def test_without_a_value_a_structure_fails_for_that_reason() -> None:
    crystals = Crystals.concatenate([every_element()[84], nasty_crystals()["coplanar cell"]])
    judged = apply_filters(bundle_of(crystals), [DENSE, Criterion("k", high=9.0)])
    assert judged.verdicts["c"].reasons.tolist() == [
        "no c, no atomic radius: At",
        "no c, degenerate cell: volume 0 Å^3",
    ]
    assert judged.verdicts["k"].passed.tolist() == [True, False]


def test_earlier_verdicts_are_replaced() -> None:
    once = apply_filters(simple(["MgO"]), [COMPLEX])
    assert set(apply_filters(once, [DENSE]).verdicts) == {"c"}


def test_columns_that_some_sources_lack_are_computed() -> None:
    some, _ = evaluate(simple(["MgO", "Si"]), ["novel", "c"])
    mixed = Bundle.concatenate([some, simple(["LiCoO2"])])  # has no value where it had none
    criteria = [Criterion("novel"), DENSE]
    judged = apply_filters(mixed, criteria)
    at_once = apply_filters(simple(["MgO", "Si", "LiCoO2"]), criteria)
    assert judged.verdicts["c"].passed.tolist() == [True, False, True]
    for name in ("c", "novel"):
        assert judged.verdicts[name].reasons.tolist() == at_once.verdicts[name].reasons.tolist()


def test_columns_made_elsewhere_are_not_taken_for_ours() -> None:
    bundle = simple(["MgO"]).with_columns({"k": Column(np.array([99.0]), "GPa", "a table")})
    judged = apply_filters(bundle, [Criterion("k", low=3.9)])
    assert not judged.verdicts["k"].passed[0]
    assert judged.columns["k"].values[0] == pytest.approx(1.0)


# -- the funnel -----------------------------------------------------------------------------------
def test_kept_and_rejected_make_up_what_was_read() -> None:
    bundle = replace(
        simple(["MgO", "Si", "CsCl", "LiCoO2"]), rejects=(Reject("x", "unreadable: line 3"),)
    )
    criteria = (DENSE, replace(COMPLEX, low=1.2))
    funnel = Funnel(criteria)
    survivors = funnel.add(apply_filters(bundle, criteria))
    assert survivors.ids.tolist() == ["LiCoO2"]
    assert [reject.id for reject in survivors.rejects] == ["x", "MgO", "Si", "CsCl"]
    assert (funnel.read, funnel.kept, funnel.rejected) == (5, 1, 4)
    assert str(funnel.alone(DENSE)) == "2 / 5 (40.0 ± 21.9 %)"
    assert [rate.passed for c in criteria if (rate := funnel.sequence(c))] == [2, 1]
    assert dict(funnel.reasons) == {
        "unreadable": 1,
        "c not above 0.55": 1,
        "c not below 0.85": 1,
        "k not above 1.2": 1,
    }
    assert sum(funnel.reasons.values()) == funnel.rejected
    lines = list(funnel.lines())
    assert lines[1].split("   ")[0].strip() == "C  0.55 < c < 0.85"
    assert "read 5, kept 1, rejected 4" in lines
    as_json = funnel.to_json()
    assert as_json["criteria"][0]["alone"]["percent"] == pytest.approx(40.0)
    assert funnel.running() == "C 40 % → K 20 %"


def test_criteria_out_of_sequence_are_counted_alone() -> None:
    criteria = (DENSE, replace(COMPLEX, low=1.2, in_sequence=False))
    funnel = Funnel(criteria)
    survivors = funnel.add(apply_filters(simple(["MgO", "LiCoO2"]), criteria))
    assert len(survivors) == funnel.kept == 2
    assert funnel.alone(criteria[1]).passed == 1
    assert funnel.sequence(criteria[1]) is None


def test_what_an_earlier_filter_rejected_is_not_read_again() -> None:
    survivors = replace(
        simple(["MgO"]), rejects=(Reject("Si", "c not above 0.55"),), provenance={KEEPS: SURVIVORS}
    )
    funnel = Funnel((COMPLEX,))
    funnel.add(apply_filters(survivors, [COMPLEX]))
    assert (funnel.read, funnel.kept) == (1, 1)


def test_counts_do_not_depend_on_the_chunks(shared_data: Path) -> None:
    crystals = mp20_crystals(shared_data, "test", 120)
    criteria = paper_criteria()
    counts = []
    for size in (120, 50, 7):
        funnel = Funnel(criteria)
        chunks = (bundle_of(crystals[i : i + size]) for i in range(0, 120, size))
        for chunk in FilterStage(criteria, keep_all=True).over(chunks):
            funnel.add(chunk)
        counts.append(funnel.to_json())
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]["read"] == 120


def test_every_structure_of_other_generators_is_accounted_for(shared_data: Path) -> None:
    from pigen.io import read_chunks

    source = shared_data / "generated" / "llama2_7b.csv.gz"
    criteria = [c for c in paper_criteria() if c.name not in ("mled", "k")]  # those take a minute
    funnel = Funnel(tuple(criteria))
    ids: list[str] = []
    for chunk in FilterStage(criteria, keep_all=True).over(read_chunks([source])):
        survivors = funnel.add(chunk)
        ids += [*survivors.ids, *(reject.id for reject in survivors.rejects)]
    assert funnel.read == 3221 == funnel.kept + funnel.rejected == len(set(ids))


# -- known compositions ---------------------------------------------------------------------------
def test_known_compositions_come_from_formulas_or_structures(tmp_path: Path) -> None:
    from pigen.bundle import write_bundle

    text = tmp_path / "known.txt"
    text.write_text("NaCl\n")
    assert known_compositions(text, tmp_path) == text
    write_bundle(tmp_path / "known.h5", simple(["MgO", "Si"]))
    found = known_compositions(tmp_path / "known.h5", tmp_path)
    assert read_formulas(found) == {"Mg1O1", "Si1"}
    write_bundle(tmp_path / "empty.h5", Bundle.empty())
    with pytest.raises(UsageError, match=r"empty\.h5"):
        known_compositions(tmp_path / "empty.h5", tmp_path)


# -- E: a column of an earlier stage ---------------------------------------------------------------
def with_energies(values: list[float], reasons: list[str] | None = None) -> Bundle:
    bundle = Bundle(
        crystals=Crystals.concatenate([known_structures()["MgO"].crystals] * len(values)),
        ids=strings(f"x{i}" for i in range(len(values))),
    )
    columns = {"e_hull": Column(np.array(values), "eV/atom", "a hull of little")}
    if reasons is not None:
        columns["e_hull_reason"] = Column(strings(reasons), "", "a hull of little")
    return bundle.with_columns(columns)


def test_energy_above_hull_is_a_window_on_its_column() -> None:
    criterion = window_on("e_hull", (None, 0.05))
    bundle = with_energies([-0.1, 0.049, 0.05, np.nan, np.nan], ["", "", "", "no hull: Tc", ""])
    judged = apply_filters(bundle, [criterion])
    verdict = judged.verdicts["e_hull"]
    assert verdict.passed.tolist() == [True, True, False, False, False]
    assert verdict.reasons.tolist()[2:] == [
        "e_hull not below 0.05: 0.05",
        "no e_hull, no hull: Tc",
        "no e_hull, not known",
    ]
    funnel = Funnel((criterion,))
    funnel.add(judged)
    assert heading_of(criterion) == "E  e_hull < 50 meV/atom"
    assert "e_hull: a hull of little" in list(funnel.lines())
    assert funnel.to_json()["rests_on"] == {"e_hull": "a hull of little"}


def test_energy_above_hull_must_have_been_made() -> None:
    bundle = replace(with_energies([0.0]), columns={})
    with pytest.raises(UsageError, match="no column e_hull; run `pigen energy` first"):
        apply_filters(bundle, [Criterion("e_hull", high=0.05)])
    nothing = Bundle.empty()
    assert len(apply_filters(nothing, [Criterion("e_hull", high=0.05)])) == 0
