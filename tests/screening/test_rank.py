"""pigen rank: order, duplicates, known compounds, chemical systems, and what is printed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import Bundle, Column, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.run.best import best_of
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor
from pigen.screening.rank import Key, rank


def rocksalt(a: float, one: int, other: int) -> Crystals:
    cell = 0.5 * a * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystals.single(cell, [[0, 0, 0], [0.5, 0.5, 0.5]], [one, other])


def chloride(a: float, one: int, other: int) -> Crystals:
    return Crystals.single(a * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [one, other])


@pytest.fixture
def candidates() -> Bundle:
    """NaCl, the same a little larger, NaCl as CsCl, MgO, TaN, and one without a probability."""
    crystals = [
        rocksalt(5.64, 11, 17),
        rocksalt(5.66, 11, 17),
        chloride(3.4, 11, 17),
        rocksalt(4.21, 12, 8),
        rocksalt(4.4, 73, 7),
        rocksalt(5.0, 20, 16),
    ]
    p = np.array([0.2, 0.9, 0.5, 0.7, 0.4, np.nan])
    value = 0.2 - 0.2 * p
    columns = {
        "p_hull_050": Column(p, "", ""),
        "p_hull_100": Column(np.minimum(1.2 * p, 1.0), "", ""),
        "e_hull_est": Column(value, "eV/atom", "a fit"),
        "e_hull_est_common": Column(np.full(6, 0.03), "eV/atom", ""),
        "e_hull_est_sd": Column(np.where(np.isfinite(p), 0.08, np.nan), "eV/atom", ""),
    }
    return Bundle(
        crystals=Crystals.concatenate(crystals),
        ids=strings(["small", "large", "cscl", "mgo", "tan", "cas"]),
        columns=columns,
    )


BY_CHANCE = (Key("p_hull_050", descending=True),)


def test_order_duplicates_known_and_systems(candidates: Bundle) -> None:
    known = candidates.select(np.array([3]))
    found = rank(
        candidates,
        10,
        BY_CHANCE,
        SerialExecutor(),
        known_formulas=frozenset({"Mg1O1"}),
        known=[known],
    )
    assert found.bundle.ids.tolist() == ["large", "cscl", "tan"]
    assert found.bundle.columns["rank"].values.tolist() == [1, 2, 3]
    assert found.left_out == {
        "no p_hull_050": 1,
        "duplicate of one with a better rank": 1,
        "known compound": 1,
    }
    one = rank(candidates, 2, BY_CHANCE, SerialExecutor(), per_system=1)
    assert one.bundle.ids.tolist() == ["large", "mgo"]
    assert one.left_out["more than 1 of its chemical system"] == 1
    assert one.left_out["lower rank"] == 1


def test_known_composition_of_another_structure_stays(candidates: Bundle) -> None:
    known = candidates.select(np.array([2]))  # NaCl as CsCl
    found = rank(
        candidates,
        10,
        BY_CHANCE,
        SerialExecutor(),
        known_formulas=frozenset({"Cl1Na1", "N1Ta1"}),
        known=[known],
    )
    # TaN is of a known composition without a structure at hand: it counts as known.
    assert found.bundle.ids.tolist() == ["large", "mgo"]


def test_any_column_up_or_down(candidates: Bundle) -> None:
    keys = [Key.parse("e_hull_est:desc")]
    found = rank(candidates, 3, keys, SerialExecutor())
    assert found.bundle.ids.tolist() == ["small", "tan", "cscl"]
    assert Key.parse("mled") == Key("mled", descending=True)
    assert Key.parse("e_hull") == Key("e_hull", descending=False)
    assert Key.parse("mled:asc").text == "mled, least first"
    with pytest.raises(UsageError, match="expected NAME, NAME:asc or NAME:desc"):
        Key.parse("c:down")
    with pytest.raises(UsageError, match="no column of numbers 'c' to rank by; there are p_hull"):
        rank(candidates, 3, [Key.parse("c")], SerialExecutor())


def test_verb_writes_bundle_table_cifs_and_sheet(candidates: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "relaxed.h5", candidates)
    (tmp_path / "known.txt").write_text("MgO\n")
    args = ["rank", tmp_path / "relaxed.h5", "--n", "2", "--known", tmp_path / "known.txt"]
    args += ["-o", tmp_path / "best", "--json"]
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output + result.stderr
    said = json.loads(result.stdout)
    assert said["ranked"] == 2
    assert said["expected"]["p_hull_050"] == pytest.approx(1.4)
    best = read_bundle(tmp_path / "best.h5")
    assert best.ids.tolist() == ["large", "cscl"]
    with (tmp_path / "best.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert [row["formula"] for row in rows] == ["NaCl", "NaCl"]
    assert [row["space_group"] for row in rows] == ["Fm-3m (225)", "Pm-3m (221)"]
    assert float(rows[1]["volume (Å^3)"]) == pytest.approx(3.4**3, rel=1e-4)
    mass = (22.990 + 35.45) / 6.02214076e23  # g in one formula unit
    assert float(rows[1]["density (g/cm^3)"]) == pytest.approx(mass / 3.4e-8**3, rel=1e-3)
    cifs = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert cifs == ["1_NaCl_large.cif", "2_NaCl_cscl.cif"]
    assert "Pm-3m (221)" in (tmp_path / "best.svg").read_text("utf-8")
    assert (tmp_path / "best.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(main, [str(arg) for arg in args])
    assert again.exit_code == 2
    again = CliRunner().invoke(main, [str(arg) for arg in (*args, "--force")])
    assert again.exit_code == 0, again.output + again.stderr


def test_nothing_left_to_rank_is_an_error_with_the_reasons(
    candidates: Bundle, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "one.h5", candidates.select([3]))
    (tmp_path / "known.txt").write_text("MgO\n")
    args = ["rank", tmp_path / "one.h5", "--known", tmp_path / "known.txt", "-o", tmp_path / "best"]
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 1
    said = "nothing is left to rank of 1: 1: known compound; --keep-known keeps what is known"
    assert said in result.stderr
    assert not (tmp_path / "best.h5").exists()


def test_facts_and_descriptors_are_keys(candidates: Bundle) -> None:
    found = best_of(candidates, 2, SerialExecutor(), by=("density:desc",), keep_known=True)
    assert found.bundle.ids.tolist() == ["tan", "cas"]
    assert [key.text for key in found.keys] == ["density, greatest first"]
    found = best_of(candidates, 1, SerialExecutor(), by=("k",), keep_known=True)
    assert np.isfinite(found.bundle.columns["k"].values).all()
    bare = Bundle(crystals=candidates.crystals, ids=candidates.ids)
    assert best_of(bare, 1, SerialExecutor(), keep_known=True).keys == (Key("mled", True),)
