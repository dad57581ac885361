"""Frameworks: equal to pymatgen's matcher, whatever the cell, the elements and small noise."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from known_structures import (
    CHANGES,
    Change,
    displaced,
    known_structures,
    nasty_crystals,
    permuted,
    rebased,
    repeated,
    unimodular,
)

from pigen.bundle import Bundle, Column, Criterion, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.assignment import _assign, _is_unique, all_within_reach
from pigen.descriptors.prototypes.build import Frameworks, Usage
from pigen.descriptors.prototypes.known import Distinct, matches, structure_matcher
from pigen.descriptors.prototypes.library import SHIPPED, Library, library_file, load_library, match
from pigen.descriptors.prototypes.reduce import average_distances, matcher_cells, prepare, ready
from pigen.descriptors.prototypes.screen import may_fit
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import SerialExecutor
from pigen.runtime.resources import PROTOTYPES
from pigen.screening.criteria import check_criteria, in_paper_order
from pigen.screening.filter import apply_filters

AFLOW = PROTOTYPES / "aflow.h5"
LABELS = {
    "MgO": "AB_cF8_225_a_b",
    "ZnS": "AB_cF8_216_c_a",
    "CaF2": "AB2_cF12_225_a_c",
    "SrTiO3": "AB3C_cP5_221_a_c_b",
    "TiO2": "A2B_tP6_136_f_a",
    "MgAl2O4": "A2BC4_cF56_227_d_a_e",
    "Cu": "A_cF4_225_a",
    "Fe": "A_cI2_229_a",
}
"""AFLOW's names of the known structures. Others may share the framework, and rank higher."""


def crystal(name: str) -> Crystals:
    return known_structures()[name].crystals


def named(crystals: list[Crystals]) -> Bundle:
    ids = strings(f"s{i}" for i in range(len(crystals)))
    return Bundle(crystals=Crystals.concatenate(crystals), ids=ids)


def in_other_elements(crystals: Crystals) -> Crystals:
    """Every element replaced by another, different ones staying different."""
    return Crystals(
        lattice=1.1 * crystals.lattice,
        frac_coords=crystals.frac_coords,
        atomic_numbers=(crystals.atomic_numbers + 15) % 80 + 1,
        ptr=crystals.ptr,
    )


@lru_cache(maxsize=1)
def only_named() -> Library:
    """Of the AFLOW library, the prototypes that are named above."""
    bundle = load_library(AFLOW).bundle
    labels = bundle.columns["label"].values
    return Library(bundle.select([label.split()[0] in LABELS.values() for label in labels]))


# -- matching -------------------------------------------------------------------------------------
def test_known_structures_have_their_labels() -> None:
    library = only_named()
    assert {label.split()[0] for label in library.labels} == set(LABELS.values())
    matched = match(Crystals.concatenate([crystal(name) for name in LABELS]), library)
    assert [label.split()[0] for label in matched.labels] == list(LABELS.values())
    assert matched.ranks.min() >= 1
    assert not any(matched.reasons)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_neither_cell_nor_elements_nor_rattling_matter(change: Change) -> None:
    rng = np.random.default_rng(3)
    names = list(LABELS)
    changed = [
        displaced(in_other_elements(change(crystal(name), rng)), 0.02, seed)
        for seed, name in enumerate(names)
    ]
    matched = match(Crystals.concatenate(changed), only_named())
    assert [label.split()[0] for label in matched.labels] == list(LABELS.values())


def test_no_match_is_no_label() -> None:
    rng = np.random.default_rng(0)
    random = Crystals.single(7 * np.eye(3), rng.random((13, 3)), rng.integers(1, 80, 13))
    matched = match(random, load_library(AFLOW))
    assert (matched.labels[0], matched.ranks[0], matched.reasons[0]) == ("", 0, "")


def test_only_the_top_is_looked_at() -> None:
    library = load_library(AFLOW)
    rank = match(crystal("MgAl2O4"), library).ranks[0]
    assert rank > 1
    assert match(crystal("MgAl2O4"), library.top(int(rank))).ranks[0] == rank
    assert match(crystal("MgAl2O4"), library.top(int(rank) - 1)).ranks[0] == 0


