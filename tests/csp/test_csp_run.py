"""The embedded basin hopper, with potentials cheap enough for a test."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import Bundle, strings
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.crystal.geometry import shortest_distances
from pigen.csp.cells import formula_units, random_cell
from pigen.csp.folder import Settings
from pigen.csp.hopper import Hopper, Plan
from pigen.csp.minima import minima
from pigen.csp.moves import _MOVES as MOVES
from pigen.csp.moves import WEIGHTS, Surroundings, move, repeated
from pigen.csp.outcome import read_outcomes
from pigen.csp.results import read_search
from pigen.csp.run import Progress, csp_run
from pigen.csp.search_folder import SearchFolder
from pigen.csp.seed import Request, csp_seed
from pigen.descriptors.prototypes.library import load_library
from pigen.energy.elsewhere import PotentialElsewhere
from pigen.energy.hull import load_reference
from pigen.energy.potential import AsePotential, Evaluation, Potential, load_potential
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import LocalPool, SerialExecutor
from pigen.runtime.lock import Lock
from pigen.runtime.resources import PROTOTYPES

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
MGO = {"O": 1, "Mg": 1}


def rock_salt(a: float = 4.21) -> Crystals:
    return Crystals.single(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [8, 12])


def calculator() -> Any:
    """Copper by effective medium theory: the one calculator of ASE for a whole crystal."""
    from ase.calculators.emt import EMT

    return EMT()


COPPER = AsePotential("emt", calculator())


def seed(out: Path, settings: Settings) -> Path:
    """Two compositions: copper, and copper and gold, one and two atoms at most."""
    crystals = [
        Crystals.single(FCC * 3.7, [[0, 0, 0]], [29]),
        Crystals.single(np.eye(3) * 3.2, [[0, 0, 0], [0.5, 0.5, 0.5]], [29, 79]),
    ]
    made = Bundle(crystals=Crystals.concatenate(crystals), ids=strings(["Cu", "CuAu"]))
    csp_seed(made, Request(choice="random", settings=settings), out)
    return out


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of searches that have not begun."""
    settings = Settings(rmax=4, initial=2, iterations=100, steps=100)
    return seed(tmp_path_factory.mktemp("pristine") / "csp", settings)


@pytest.fixture(scope="module")
def finished(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after all its searches were run side by side."""
    out = tmp_path_factory.mktemp("finished") / "csp"
    shutil.copytree(pristine, out)
    done = csp_run([out], COPPER)
    assert (done.searches, done.ended) == (4, 4)
    return out


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to run searches in."""
    return Path(shutil.copytree(pristine, tmp_path / "csp"))


# -- random cells and moves ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "elements", [{"Cu": 1}, MGO, {"O": 2, "Ti": 1}, {"Li": 1, "Co": 1, "O": 2}]
)
def test_random_cells(elements: dict[str, int]) -> None:
    sizes = set()
    for seed in range(4):
        cell = random_cell(elements, 8, np.random.default_rng(seed))
        again = random_cell(elements, 8, np.random.default_rng(seed))
        assert np.array_equal(cell.frac_coords, again.frac_coords)
        assert np.all(np.diff(cell.atomic_numbers.astype(int)) >= 0)
        assert cell.n_atoms[0] <= 8
        assert cell.reduced_formulas()[0] == "".join(f"{e}{elements[e]}" for e in sorted(elements))
        same = np.zeros_like(cell.atomic_numbers)
        assert shortest_distances(cell.lattice, cell.frac_coords, same, cell.ptr)[0] > 0.7
        sizes.add(int(cell.n_atoms[0]) // sum(elements.values()))
    assert len(sizes) > 1  # of formula units
    assert formula_units(elements, 1) == 1


def test_every_move_makes_the_composition() -> None:
    current = repeated(rock_salt(), 2)
    around = Surroundings(MGO, 8, (rock_salt(),), (random_cell(MGO, 8, np.random.default_rng(3)),))
    assert set(MOVES) == set(WEIGHTS)
    for name, make in MOVES.items():
        made = [make(current, around, np.random.default_rng(seed)) for seed in range(3)]
        fine = [one for one in made if one is not None]
        assert fine, name
        for one in fine:
            assert one.reduced_formulas() == ["Mg1O1"]
            assert one.n_atoms[0] <= 8
        again = MOVES[name](current, around, np.random.default_rng(0))
        assert (again is None) == (made[0] is None)
        if again is not None and made[0] is not None:
            assert np.array_equal(again.frac_coords, made[0].frac_coords)


def test_moves_of_one_atom_alone() -> None:
    copper = Crystals.single(FCC * 3.6, [[0, 0, 0]], [29])
    around = Surroundings({"Cu": 1}, 1, (), ())
    for seed in range(8):
        _, made = move(copper, around, np.random.default_rng(seed))
        assert made.n_atoms[0] == 1


def test_repeated() -> None:
    doubled = repeated(rock_salt(), 3)
    assert doubled.n_atoms[0] == 6
    assert np.isclose(doubled.volume[0], 3 * rock_salt().volume[0])
    same = np.zeros_like(doubled.atomic_numbers)
    closest = shortest_distances(doubled.lattice, doubled.frac_coords, same, doubled.ptr)
    assert np.isclose(closest[0], 4.21 / 2)


# -- the hopper ------------------------------------------------------------------------------------
def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "elements": MGO,
        "max_atoms": 4,
        "seeds": (rock_salt(),),
        "n_random": 2,
        "rmax": 3,
        "iterations": 50,
        "random_seed": 7,
    }
    return Plan(**{**given, **changes})


