"""What decides columns a, b and e is relaxed again, tightly and alike, before it is compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import Bundle, strings
from pigen.cli import main
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.decide import DECIDED, decide, deciding, undecided, with_decided
from pigen.csp.outcome import Outcome, count, read_outcomes
from pigen.csp.results import COLUMNS, Search, Step, read_search
from pigen.csp.seed import csp_seed
from pigen.energy.minimise import rattled
from pigen.energy.potential import AsePotential
from pigen.io.export import to_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import SerialExecutor

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def calculator() -> Any:
    """Copper by effective medium theory."""
    from ase.calculators.emt import EMT

    return EMT()


COPPER = AsePotential("emt", calculator())


def copper(lattice: float, seed: int) -> Crystals:
    """Four atoms of fcc copper, displaced by 0.1 Å."""
    frac = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    cell = Crystals.single(np.eye(3) * lattice, frac, [29] * 4)
    return rattled(cell, 0.1, np.random.default_rng(seed))


def leave(search: Path, energies: list[float], cells: list[Crystals], *, seeded: bool) -> None:
    """A search of csp-run that relaxed nothing: a pool of two, and what came after."""
    lines = [",".join(COLUMNS)]
    (search / "structures").mkdir()
    for slot, (energy, cell) in enumerate(zip(energies, cells, strict=True)):
        kind = "I" if slot < 2 else "S"
        file = f"{kind}-{slot:07d}.cif"
        (search / "structures" / file).write_text(to_cif(cell, "x"))
        lines.append(f"new,{kind},{slot},{energy},0.02,0,0,{file},-")
    (search / "graph_output.csv").write_text("\n".join([*lines, ""]))
    read = "... successfully read 1 structure\n" if seeded else ""
    (search / "output.txt").write_text(f"PIGEN basin hopper, potential emt\n{read}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The generated structure and both searches reached fcc copper; loose relaxations hide it."""
    made = Bundle(crystals=Crystals.single(FCC * 3.6, [[0, 0, 0]], [29]), ids=strings(["Cu"]))
    csp_seed(made, Request(choice="random", settings=Settings()), tmp_path / "csp")
    place = next((tmp_path / "csp").glob("001*"))
    cells = [copper(3.6 + 0.02 * i, i) for i in range(6)]
    leave(place / "seeded", [-0.003, 0.5, -0.001], cells[:3], seeded=True)
    leave(place / "composition_only", [0.4, 0.3, -0.006], cells[3:], seeded=False)
    return tmp_path / "csp"


def outcome_of(folder: Path, *, as_left: bool = False) -> Outcome:
    (outcome,) = read_outcomes(folder, as_left=as_left)[1]
    return outcome


def test_loose_relaxations_of_one_structure_are_a_tie_after_all(folder: Path) -> None:
    before = outcome_of(folder)
    assert not before.decided
    assert before.gain == pytest.approx(0.003)
    assert count([before]).b == 0
    assert before.unseeded.lowest < before.seeded.lowest
    place = folder / before.composition.folder
    waiting = undecided(place, before.seeded, before.unseeded)
    assert len(waiting) == 4  # the seed, the lowest start, a find of each search
    decide(waiting, COPPER, SerialExecutor())
    assert undecided(place, before.seeded, before.unseeded) == []
    after = outcome_of(folder)
    assert after.decided
    assert abs(after.gain) < 1e-5  # all are fcc copper
    assert abs(after.unseeded.lowest - after.seeded.lowest) < 1e-5
    ideal = COPPER.evaluate(Crystals.single(FCC * 3.5898, [[0, 0, 0]], [29])).energy[0]
    assert after.generated == pytest.approx(ideal, abs=1e-4)
    counts = count([after], tie=1e-4)
    assert (counts.decided, counts.a, counts.b, counts.gains) == (1, 1, 0, ())
    left = outcome_of(folder, as_left=True)
    assert left.gain == before.gain


def step(slot: int, energy: float, *, initial: bool = False) -> Step:
    return Step(initial, slot, energy, f"{slot}.cif")


def test_what_decides() -> None:
    steps = (
        step(0, -1.0, initial=True),  # the seed
        step(1, -0.5, initial=True),
        step(2, -0.497, initial=True),
        step(3, -2.0),
        step(4, -1.9995),  # the same, relaxed a little less
        step(5, -1.998),
        step(6, -1.9965),
        step(7, -1.9955),  # would be a fourth
        step(8, float("inf")),
    )
    seeded = Search(Path("s"), "converged", "", "FUSE", "", steps, 1, 1)
    alone = replace(seeded, folder=Path("c"), n_seeds=0, steps=steps[3:4])
    found = [(str(search.folder), step.slot) for search, step in deciding(seeded, alone)]
    assert sorted(found) == [("c", 3), ("s", 0), ("s", 1), ("s", 2), ("s", 3), ("s", 5), ("s", 6)]


def test_energies_of_another_potential_or_file_are_not_taken(folder: Path) -> None:
    outcome = outcome_of(folder)
    place = folder / outcome.composition.folder
    waiting = undecided(place, outcome.seeded, outcome.unseeded)
    with pytest.raises(UsageError, match="energies of other, not of emt; give --model"):
        decide([replace(one, potential="other") for one in waiting], COPPER, SerialExecutor())
    assert not (place / DECIDED).exists()  # energies of two potentials are not compared
    decide(waiting, COPPER, SerialExecutor())
    content = json.loads((place / DECIDED).read_text())
    assert (content["potential"], content["fmax"], len(content["energies"])) == ("emt", 0.01, 4)
    (place / DECIDED).write_text(json.dumps({**content, "potential": "other"}))
    assert not outcome_of(folder).decided
    (place / DECIDED).write_text(json.dumps(content))
    path = place / "seeded" / "structures" / "I-0000000.cif"
    path.write_text(to_cif(copper(3.7, 9), "x"))  # the search went on
    assert not outcome_of(folder).decided
    assert len(undecided(place, outcome.seeded, outcome.unseeded)) == 1
    (place / DECIDED).write_text("{")
    with pytest.raises(PigenError, match=r"decided\.json: not valid JSON"):
        with_decided(place, read_search(place / "seeded"), read_search(place / "composition_only"))


def test_collect_relaxes_again_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    args = ["csp-collect", str(folder), "-o", str(tmp_path / "m.h5"), "--library", "aflow"]
    model = f"{__name__}:calculator"
    args += ["--model", model, "--executor", "local:1"]
    left = CliRunner().invoke(main, [*args, "--as-left", "--json"])
    assert left.exit_code == 0, left.output
    assert json.loads(left.output)["c_mev_per_atom"] == pytest.approx(3.0)
    other = CliRunner().invoke(main, [*args, "--force"])
    assert other.exit_code == 2
    assert f"energies of emt, not of {model}; give --model, or --as-left" in other.output
    for search in folder.glob("*/*/output.txt"):
        search.write_text(search.read_text().replace("potential emt", f"potential {model}"))
    done = CliRunner().invoke(main, [*args, "--force"])
    assert done.exit_code == 0, done.output
    assert "relaxed again to 0.01 eV/Å before they were compared: 1 of 1" in done.output
    assert "a  generated stays lowest          1/1" in done.output
    shutil.rmtree(next(folder.glob("001*")) / "seeded" / "structures")
    gone = CliRunner().invoke(main, [*args, "--force"])  # nothing to relax again
    assert gone.exit_code == 0, gone.output
    assert "0 of 1 compositions" in gone.output
