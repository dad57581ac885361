"""The verbs filter, label, spp-fit and known, from files to files."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from known_structures import every_element, known_structures

from pigen import api
from pigen.bundle import Bundle, BundleWriter, bundle_info, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.descriptors.novelty import read_formulas
from pigen.descriptors.spp import load_table
from pigen.runtime.resources import MP_COMPOSITIONS

NAMES = sorted(known_structures())


def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    if expect:
        assert result.stderr.startswith("pigen: error: ")
        assert result.stderr.count("\n") == 1  # no traceback
    return result


def as_json(*args: str | Path) -> dict[str, Any]:
    found = json.loads(pigen(*args, "--json").stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def known_bundle(tmp_path: Path) -> Path:
    """The known structures, by name, and one that lacks a radius."""
    crystals = [known_structures()[name].crystals for name in NAMES]
    path = tmp_path / "known.h5"
    bundle = Bundle(
        crystals=Crystals.concatenate([*crystals, every_element()[84]]),
        ids=strings([*NAMES, "AtO"]),
    )
    write_bundle(path, bundle)
    return path


@pytest.fixture
def table_of_cifs(tmp_path: Path) -> Path:
    """A CSV as generators write it: an index, CIFs, an energy, and rows that are no crystal."""
    path = tmp_path / "made.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["", "e_above_hull", "cif"])
        for i, name in enumerate(NAMES):
            structure = known_structures()[name].crystals.to_pymatgen()[0]
            rows.writerow([i, "" if i % 2 else 0.01 * i, structure.to(fmt="cif")])
        rows.writerow([98, 0.0, "data_broken\n_cell_length_a ?"])
        rows.writerow([99, 0.0, ""])
    return path


# -- filter ---------------------------------------------------------------------------------------
def test_filter_keeps_what_passes_and_says_why_not(known_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "good.h5"
    result = pigen("filter", known_bundle, "--c", "0.55:0.85", "--k", "0.95", "-o", out)
    kept = [n for n in NAMES if 0.55 < known_structures()[n].c < 0.85]
    kept = [n for n in kept if known_structures()[n].k > 0.95]
    survivors = read_bundle(out)
    assert survivors.ids.tolist() == kept == ["LiCoO2", "MgO", "SrTiO3"]
    assert len(survivors) + len(survivors.rejects) == len(NAMES) + 1
    assert survivors.verdicts["c"].passed.all()
    assert {r.id: r.reason for r in survivors.rejects}["AtO"] == "no c, no atomic radius: At"
    assert [one.text for one in survivors.criteria.values()] == ["0.55 < c < 0.85", "k > 0.95"]
    assert survivors.are_survivors
    lines = result.stdout.splitlines()
    assert lines[1].startswith("C  0.55 < c < 0.85")
    assert re.search(r" \d+ / 12 \(.*\)  +\d+ \(.* %\)$", lines[1])
    assert f"read 12, kept {len(kept)}, rejected {12 - len(kept)}" in lines


def test_a_csv_is_filtered_at_once(table_of_cifs: Path, tmp_path: Path) -> None:
    out = tmp_path / "good.h5"
    counts = as_json("filter", table_of_cifs, "--c", ":0.7", "-o", out)
    expected = sum(known.c < 0.7 for known in known_structures().values())
    assert (counts["read"], counts["unreadable"], counts["kept"]) == (len(NAMES) + 2, 2, expected)
    assert counts["kept"] + counts["rejected"] == counts["read"]
    assert counts["criteria"][0]["alone"]["total"] == counts["read"]
    assert counts["reasons"]["c not below 0.7"] == len(NAMES) - expected
    assert len(read_bundle(out).rejects) == counts["rejected"]


def test_without_criteria_the_papers_apply(known_bundle: Path, tmp_path: Path) -> None:
    counts = as_json("filter", known_bundle, "-o", tmp_path / "good.h5")
    found = {c["name"]: c["sequence"] is not None for c in counts["criteria"]}
    assert found == {
        "min_distance": False,
        "spp": True,
        "novel": True,
        "c": True,
        "mled": True,
        "k": False,
    }


def test_chemistry_is_asked_for_by_options(known_bundle: Path, tmp_path: Path) -> None:
    asked = ["--elements", "O", "--elements-one-of", "Ti,Si", "--n-elements", "2:3"]
    asked += ["--charge-balanced", "--stoichiometry", "metal,Si : O = 1:2"]
    out = tmp_path / "out.h5"
    found = as_json("filter", known_bundle, *asked, "-o", out)
    assert [one["text"] for one in found["criteria"]] == [
        "elements with O, Ti or Si",
        "2 ≤ n_elements ≤ 3",
        "charge_balanced",
        "metal,Si : O = 1:2",
    ]
    kept = read_bundle(out)
    assert kept.crystals.reduced_formulas() == ["O2Ti1"]
    assert found["kept"] == 1
    from_python = api.filter(
        known_bundle,
        elements_required=["O"],
        elements_one_of=[["Ti", "Si"]],
        n_elements=(2, 3),
        charge_balanced=True,
        stoichiometry="metal,Si : O = 1:2",
    )
    assert from_python.ids.tolist() == kept.ids.tolist()


def test_new_to_the_materials_project(known_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    found = as_json("filter", known_bundle, "--novel", "--known", "mp", "-o", out)
    assert [one["text"] for one in found["criteria"]] == ["new to the Materials Project"]
    assert found["kept"] == 1  # AtO alone
    assert len(read_formulas(MP_COMPOSITIONS)) == 95_118
    with gzip.open(MP_COMPOSITIONS, "rt", encoding="utf-8") as file:
        assert "CC BY 4.0" in file.readline()
    pigen("filter", known_bundle, "--novel", "--known", "icsd", "-o", out, "--force", expect=2)


def test_survivors_have_a_name_of_their_own(
    known_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pigen("filter", known_bundle, "--c", "0.5:")
    assert bundle_info("known_passed.h5").complete
    assert "exists" in pigen("filter", known_bundle, "--c", "0.5:", expect=2).stderr
    pigen("filter", known_bundle, "--c", "0.5:", "--force")
    pigen("filter", "known_passed.h5", "--c", "0.5:")  # of the survivors, all
    assert len(read_bundle("known_passed_passed.h5").rejects) == 0


def test_all_structures_can_be_kept_with_their_verdicts(known_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged.h5"
    pigen("filter", known_bundle, "--c", "0.5:", "-o", out, "--keep-all")
    judged = read_bundle(out)
    assert judged.ids.tolist() == [*NAMES, "AtO"]
    assert judged.verdicts["c"].passed.sum() == sum(k.c > 0.5 for k in known_structures().values())


def test_columns_are_computed_once(known_bundle: Path, tmp_path: Path) -> None:
    labelled, out = tmp_path / "labelled.h5", tmp_path / "good.h5"
    pigen("label", known_bundle, "-o", labelled, "--columns", "k")
    info = bundle_info(labelled)
    # A value no crystal has shows where a filter took it from.
    bundle = read_bundle(labelled)
    values = np.full(len(bundle), 50.0)
    marked = bundle.with_columns(
        {"k": type(bundle.columns["k"])(values, "bits/atom", info.columns["k"].source)}
    )
    with BundleWriter(labelled, {}) as writer:
        writer.append(marked)
    assert as_json("filter", labelled, "--k", "40:", "-o", out)["kept"] == 12
    again = ("filter", labelled, "--k", "40:", "-o", out, "--force", "--set", "k.symprec=0.2")
    assert as_json(*again)["kept"] == 0


def test_tables_and_compositions_can_be_given(known_bundle: Path, tmp_path: Path) -> None:
    table, known = tmp_path / "t.json", tmp_path / "mine.txt"
    table.write_text(json.dumps({"Mg-O": {"2.125": 0.1}, "O-O": {"2.975": 0.1}}))
    known.write_text("MgO\nSi\n")
    out = tmp_path / "good.h5"
    counts = as_json("filter", known_bundle, "--spp", "1", "--spp-table", table, "-o", out)
    assert counts["reasons"]["no spp, no potential for a pair"] == 12
    counts = as_json("filter", known_bundle, "--novel", "--known", known, "-o", out, "--force")
    assert counts["reasons"] == {"not novel": 2}
    as_source = ("filter", known_bundle, "--novel", "--known", known_bundle, "-o", out, "--force")
    assert as_json(*as_source)["kept"] == 0


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--c", "0.7"], "give a window"),
        (["--c", "0.8:0.5"], "lower end must be below"),
        (["--c", "0.5:0.5"], "lower end must be below"),
        (["--c", ":"], "neither a lower nor an upper end"),
        (["--spp", "low"], "'low' is not a number"),
        (["--k", "1:2:3"], "not a number"),
        (["--mled", "nan"], "leave an end open"),
        (["--mled", "9:inf"], "leave an end open"),
        (["--c", "0.5:", "--spp-table", "gone.npz"], "gone.npz"),
        (["--c", "0.5:", "--set", "k.symprec=0.1"], "no criterion here"),
        (["--k", "1:", "--set", "k.symprek=0.1"], "no setting 'symprek'"),
        (["--k", "1:", "--set", "k.symprec=low"], "expected a float"),
        (["--k", "1:", "--set", "symprec=0.1"], "DESCRIPTOR.SETTING=VALUE"),
        (["--k", "1:", "-o", "no/such/folder.h5"], "no such folder"),
        (["--executor", "local:0"], "local:0"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    known_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    args: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in pigen("filter", known_bundle, *args, expect=2).stderr
    assert not (tmp_path / "known_passed.h5").exists()


def test_a_source_is_never_overwritten(known_bundle: Path) -> None:
    before = known_bundle.read_bytes()
    for verb in (["filter", "--c", "0.5:"], ["label"], ["known"], ["spp-fit"]):
        args = [verb[0], known_bundle, *verb[1:], "-o", known_bundle, "--force"]
        assert "source" in pigen(*args, expect=2).stderr
    assert known_bundle.read_bytes() == before


def test_workers_change_nothing(shared_data: Path, tmp_path: Path) -> None:
    """Two spawned workers and none give the same counts and the same file, on real structures."""
    source = tmp_path / "some.csv"
    with gzip.open(shared_data / "mp20" / "test.csv.gz", "rt", newline="") as file:
        rows = csv.reader(file)
        with source.open("w", newline="") as out:
            csv.writer(out).writerows(row for row, _ in zip(rows, range(601), strict=False))
    found = []
    for workers in ("1", "2"):
        path = tmp_path / f"{workers}.h5"
        window = ("--c", "0.55:0.85", "--spp", "0.362", "--k", "1:")
        counts = as_json("filter", source, *window, "-o", path, "--executor", f"local:{workers}")
        bundle = read_bundle(path)
        found.append(({**counts, "output": ""}, bundle.ids.tolist(), bundle.columns["spp"].values))
    assert found[0][0] == found[1][0]
    assert found[0][0]["read"] == 600
    assert found[0][1] == found[1][1]
    np.testing.assert_array_equal(found[0][2], found[1][2])


# -- label ----------------------------------------------------------------------------------------
def test_label_makes_a_training_set(table_of_cifs: Path, tmp_path: Path) -> None:
    out = tmp_path / "data.h5"
    counts = as_json("label", table_of_cifs, "-o", out)
    assert (counts["read"], counts["labelled"], counts["rejected"]) == (13, 11, 2)
    data = read_bundle(out)
    assert {"c", "mled", "h_p", "h_s", "motif", "k", "e_hull"} <= set(data.columns)
    expected = [np.nan if i % 2 else 0.01 * i for i in range(11)]
    np.testing.assert_allclose(data.columns["e_hull"].values, expected)
    for name, c, k in zip(NAMES, data.columns["c"].values, data.columns["k"].values, strict=True):
        known = known_structures()[name]
        assert (c, k) == pytest.approx((known.c, known.k), abs=1e-3)


def test_label_goes_on_where_it_was_stopped(
    table_of_cifs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pigen.io.sources.CHUNK", 3)
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    args = ("--columns", "c,k")
    pigen("label", table_of_cifs, "-o", whole, *args)

    append = BundleWriter.append

    def dies_after_two(self: BundleWriter, chunk: Bundle, state: str = "") -> None:
        if self.n_written >= 6:
            raise KeyboardInterrupt
        append(self, chunk, state)

    with monkeypatch.context() as patch:
        patch.setattr(BundleWriter, "append", dies_after_two)
        pigen("label", table_of_cifs, "-o", parts, *args, expect=130)
    assert bundle_info(parts).n_crystals == 6
    other = ("label", table_of_cifs, "-o", parts, "--columns", "c", "--resume")
    assert "label k" in pigen(*other, expect=2).stderr
    counts = as_json("label", table_of_cifs, "-o", parts, *args, "--resume")
    assert counts["resumed_after"] == 6
    a, b = read_bundle(whole), read_bundle(parts)
    assert a.ids.tolist() == b.ids.tolist()
    assert a.rejects == b.rejects
    np.testing.assert_array_equal(a.columns["k"].values, b.columns["k"].values)
    assert as_json("label", table_of_cifs, "-o", parts, *args, "--resume")["resumed_after"] == 13


def test_label_refuses_what_it_does_not_know(known_bundle: Path, tmp_path: Path) -> None:
    args = ("label", known_bundle, "-o", tmp_path / "data.h5", "--columns", "c,mleg")
    assert "no descriptor named 'mleg'" in pigen(*args, expect=2).stderr
    assert not (tmp_path / "data.h5").exists()


# -- what descriptors need ------------------------------------------------------------------------
def test_spp_fit_makes_a_table_that_filter_takes(known_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.npz"
    assert "fitted to 12 structures" in pigen("spp-fit", known_bundle, "-o", table).stdout
    assert load_table(table).provenance["sources"] == "known.h5"
    assert str(tmp_path) not in json.dumps(dict(load_table(table).provenance))
    args = ("filter", known_bundle, "--spp", "0.362", "--spp-table", table)
    assert as_json(*args, "-o", tmp_path / "good.h5")["kept"] == 11  # 95 % of 12


def test_known_lists_formulas(known_bundle: Path, tmp_path: Path) -> None:
    listed = tmp_path / "known.txt.gz"
    assert "12 formulas" in pigen("known", known_bundle, "-o", listed).stdout
    text = gzip.decompress(listed.read_bytes()).decode().splitlines()
    assert "O3Sr1Ti1" in text
    assert not any(str(tmp_path) in line for line in text)
    assert ".txt.gz" in pigen("known", known_bundle, "-o", tmp_path / "x.csv", expect=2).stderr