@pytest.mark.parametrize("name", nasty_crystals())
def test_nasty_cells_have_a_verdict_or_a_reason(name: str) -> None:
    matched = match(nasty_crystals()[name], only_named())
    assert (matched.ranks[0] == -1) == bool(matched.reasons[0])


def test_without_atoms() -> None:
    matched = match(Crystals.single(np.eye(3), np.zeros((0, 3)), []), only_named())
    assert matched.reasons.tolist() == ["no atoms in the cell"]
    assert len(match(Crystals.empty(), only_named()).ranks) == 0


@pytest.mark.parametrize("source", ["mp20/test.csv.gz", "generated/cdvae.csv.gz"])
def test_equals_the_matcher_over_the_whole_library(shared_data: Path, source: str) -> None:
    from pigen.io import read

    crystals = read(shared_data / source).crystals[:1000:50]
    library = load_library(AFLOW)
    matched = match(crystals, library)
    # The matcher on structures as they come, but for pairs that can't fit for their numbers.
    frameworks = library.bundle.crystals.to_pymatgen()
    sizes = [len(framework) for framework in frameworks]
    reduced = matcher_cells(crystals)[0].n_atoms
    expected = []
    for structure, n in zip(crystals.to_pymatgen(), reduced, strict=True):
        hits = (
            rank
            for rank, framework, size in zip(library.ranks, frameworks, sizes, strict=True)
            if size == n and structure_matcher().fit(structure, framework)
        )
        expected.append(next(hits, 0))
    assert matched.ranks.tolist() == expected
    assert 0 < np.count_nonzero(expected) < len(expected)


# -- the screen -----------------------------------------------------------------------------------
@pytest.mark.parametrize("species", [False, True])
def test_the_screen_loses_no_fit(species: bool) -> None:
    rng = np.random.default_rng(11)
    bases = [crystal(name) for name in ("SrTiO3", "TiO2", "LiCoO2", "CaF2", "MgAl2O4")]
    fits = 0
    for base in bases:
        cells, _ = matcher_cells(
            Crystals.concatenate([displaced(base, s, 5) for s in (0, 0.2, 0.35, 0.45, 0.6)])
        )
        strains = rng.normal(0, 0.05, (len(cells), 3, 3)) + np.eye(3)
        cells = matcher_cells(
            Crystals(
                lattice=cells.lattice @ strains,
                frac_coords=cells.frac_coords,
                atomic_numbers=cells.atomic_numbers,
                ptr=cells.ptr,
            )
        )[0]
        structures = ready(cells)
        for one in structures:
            for other in structures:
                a, b = one.crystal, other.crystal
                kinds = [c.atomic_numbers if species else 0 * c.atomic_numbers for c in (a, b)]
                may = may_fit(
                    a.lattice[0], a.frac_coords, kinds[0], b.lattice[0], b.frac_coords, kinds[1]
                )
                if matches(one.structure, other.structure, species=species):
                    fits += 1
                    assert may
    assert fits > 30


def test_assignments_are_the_least_and_ties_are_seen() -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 12):
        cost = rng.random((n, n))
        partner, rows, columns = _assign(cost)
        expected = linear_sum_assignment(cost)[1]
        assert partner.tolist() == expected.tolist()
        assert (cost - rows[:, None] - columns > -1e-12).all()
        assert _is_unique(cost, partner, rows, columns, 1e-9)
        tied = np.vstack([cost, cost[:1]])
        tied = np.hstack([tied, tied[:, :1]])
        assert not _is_unique(tied, *_assign(tied), 1e-9)


def test_perfect_matchings_are_found() -> None:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        near = rng.random((6, 6)) < 0.3
        expected = bool((maximum_bipartite_matching(csr_matrix(near)) >= 0).all())
        found.append(all_within_reach(np.where(near, 0.5, 1.0), 1.0))
        assert found[-1] == expected
    assert 0 < sum(found) < 200


# -- the invariant --------------------------------------------------------------------------------
def test_the_invariant_is_one() -> None:
    rng = np.random.default_rng(2)
    for name in ("SrTiO3", "TiO2", "LiCoO2"):
        base = crystal(name)
        changed = rebased(repeated(permuted(base, rng), (2, 1, 1)), unimodular(rng))
        scaled = in_other_elements(changed)
        expected = average_distances(base)
        np.testing.assert_allclose(average_distances(scaled), expected, atol=1e-9)
        moved = average_distances(displaced(base, 0.001))
        assert 0 < np.abs(moved - expected).max() < 0.01