def test_hopper_ends_after_rmax_steps_without_a_new_minimum() -> None:
    hopper = Hopper(plan())
    for energy in (-1.0, -2.0, math.nan):
        hopper.tell("initial", energy, rock_salt())
    assert hopper.lowest == -2.0
    told = [hopper.tell("x", e, rock_salt()) for e in (-1.0, -2.00005, -3.0, -1.0, -1.0)]
    # −2.00005 is the minimum relaxed a little further, −3 a new one
    assert [r.lowest for r in told] == [-2.0, -2.00005, -3.0, -3.0, -3.0]
    assert not hopper.done
    hopper.tell("x", math.nan, rock_salt())
    assert hopper.converged
    assert hopper.done


def test_hopper_ends_after_its_iterations() -> None:
    hopper = Hopper(plan(iterations=2))
    for _ in range(2):
        assert not hopper.done
        hopper.tell("initial", -1.0, rock_salt())
    assert hopper.done
    assert not hopper.converged


def test_metropolis() -> None:
    """What is told decides; uphill steps are accepted as often as Metropolis says."""
    accepted = 0
    for seed in range(400):
        hopper = Hopper(plan(n_random=0, random_seed=seed))
        assert hopper.tell("initial", -1.0, rock_salt()).accepted
        accepted += hopper.tell("x", -0.98, rock_salt()).accepted  # one kT
    assert abs(accepted / 400 - math.exp(-1)) < 0.08


def test_temperature_rises_when_stuck_and_falls_with_a_lower_structure() -> None:
    hopper = Hopper(plan(n_random=0, rmax=200, iterations=500))
    hopper.tell("initial", -1.0, rock_salt())
    stuck = [hopper.tell("x", 5.0, rock_salt()).temperature for _ in range(70)]
    assert stuck[40] == 0.02 < stuck[-1]
    hopper.tell("x", -2.0, rock_salt())
    assert hopper.tell("x", -1.5, rock_salt()).temperature == 0.02


def test_proposals_depend_on_seed_slot_and_past_alone() -> None:
    def proposals(energies: list[float]) -> list[Crystals]:
        hopper, made = Hopper(plan(n_random=3)), []
        for energy in energies:
            made.append(hopper.propose().crystal)
            hopper.tell("initial", energy, made[-1])
        return [*made, hopper.propose().crystal]

    first = proposals([-1.0, -2.0, -3.0, -4.0])
    again, other = proposals([-1.0, -2.0, -3.0, -4.0]), proposals([-4.0, -2.0, -3.0, -1.0])
    for k, crystal in enumerate(first):
        assert np.array_equal(crystal.frac_coords, again[k].frac_coords)
    for k in range(4):  # the pool does not depend on how it fares
        assert np.array_equal(first[k].frac_coords, other[k].frac_coords)


# -- searches in folders ---------------------------------------------------------------------------
def tables(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.glob("*/*/graph_output.csv"))
    }


def test_run_writes_what_collect_reads(finished: Path) -> None:
    _, outcomes = read_outcomes(finished)
    for outcome in outcomes:
        for search, seeds in ((outcome.seeded, 1), (outcome.unseeded, 0)):
            assert (search.status, search.engine) == ("converged", "pigen csp-run")
            assert search.n_seeds == len(search.seed_steps) == seeds
            assert len([step for step in search.steps if step.initial]) == 2 + seeds
            best, crystal = search.minimum() or pytest.fail("no minimum")
            again = COPPER.evaluate(crystal).energy[0]
            assert abs(again - best.energy) < 1e-5  # the structure has the energy of its line
            assert (search.folder / "energy_trace.png").read_bytes()[:4] == b"\x89PNG"
            assert (search.folder / "global_minimum.cif").exists()
        assert outcome.seeded.lowest <= outcome.generated  # a seed is never lost
    library = load_library(PROTOTYPES / "aflow.h5")
    found = minima(outcomes, {"aflow": library}, load_reference())
    assert len(found) == 4
    assert np.all(np.isnan(found.columns["e_hull"].values))  # the hull is CHGNet's
    assert set(found.columns["e_hull_reason"].values) == {"no hull: energies of emt"}
    before = tables(finished)
    assert csp_run([finished], COPPER).relaxations == 0  # all had ended
    assert tables(finished) == before


