"""Rates, differences and the tables written from them."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from pigen.bundle import Rate
from pigen.paper.columns import LETTERS
from pigen.paper.published import (
    EXPECTED_NOTE,
    HULL_NOTE,
    MATTERGEN_NOTE,
    difference,
    published,
    published_figures,
    published_rows,
)
from pigen.paper.tables import join, joined, published_files, render
from pigen.run.table import RunTable
from pigen.runtime.errors import PigenError, UsageError
from pigen.screening.stability import STABLE, SUN

PIGEN_ROW = "PIGEN | (M_LED=9, C=0.7)"


def table(row: str = PIGEN_ROW, name: str = "run") -> RunTable:
    alone = {"A_prime": 100, "A": 80, "B": 50, "C": 60, "D": 40, "K": 10, "sequence": 20}
    return RunTable(
        name=name,
        row=row,
        rates={letter: Rate(n, 100) for letter, n in alone.items()},
        funnel={letter: Rate(n, 100) for letter, n in zip("ABCD", (80, 40, 30, 20), strict=True)},
        criteria={letter: f"{letter} criterion" for letter in LETTERS},
        provenance={"seed": "0", "training": "a file"},
    )


def markdown(which: str, *tables: RunTable) -> str:
    runs = {Path(table.name): table for table in tables}
    return join(joined(which, runs, head={}), runs.values())


def test_rate_prints_as_the_issue_asks() -> None:
    assert str(Rate(64, 64)) == "64 / 64 (100.0 ± 0.0 %)"
    assert str(Rate(42, 100)) == "42 / 100 (42.0 ± 4.9 %)"


def test_published_figures_are_those_of_the_paper() -> None:
    assert published(PIGEN_ROW, "A") == 78.4
    assert published(PIGEN_ROW, "sequence") == 42.0
    assert published("Pseudo-random", "sequence") == 0.03
    assert published("no such model", "A") is None
    assert published_figures("MatterGen", "sequence") == (16.4, 17.8)
    assert len(published_rows()) == 13


def test_difference_is_a_two_proportion_z() -> None:
    pooled = (50 + 4200) / 10_100
    expected = (0.5 - 0.42) / sqrt(pooled * (1 - pooled) * (1 / 100 + 1 / 10_000))
    assert difference(0.5, 100, 42.0) == pytest.approx(expected)
    assert difference(1.0, 100, 100.0) == 0.0
    assert difference(0.0, 100, 0.0) == 0.0
    assert difference(0.5, 2, None) is None
    assert difference(0.0, 0, 42.0) is None


def test_difference_has_unit_spread_when_nothing_differs() -> None:
    counts = np.random.default_rng(0).binomial(200, 0.42, size=4000)
    z = [difference(int(k) / 200, 200, 42.0) for k in counts]
    assert np.mean(np.array(z, dtype=float)) == pytest.approx(0, abs=0.06)
    assert np.std(np.array(z, dtype=float)) == pytest.approx(1, abs=0.05)


def test_a_run_without_a_criterion_shows_what_it_has() -> None:
    whole = table()
    partial = replace(
        whole,
        rates={key: rate for key, rate in whole.rates.items() if key != "B"},
        funnel={key: rate for key, rate in whole.funnel.items() if key != "B"},
        criteria={key: text for key, text in whole.criteria.items() if key != "B"},
    )
    assert "| in sequence | A, C, D | 20 / 100" in render(partial)
    (row,) = [line for line in markdown("ed1", partial).splitlines() if "measured, n" in line]
    assert " | – | " in row


def test_json_holds_counts_and_derived_figures_and_reads_back(tmp_path: Path) -> None:
    measured = table()
    (tmp_path / "table.json").write_text(measured.to_json(), encoding="utf-8")
    assert RunTable.read(tmp_path) == measured
    content = json.loads(published_files(measured)["table.json"])
    assert content["rates"]["A"]["percent"] == 80.0
    assert content["rates"]["A"]["published_percent"] == 78.4


def test_reading_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a finished run"):
        RunTable.read(tmp_path)
    (tmp_path / "table.json").write_text("{", encoding="utf-8")
    with pytest.raises(PigenError, match="not valid JSON"):
        RunTable.read(tmp_path)
    (tmp_path / "table.json").write_text("{}", encoding="utf-8")
    with pytest.raises(PigenError, match=r"table\.json: name: missing"):
        RunTable.read(tmp_path)


def test_run_markdown_shows_measured_published_and_difference() -> None:
    text = render(table())
    assert "- training: a file" in text
    assert "| A′ | A_prime criterion | 100 / 100 (100.0 ± 0.0 %) | 99.8 % | +0.4 s.e. |" in text
    assert "| 20 / 100 (20.0 ± 4.0 %) | 42.0 % | −4.4 s.e. |" in text
    assert "of 100 structures: A → 80; B → 40; C → 30; D → 20" in text
    assert MATTERGEN_NOTE not in text
    assert MATTERGEN_NOTE in render(table("MatterGen"))
    assert "| 16.4 % or 17.8 % |" in render(table("MatterGen"))


def test_run_without_a_published_row_shows_dashes() -> None:
    assert "| 80 / 100 (80.0 ± 4.0 %) | – | – |" in render(table(""))


@pytest.mark.parametrize("which", ["1", "ed1"])
def test_joined_table_is_well_formed_and_holds_every_row(which: str) -> None:
    text = markdown(which, table(), table("Pseudo-random", "random"), table("", "mine"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in rows}
    assert len(bars) == 1
    published_models = {line.split("| published")[0] for line in rows if "| published" in line}
    assert len(published_models) == {"1": 12, "ed1": 13}[which]
    order = [i for i, line in enumerate(rows) if "measured" in line]
    assert "Pseudo-random" in rows[order[0] - 1]
    assert PIGEN_ROW.replace("|", "\\|") in rows[order[1] - 1]
    assert rows[-1].startswith("| mine | measured, n = 100 |")
    assert (MATTERGEN_NOTE in text) == (which == "1")


def with_energies() -> RunTable:
    counts = dict(zip([*STABLE, SUN], (9, 5, 3, 2, 4), strict=True))
    measured = table()
    return replace(
        measured,
        rates={**measured.rates, **{column: Rate(n, 100) for column, n in counts.items()}},
        provenance={**measured.provenance, "hull": "a part of all compounds"},
        largest_mled=10.26,
    )


def test_published_energies_and_largest_mled() -> None:
    assert [published(PIGEN_ROW, column) for column in STABLE] == [8.7, 3.8, 2.3, 1.5]
    assert published(PIGEN_ROW, "F") == 10.9
    assert published("Pseudo-random", "F") is None
    assert published(PIGEN_ROW, SUN) is None
    assert published_figures("MatterGen", "E50") == (1.2, 2.5)
    assert published_figures("MatterGen", "F") == (10.5, 10.7)


def test_energies_stand_beside_the_published_ones(tmp_path: Path) -> None:
    measured = with_energies()
    text = render(measured)
    assert "- hull: a part of all compounds" in text
    rows = [line for line in text.splitlines() if line.startswith("| E |")]
    assert len(rows) == 4
    assert "A, B, C, D and e_hull < 100 meV/atom | 9 / 100 (9.0 ± 2.9 %) | 8.7 % |" in rows[0]
    assert "| F | largest mled, e_hull < 50 meV/atom | 10.3 | 10.9 | – |" in text
    assert "| S.U.N. | A, B, C, D, stable, unique, novel structure | 4 / 100" in text
    assert HULL_NOTE in text
    assert "| E |" not in render(table())
    assert HULL_NOTE not in render(table())
    (tmp_path / "table.json").write_text(measured.to_json(), encoding="utf-8")
    assert RunTable.read(tmp_path) == measured


def test_what_dft_is_expected_to_give_comes_first(tmp_path: Path) -> None:
    expected = {"E100": 0.03, "E50": 0.01, "E35": 0.005, "E25": 0.0, SUN: 0.02, "F": 9.4}
    systematic = {"E50": 0.02}
    measured = replace(with_energies(), expected=expected, systematic=systematic)
    (tmp_path / "table.json").write_text(published_files(measured)["table.json"], encoding="utf-8")
    assert RunTable.read(tmp_path) == measured
    lines = render(measured).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| E |"))
    words = "A, B, C, D and e_hull < 100 meV/atom, expected of DFT"
    assert lines[first] == f"| E | {words} | 3.0 ± 1.7 % | 8.7 % | −2.0 s.e. |"
    assert lines[first + 1] == "|  | by the potential alone | 9 / 100 (9.0 ± 2.9 %) |  |  |"
    assert "| F | largest mled, e_hull < 50 meV/atom, expected of DFT | 9.4 bits | 10.9 | – |" in (
        lines
    )
    assert EXPECTED_NOTE in lines
    assert HULL_NOTE not in lines
    joined_lines = markdown("1", measured).splitlines()
    place = next(i for i, line in enumerate(joined_lines) if line.startswith("| run |"))
    assert "| 3.0 ± 1.7 (−2.0 s.e.) | 1.0 ± 2.2 (" in joined_lines[place]
    alone = (
        "|  | by the potential alone |  | 9.0 ± 2.9 | 5.0 ± 2.2 | 3.0 ± 1.7 | 2.0 ± 1.4 | 10.3 |"
    )
    assert joined_lines[place + 1] == f"{alone} 4.0 ± 2.0 |"
    (cell,) = [
        c
        for c in joined("1", {tmp_path: measured}).data()
        if (c["run"], c["column"]) == ("run", "E100")
    ]
    assert (cell["value"], cell["passed"], cell["expected"]) == (9.0, 9, 3.0)


def test_joined_table_1_has_columns_d_e_f_and_sun() -> None:
    text = markdown("1", with_energies(), table("", "mine"))
    lines = text.splitlines()
    head = "| model | source | A–D | E < 100 | E < 50 | E < 35 | E < 25 | F | S.U.N. |"
    assert head in lines
    published_row = next(line for line in lines if PIGEN_ROW.replace("|", "\\|") in line)
    assert published_row.endswith("| published | 42.0 | 8.7 | 3.8 | 2.3 | 1.5 | 10.9 | – |")
    (measured,) = [line for line in lines if line.startswith("| run |")]
    assert "| 9.0 ± 2.9 (+0.1 s.e.) |" in measured
    assert measured.endswith("| 10.3 | 4.0 ± 2.0 |")
    (without,) = [line for line in lines if line.startswith("| mine |")]
    assert without.endswith("| 20.0 ± 4.0 | – | – | – | – | – | – |")
    assert "- Measured energies: a part of all compounds." in lines
    assert HULL_NOTE in lines