def test_known_distances() -> None:
    simple_cubic = Crystals.single(3 * np.eye(3), [[0, 0, 0]], [84])
    distances = average_distances(simple_cubic)[0]
    np.testing.assert_allclose(distances[:18], [1] * 6 + [np.sqrt(2)] * 12)
    assert np.isnan(average_distances(nasty_crystals()["coplanar cell"])).all()


# -- libraries ------------------------------------------------------------------------------------
def test_frameworks_are_counted_and_ranked() -> None:
    some = ["SrTiO3", "MgO", "SrTiO3", "TiO2", "SrTiO3", "MgO"]
    crystals = [displaced(crystal(name), 0.02, seed) for seed, name in enumerate(some)]
    bundle = named([*crystals, nasty_crystals()["coplanar cell"]])
    frameworks = Frameworks()
    for prepared in prepare([bundle], SerialExecutor()):
        frameworks.add(prepared)
    assert frameworks.left_out == 1
    library = frameworks.library("a test")
    assert library.bundle.columns["count"].values.tolist() == [3, 2, 1]
    assert library.labels.tolist() == ["SrTiO3 (s0)", "MgO (s1)", "TiO2 (s3)"]
    assert library.ranks.tolist() == [1, 2, 3]
    assert len(frameworks.library("a test", least=2)) == len(frameworks.library("", most=2)) == 2
    with pytest.raises(PigenError, match="at least one"):
        frameworks.library("a test", least=9)
    usage = Usage(library)
    for prepared in prepare([named(crystals[1::2])], SerialExecutor()):
        usage.add(prepared)
    recounted = usage.library("a test", least=0)
    assert recounted.labels.tolist() == ["MgO (s1)", "TiO2 (s3)", "SrTiO3 (s0)"]


def test_the_shipped_libraries_are_in_order() -> None:
    for name in SHIPPED:
        library = load_library(library_file(name, Path()))
        assert library.ranks.tolist() == list(range(1, len(library) + 1))
        assert (np.diff(library.bundle.columns["count"].values) <= 0).all()
        assert all(library.labels)
        assert len(library) > 200


def test_any_source_is_a_library(tmp_path: Path) -> None:
    ranks = {"rank": Column(np.array([2.0, 1.0]), "", "a test")}
    bundle = named([crystal("MgO"), crystal("TiO2")]).with_columns(ranks)
    write_bundle(tmp_path / "mine.h5", bundle)
    library = load_library(library_file(str(tmp_path / "mine.h5"), tmp_path))
    assert library.labels.tolist() == ["s1", "s0"]
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name in ("MgO", "CaF2"):
        crystal(name).to_pymatgen()[0].to(filename=str(folder / f"{name}.cif"))
    library = load_library(library_file(str(folder), tmp_path))
    assert library.labels.tolist() == ["CaF2", "MgO"]
    again = library_file(str(tmp_path / "cifs.library.h5"), tmp_path)  # stored: taken as it is
    assert again == tmp_path / "cifs.library.h5"


