"""Figures: the numbers in their CSVs, and that they can be drawn of little or nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from real_crystals import ALL

from pigen.bundle import Bundle, Column, Rate, strings, write_bundle
from pigen.config import load_experiment, shipped_experiments
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import Composition
from pigen.csp.outcome import Outcome
from pigen.csp.results import Search, Step
from pigen.paper.columns import SEQUENCE
from pigen.paper.figures import distributions, filters, novelty, training
from pigen.paper.figures.data import CRITERIA, Measured
from pigen.paper.figures.style import look_of, new_figure, save
from pigen.paper.figures.traces import draw_traces
from pigen.run.table import RunTable
from pigen.runtime.resources import TRAINING_HISTOGRAMS
from pigen.screening.stability import STABLE

N = 40


def measured(name: str, row: str, seed: int) -> Measured:
    """A row of made-up values, consistent in itself."""
    rng = np.random.default_rng(seed)
    passed = {letter: rng.random(N) < 0.7 for letter in CRITERIA}
    left, funnel = np.ones(N, dtype=bool), {}
    for letter in SEQUENCE:
        left = left & passed[letter]
        funnel[letter] = Rate(int(left.sum()), N)
    e_hull = rng.normal(0.08, 0.05, size=int(left.sum()))
    e_hull[0] = np.nan
    mled = rng.normal(9, 1, size=N)
    mled[3] = np.nan
    rates = {name: Rate(int((e_hull < limit).sum()), N) for name, limit in STABLE.items()}
    return Measured(
        table=RunTable(name, row, {**rates, "sequence": funnel["D"]}, funnel, {}, {}),
        mled=mled,
        k=rng.uniform(0, 4.4, size=N),
        passed=passed,
        e_hull=e_hull,
        ranks=rng.choice([0, 0, 3, 40, 200], size=17),
    )


ROWS = [
    measured("pigen_c", "PIGEN | C=0.7", 0),
    measured("pigen_ehull", "PIGEN | E_hull=0", 1),
    measured("mine", "", 2),
]


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def check_png(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5_000


# -- numbers ---------------------------------------------------------------------------------------
def test_mled_shares_add_up_and_are_those_of_the_rows(tmp_path: Path) -> None:
    distributions.draw_mled(tmp_path, ROWS)
    check_png(tmp_path / "figure_3a.png")
    lines = lines_of(tmp_path / "figure_3a.csv")
    names = list(lines[0])
    assert names[:3] == ["from_bits", "to_bits", "training set, %"]
    assert names[3:] == ["PIGEN | C=0.7, %", "PIGEN | E_hull=0, %", "mine, %"]
    for name in names[2:]:
        assert sum(float(line[name]) for line in lines) == pytest.approx(100, abs=1e-3)
    values = ROWS[0].mled[~np.isnan(ROWS[0].mled)]
    above = sum(float(line[names[3]]) for line in lines if float(line["from_bits"]) >= 9)
    assert above == pytest.approx(100 * (values >= 9).mean(), abs=1e-3)


def test_overlap_counts_each_structure_once(tmp_path: Path) -> None:
    filters.draw_overlap(tmp_path, ROWS)
    check_png(tmp_path / "figure_3b.png")
    lines = lines_of(tmp_path / "figure_3b.csv")
    assert len(lines) == 16
    row = ROWS[1]
    assert sum(float(line[f"{row.label}, %"]) for line in lines) == pytest.approx(100)
    (all_four,) = [line for line in lines if all(line[letter] == "1" for letter in "ABCD")]
    assert float(all_four[f"{row.label}, %"]) == 100 * row.table.funnel["D"].fraction


def test_funnel_and_thresholds_are_the_tables(tmp_path: Path) -> None:
    filters.draw_funnel(tmp_path, ROWS)
    filters.draw_thresholds(tmp_path, ROWS)
    lines = lines_of(tmp_path / "extended_data_figure_2.csv")
    assert [line["filters"] for line in lines[:5]] == ["A", "A–B", "A–C", "A–D", "E < 50"]
    assert float(lines[3]["left, %"]) == 100 * ROWS[0].table.funnel["D"].fraction
    assert float(lines[3]["published, %"]) == 27.9
    assert lines[-1]["published, %"] == ""
    lines = lines_of(tmp_path / "extended_data_figure_3.csv")
    below = {line["below, meV/atom"]: line for line in lines}
    for column, limit in STABLE.items():
        found = float(below[f"{1000 * limit:.0f}"]["mine, %"])
        assert found == pytest.approx(100 * ROWS[2].table.rates[column].fraction)
    check_png(tmp_path / "extended_data_figure_2.png")
    check_png(tmp_path / "extended_data_figure_3.png")


def test_unmatched_falls_from_all_to_what_no_framework_fits(tmp_path: Path) -> None:
    novelty.draw_novelty(tmp_path, ROWS, "reference")
    check_png(tmp_path / "figure_3d.png")
    lines = lines_of(tmp_path / "figure_3d.csv")
    name = "mine (n = 17), %"
    shares = [float(line[name]) for line in lines]
    assert len(shares) == 101
    assert shares[0] == 100
    assert shares == sorted(shares, reverse=True)
    ranks = ROWS[2].ranks
    assert ranks is not None
    assert shares[50] == pytest.approx(100 * np.isin(ranks, [0, 200]).mean(), abs=1e-3)


def test_published_shares_belong_to_rows_of_the_tables() -> None:
    rows = {load_experiment(name).row for name in shipped_experiments()}
    assert set(novelty.published_unmatched()) <= rows


# -- the training set ------------------------------------------------------------------------------
def test_training_histograms_ship_and_have_one_total() -> None:
    content = json.loads(TRAINING_HISTOGRAMS.read_text(encoding="utf-8"))
    assert "17257 structures" in content["source"]
    for labels in (("mled",), ("k",), ("mled", "k"), ("c", "e_hull")):
        found = training.histogram(*labels)
        assert found.counts.shape == tuple(len(edges) - 1 for edges in found.edges)
        assert found.counts.sum() + content["histograms"][",".join(labels)]["outside"] == 17257
    both = training.histogram("mled", "k")
    assert both.counts.sum() == 17257 - 17  # crystals without M_LED
    np.testing.assert_array_equal(both.counts.sum(axis=1), training.histogram("mled").counts)


def test_training_figures_are_drawn(tmp_path: Path) -> None:
    distributions.draw_compactness(tmp_path)
    distributions.draw_complexity(tmp_path, ROWS)
    counted = sum(int(line["structures"]) for line in lines_of(tmp_path / "figure_3c.csv"))
    assert counted == training.histogram("c", "e_hull").counts.sum()
    lines = lines_of(tmp_path / "extended_data_figure_1a.csv")
    assert sum(int(line["structures"]) for line in lines) == 17240
    for name in ("figure_3c", "extended_data_figure_1"):
        check_png(tmp_path / f"{name}.png")


def test_counting_a_labelled_bundle(tmp_path: Path) -> None:
    crystals = Crystals.concatenate(ALL)
    n = len(crystals)
    values = {"mled": 8.1, "k": 1.0, "c": 0.7, "e_hull": 0.01}
    columns = {
        name: Column(np.full(n, value), "", f"made {name}") for name, value in values.items()
    }
    ids = strings(str(i) for i in range(n))
    write_bundle(tmp_path / "labelled.h5", Bundle(crystals=crystals, ids=ids, columns=columns))
    text = training.count(tmp_path / "labelled.h5")
    assert f"{n} structures of the training set; made c, made mled, made k" in text
    assert text.count(f",{n},") == 4  # all in one bin of each histogram
    assert text.count('"outside":0') == 4


# -- searches --------------------------------------------------------------------------------------
def search(energies: list[float], n_seeds: int) -> Search:
    steps = [Step(i < 2, i, e, f"{i}.cif", "move") for i, e in enumerate(energies)]
    return Search(
        Path(), "converged", "", "pigen csp-run", "chgnet 0.3.0", tuple(steps), n_seeds, 0
    )


def test_traces_hold_every_relaxation_with_an_energy(tmp_path: Path) -> None:
    composition = Composition(
        "001_Mg1O1", "Mg1O1", {"Mg": 1, "O": 1}, "x", (), None, 2, 2, "", 2,
        {"seeded": 1, "composition_only": 2},
    )  # fmt: skip
    outcome = Outcome(
        composition, search([-5.0, np.inf, -5.2], 1), search([np.inf, -5.1, -5.3, -5.25], 0)
    )
    draw_traces(tmp_path, [outcome], {"Mg1O1": -5.31})
    check_png(tmp_path / "figure_5.png")
    lines = lines_of(tmp_path / "figure_5.csv")
    assert [line["relaxation"] for line in lines] == ["0", "2", "1", "2", "3"]
    assert {line["search"] for line in lines} == {"seeded", "composition_only"}


# -- looks -----------------------------------------------------------------------------------------
def test_rows_can_be_told_apart() -> None:
    looks = [look_of(name) for name in shipped_experiments()]
    assert len(set(looks)) == len(looks)


def test_figures_of_no_structures_are_drawn(tmp_path: Path) -> None:
    empty = Measured(
        RunTable("none", "", {"sequence": Rate(0, 0)}, {}, {}, {}),
        *(np.zeros(0), np.zeros(0)),
        {letter: np.zeros(0, dtype=bool) for letter in CRITERIA},
        np.zeros(0),
        np.zeros(0, dtype=np.int64),
    )
    distributions.draw_mled(tmp_path, [empty])
    filters.draw_overlap(tmp_path, [empty])
    filters.draw_thresholds(tmp_path, [empty])
    novelty.draw_novelty(tmp_path, [empty], "reference")
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_equal_data_make_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figure = new_figure(2, 2)
        figure.subplots().plot([1, 2], [3, 4])
        save(figure, tmp_path / name, "figure", ["x", "y"], [(1, 3.0), (2, 4.0)])
    for name in ("figure.png", "figure.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