class Interrupted(Exception):
    pass


def cut_off(folder: Path, potential: Potential, after: int, executor: Executor) -> Progress | None:
    """Run the searches, and be stopped after so many rounds, in the middle of a line; or end."""
    rounds = 0

    def stop(progress: Progress) -> None:
        nonlocal rounds
        rounds += progress.relaxations > 0
        if rounds >= after:
            raise Interrupted

    try:
        return csp_run([folder], potential, executor=executor, watch=stop)
    except Interrupted:
        for graph in under_way(folder):
            with graph.open("a") as file:
                file.write("new,S,99")
    return None


def under_way(folder: Path) -> list[Path]:
    """Tables of the searches that have begun and not ended."""
    found = sorted(folder.glob("*/*/restart/graph_output.csv"))
    return [path for path in found if not (path.parents[1] / "graph_output.csv").exists()]


def lose_a_round(folder: Path) -> None:
    """As if only the first search had been saved in the last round, unless one ended with it."""
    going = under_way(folder)
    done = [len(path.read_text().splitlines()) for path in folder.glob("*/*/graph_output.csv")]
    for path in going[1:]:
        *kept, _lost, cut = path.read_text().splitlines()
        if len(kept) + 1 not in done:
            path.write_text("\n".join([*kept, cut]))


def test_a_search_is_the_same_alone(finished: Path, folder: Path) -> None:
    """With a potential of one structure at a time; beside others is how the fixture ran them."""
    csp_run([folder], COPPER, only=[f"{next(folder.glob('001*')).name}/composition_only"])
    (name,) = tables(folder)
    assert tables(folder)[name] == tables(finished)[name]


class Crowded:
    """Copper whose energies depend on what is in the batch, as a network's last digits do."""

    name = "crowded"

    def evaluate(self, crystals: Crystals) -> Evaluation:
        found = COPPER.evaluate(crystals)
        shift = 1e-3 * (len(crystals) + crystals.volume.sum() % 1.0)
        return replace(found, energy=found.energy + shift)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.suffix != ".png"}


