"""Composition in, structures out: the ranking, the request's errors, and the verb as it is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from real_crystals import NACL

from pigen.bundle import Bundle, Column, read_bundle, strings
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.run.predict import rank
from pigen.runtime.executor import SerialExecutor

CSCL = Crystals.single(
    lattice=3.42 * np.eye(3), frac_coords=[[0, 0, 0], [0.5, 0.5, 0.5]], atomic_numbers=[11, 17]
)
NACL_CUBE = Crystals.single(
    lattice=5.70 * np.eye(3),
    frac_coords=np.array(
        [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    )
    / 2,
    atomic_numbers=[11] * 4 + [17] * 4,
)


def predict(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, args)])


def relaxed(crystals: list[Crystals], energies: list[float], converged: list[bool]) -> Bundle:
    return Bundle(
        crystals=Crystals.concatenate(crystals),
        ids=strings(f"NaCl-{i}" for i in range(len(crystals))),
        columns={
            "e_relaxed": Column(np.array(energies), "eV/atom", "a test"),
            "converged": Column(np.array(converged), "", "a test"),
        },
    )


def test_one_of_each_kind_lowest_first() -> None:
    found = rank(
        relaxed(
            [CSCL, NACL_CUBE, NACL, CSCL, NACL],
            [-3.3, -3.40, -3.41, -9.0, np.nan],
            [True, True, True, False, True],
        ),
        SerialExecutor(),
    )
    assert found.ids.tolist() == ["NaCl-2", "NaCl-0"]
    columns = {name: column.values.tolist() for name, column in found.columns.items()}
    assert columns["rank"] == [1, 2]
    assert columns["n_found"] == [2, 1]  # the cube is the same crystal as the primitive cell
    assert columns["e_above_lowest"] == pytest.approx([0, 0.11])
    assert columns["space_group"] == [225, 221]


def test_of_nothing_that_converged_nothing_is_ranked() -> None:
    found = rank(relaxed([NACL], [-3.4], [False]), SerialExecutor())
    assert len(found) == 0
    assert {"rank", "n_found", "space_group"} <= set(found.columns)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["MgQ"], "'MgQ'"),
        (["Mg0.5O"], "'Mg0.5O'"),
        (["Og"], "'Og'"),
        (["Fe24O36Al"], "61 atoms, the model's largest cell 20"),
        (["MgO", "--formula-units", "11"], "22 atoms, the model's largest cell 20"),
        (["MgO", "--space-group", "Fm-3q"], "'Fm-3q' is no space group"),
        (["MgO", "--set", "sample.composition=NaCl", "--set", "sample.nn=1"], "sample.nn"),
        ([], "no composition"),
        (["MgO", "--resume", "--force"], "give one of them"),
    ],
)
def test_wrong_requests_end_before_any_work(args: list[str], said: str, tmp_path: Path) -> None:
    out = tmp_path / "predicted"
    done = predict(*args, "-o", out)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not out.exists()


def test_a_list_of_compositions_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    done = predict("--compositions", tmp_path / "list.txt", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "list.txt: expected a text file" in done.stderr


def test_samples_alone_go_on_and_start_over(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("NaCl\n\nMgO\n")
    out = tmp_path / "out"
    few = ("--energy", "none", "--n", "2", "--set", "sample.steps=3", "-o", out)
    asked = ("--compositions", tmp_path / "list.txt", *few)
    first = predict(*asked, "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["structures"] == 4
    found = read_bundle(out / "predicted.h5")
    assert sorted(set(found.columns["composition"].values)) == ["MgO", "NaCl"]
    for crystal in found.crystals:
        assert len(np.unique(crystal.atomic_numbers)) == 2

    assert predict(*asked).exit_code == 2
    assert "--resume goes on with it" in predict(*asked).stderr
    for again in ("--resume", "--force"):
        done = predict(*asked, again)
        assert done.exit_code == 0, done.output
        repeated = read_bundle(out / "predicted.h5")
        np.testing.assert_array_equal(found.crystals.frac_coords, repeated.crystals.frac_coords)


@pytest.mark.slow  # CHGNet
def test_rock_salt_is_the_lowest_of_its_composition(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = predict("NaCl", "--n", "10", "--top", "3", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["rank"] == 1
    assert [row["e_above_lowest"] for row in rows] == sorted(r["e_above_lowest"] for r in rows)
    assert rows[0]["space_group"] == 225
    best = read_bundle(out / "predicted.h5")
    assert best.passed().all()
    page = (out / "report.html").read_text("utf-8")
    assert all(id_ in page for id_ in best.ids)