def test_what_is_no_library(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no library of that name"):
        library_file("aflo", tmp_path)
    write_bundle(tmp_path / "plain.h5", named([crystal("MgO")]))
    with pytest.raises(UsageError, match="not a library"):
        load_library(tmp_path / "plain.h5")
    with pytest.raises(UsageError, match=r"gone\.h5"):
        load_library(tmp_path / "gone.h5")


# -- uniqueness -----------------------------------------------------------------------------------
def test_the_first_of_each_kind_is_unique() -> None:
    rng = np.random.default_rng(4)
    mgo, titanate = crystal("MgO"), crystal("SrTiO3")
    chunks = [
        named([mgo, titanate, permuted(repeated(mgo, (2, 1, 1)), rng), in_other_elements(mgo)]),
        named(
            [displaced(rebased(titanate, unimodular(rng)), 0.02), nasty_crystals()["coplanar cell"]]
        ),
    ]
    distinct = Distinct()
    found = [distinct.add(prepared).tolist() for prepared in prepare(chunks, SerialExecutor())]
    assert found == [[True, True, False, True], [False, True]]


def test_swapped_elements_are_no_duplicate() -> None:
    titanate = crystal("SrTiO3")
    swapped = titanate.atomic_numbers.copy()
    swapped[titanate.atomic_numbers == 38], swapped[titanate.atomic_numbers == 22] = 22, 38
    other = Crystals.single(titanate.lattice[0], titanate.frac_coords, swapped)
    (prepared,) = prepare([named([titanate, other])], SerialExecutor())
    assert Distinct().add(prepared).tolist() == [True, True]


# -- the criterion --------------------------------------------------------------------------------
def test_the_criterion_names_the_framework(tmp_path: Path) -> None:
    stored = tmp_path / "named.h5"
    only_named().write(stored, {})
    settings = {"library": stored, "top": 1000}
    criterion = Criterion("prototype", absent=True, settings=settings)
    assert criterion.text == "no prototype"
    check_criteria([criterion])
    bundle = named([crystal("MgO"), crystal("LiCoO2"), nasty_crystals()["coplanar cell"]])
    judged = apply_filters(bundle, [criterion])
    verdict = judged.verdicts["prototype"]
    assert verdict.passed.tolist() == [False, True, False]
    assert verdict.reasons[0].startswith("known prototype: AB_cF8_225_a_b")
    assert verdict.reasons[2].startswith("no prototype, degenerate cell")
    again = apply_filters(judged, [criterion])  # from the columns
    assert again.verdicts["prototype"].reasons.tolist() == verdict.reasons.tolist()
    assert again.columns["prototype"] is judged.columns["prototype"]


def test_its_place_is_before_k() -> None:
    mixed = [Criterion("k", low=1), Criterion("prototype", absent=True), Criterion("mled", low=9)]
    assert [c.name for c in in_paper_order(mixed)] == ["mled", "prototype", "k"]


# -- the verbs ------------------------------------------------------------------------------------
def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    return result


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Two rock salts, a layered one and a flat cell."""
    path = tmp_path / "some.h5"
    rock_salts = [crystal("MgO"), in_other_elements(crystal("MgO"))]
    flat = nasty_crystals()["coplanar cell"]
    write_bundle(path, named([*rock_salts, crystal("LiCoO2"), crystal("MgO"), flat]))
    return path


def test_build_then_match(some: Path, tmp_path: Path) -> None:
    library, out = tmp_path / "library.h5", tmp_path / "out.h5"
    said = pigen("prototypes", "build", some, "--least", "2", "-o", library).stdout
    assert "1 frameworks of 2 or more structures, out of 2 in 5 structures" in said
    assert "1 structures could not be compared" in said
    said = pigen("prototypes", "match", some, "--library", library, "-o", out).stdout
    assert "matched    3 / 5 (60.0 ± 21.9 %)" in said
    assert "failed     1 / 5" in said
    columns = read_bundle(out).columns
    assert columns["prototype"].values.tolist() == ["MgO (s0)"] * 2 + ["", "MgO (s0)", ""]
    assert columns["prototype_rank"].values.tolist() == [1, 1, 0, 1, -1]
    pigen("prototypes", "match", some, "--library", library, "-o", out, expect=2)  # exists
    said = pigen(
        *("prototypes", "match", some, "--library", "aflow", "--top", "288"),
        *("-o", out, "--force", "--json"),
    ).stdout
    assert json.loads(said)["matched"] >= 3


def test_unique_marks_duplicates(some: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    assert "4 unique, 1 duplicates" in pigen("prototypes", "unique", some, "-o", out).stdout
    values = read_bundle(out).columns["unique"].values
    assert values.tolist() == [True, True, True, False, True]


def test_filter_by_prototypes(some: Path, tmp_path: Path) -> None:
    library, out = tmp_path / "library.h5", tmp_path / "out.h5"
    pigen("prototypes", "build", some, "-o", library)
    said = pigen("filter", some, "--prototypes", library, "--top", "1", "-o", out, "--json").stdout
    counts = json.loads(said)
    assert counts["kept"] == 1
    assert counts["reasons"] == {"known prototype": 3, "no prototype, degenerate cell": 1}
    assert read_bundle(out).ids.tolist() == ["s2"]
    assert "no such file" in pigen("filter", some, "--prototypes", "afow", expect=2).stderr
    assert "--prototypes" in pigen("filter", some, "--top", "5", expect=2).stderr