def stop_often_and_compare(
    pristine: Path,
    tmp_path: Path,
    potential: Potential,
    after: int,
    executors: tuple[Executor, Executor],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        shutil.copytree(pristine, folder)
    done = csp_run([whole], potential, executor=executors[0])
    assert done.ended == done.searches
    stops = 0
    while cut_off(parts, potential, after, executors[1]) is None:
        stops += 1
        if stops % 2:
            lose_a_round(parts)
    assert stops > 1
    assert files_of(parts) == files_of(whole)


def test_stopped_and_resumed_repeats_the_batches(tmp_path: Path) -> None:
    pristine = seed(tmp_path / "csp", Settings(rmax=2, initial=2, iterations=7, steps=15))
    stop_often_and_compare(pristine, tmp_path, Crowded(), 2, (SerialExecutor(),) * 2)


@pytest.mark.slow
def test_searches_begun_apart_stay_apart(folder: Path) -> None:
    first = next(folder.glob("001*")).name
    rounds = 0

    def stop(progress: Progress) -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        csp_run([folder], COPPER, only=[f"{first}/seeded"], watch=stop)
    path = folder / first / "seeded/restart/graph_output.csv"
    before = path.read_text()
    assert len(before.splitlines()) > 3
    assert csp_run([folder], COPPER).ended == 4
    assert (path.parents[1] / "graph_output.csv").read_text().startswith(before)


class Failing:
    """A potential that knows no crystal."""

    name = "failing"

    def evaluate(self, crystals: Crystals) -> Evaluation:
        n, atoms = len(crystals), len(crystals.atomic_numbers)
        nothing = np.full((n, 3, 3), np.nan)
        return Evaluation(
            np.full(n, np.nan), np.full((atoms, 3), np.nan), nothing, ("isolated atom",) * n
        )


def test_a_search_in_which_every_relaxation_fails_ends(folder: Path) -> None:
    done = csp_run([folder], Failing())
    assert done.ended == 4
    for outcome in read_outcomes(folder)[1]:
        assert (outcome.seeded.status, outcome.seeded.reason) == (
            "failed",
            "every relaxation failed",
        )
        assert outcome.seed_failed


def test_holes_of_the_potential_are_no_minima(folder: Path) -> None:
    only = [path.name for path in folder.glob("*_Cu1")]
    csp_run([folder], COPPER, only=only, hull={"Cu1": 9.0}.get)
    search = read_search(folder / only[0] / "composition_only")
    assert (search.status, search.reason) == ("failed", "every relaxation failed")
    said = (search.folder / "output.txt").read_text()
    assert "I-0000000 failed: 9.0 eV/atom below the hull is no crystal" in said


def test_time_limit_leaves_a_search_to_go_on_with(folder: Path) -> None:
    assert csp_run([folder], COPPER, hours=1e-9).ended == 0
    assert tables(folder) == {}
    path = next(folder.glob("*_Cu1")) / "composition_only"
    begun = SearchFolder(path, plan(elements={"Cu": 1}, seeds=()), COPPER.name)
    begun.go_on(begun.open())
    begun.release()
    assert read_search(path).status == "killed"  # FUSE would have failed to build a structure


def test_one_process_for_each_search(folder: Path) -> None:
    search = next(folder.glob("*_Cu1")) / "seeded"
    lock = Lock(search / "graph_output.csv")
    with pytest.raises(PigenError, match=r"is being written by process \d+"):
        csp_run([folder], COPPER)
    lock.release()
    assert csp_run([folder], COPPER, hours=1e-6).searches == 4


def test_refusals(folder: Path, tmp_path: Path) -> None:
    search = next(folder.glob("*_Cu1")) / "seeded"
    with pytest.raises(UsageError, match="no search nowhere"):
        csp_run([folder], COPPER, only=["nowhere"])
    (search / "output.txt").write_text("#### Flexible Unit Structure Engine\n")
    with pytest.raises(UsageError, match="results of FUSE"):
        csp_run([folder], COPPER)
    (search / "output.txt").write_text("PIGEN basin hopper, potential other\n")
    with pytest.raises(UsageError, match="results with potential other"):
        csp_run([folder], COPPER)
    (search / "output.txt").unlink()
    (search / "seeds" / "seed.cif").write_text("nothing")
    with pytest.raises(PigenError, match=r"seed.cif: not a CIF"):
        csp_run([folder], COPPER)
    (search / "seeds" / "seed.cif").unlink()
    with pytest.raises(PigenError, match="no seed"):
        csp_run([folder], COPPER)


@pytest.mark.slow
def test_verb(folder: Path) -> None:
    name = next(folder.glob("*_Cu1")).name
    args = ["csp-run", str(folder), "--only", f"{name}/seeded", "--model", f"{__name__}:calculator"]
    done = CliRunner().invoke(main, [*args, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["ended"] == 1
    assert read_search(folder / name / "seeded").status == "converged"


@pytest.mark.slow
def test_chgnet_finds_rock_salt_unseeded(tmp_path: Path) -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    cell = repeated(rock_salt(), 2)
    made = Bundle(crystals=cell, ids=strings(["MgO"]))
    settings = Settings(rmax=5, initial=10, iterations=100, steps=300)
    csp_seed(made, Request(choice="random", settings=settings), tmp_path / "csp")
    potential = load_potential(device="cpu")
    csp_run([tmp_path / "csp"], potential)
    (outcome,) = read_outcomes(tmp_path / "csp")[1]
    _, crystal = outcome.unseeded.minimum() or pytest.fail("no minimum")
    assert StructureMatcher().fit(crystal.to_pymatgen()[0], rock_salt().to_pymatgen()[0])
    assert abs(outcome.gain) < 1e-3  # and so does the seeded search, which cannot lose it
    assert outcome.seeded.potential == potential.name


@pytest.mark.slow
def test_chgnet_stopped_and_resumed_and_elsewhere_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Its last digits depend on the batch; far from a minimum a relaxation amplifies them."""
    salt = Crystals.single(FCC * 5.64, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
    made = Bundle(
        crystals=Crystals.concatenate([repeated(rock_salt(), 2), salt]),
        ids=strings(["MgO", "NaCl"]),
    )
    settings = Settings(rmax=2, initial=2, iterations=10, steps=40)
    csp_seed(made, Request(choice="random", settings=settings), tmp_path / "csp")
    # Workers have one thread each; this process may have more.
    with LocalPool(1) as one, LocalPool(2) as two:
        potential = PotentialElsewhere.of("chgnet", "cpu", one)
        stop_often_and_compare(tmp_path / "csp", tmp_path, potential, 2, (two, one))
