"""The embedded basin hopper, with potentials cheap enough for a test."""

from __future__ import annotations

import json
import re
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
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import MODES, compositions, read_experiment
from pigen.csp.hopper import Plan
from pigen.csp.minima import minima
from pigen.csp.moves import repeated
from pigen.csp.outcome import read_outcomes
from pigen.csp.results import read_search
from pigen.csp.run import Progress, csp_run
from pigen.csp.search_folder import SearchFolder, plan_of
from pigen.csp.seed import csp_seed
from pigen.descriptors.prototypes.library import load_library
from pigen.energy.elsewhere import PotentialElsewhere
from pigen.energy.hull import load_reference
from pigen.energy.potential import AsePotential, Evaluation, Potential, load_potential
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import LocalPool, SerialExecutor
from pigen.runtime.lock import Lock
from pigen.runtime.resources import PROTOTYPES

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


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


# -- searches in folders ---------------------------------------------------------------------------
def tables(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.glob("*/*/graph_output.csv"))
    }


def test_both_searches_of_a_composition_draw_alike(pristine: Path) -> None:
    experiment = read_experiment(pristine)
    for composition in compositions(pristine, experiment):
        place = pristine / composition.folder
        seeded, alone = (
            vars(plan_of(place / mode, composition, experiment.settings, mode)) for mode in MODES
        )
        assert (len(seeded.pop("seeds")), len(alone.pop("seeds"))) == (1, 0)
        assert seeded.pop("random_seed") != alone.pop("random_seed")
        assert seeded == alone


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
    pristine = seed(tmp_path / "csp", Settings(rmax=9, initial=2, iterations=40, steps=10))
    stop_often_and_compare(pristine, tmp_path, Crowded(), 1, (SerialExecutor(),) * 2)


@pytest.mark.slow
def test_searches_begun_apart_stay_apart(tmp_path: Path) -> None:
    settings = Settings(rmax=20, initial=2, iterations=100, steps=15)
    folder = seed(tmp_path / "csp", settings)
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
    only = [path.name for path in folder.glob("*_Cu")]
    csp_run([folder], COPPER, only=only, hull={"Cu1": 9.0}.get)
    search = read_search(folder / only[0] / "composition_only")
    assert (search.status, search.reason) == ("failed", "every relaxation failed")
    said = (search.folder / "output.txt").read_text()
    assert re.search(r"I-0000000 failed: \d\.\d eV/atom below the hull is no crystal", said)


def test_time_limit_leaves_a_search_to_go_on_with(folder: Path) -> None:
    assert csp_run([folder], COPPER, hours=1e-9).ended == 0
    assert tables(folder) == {}
    path = next(folder.glob("*_Cu")) / "composition_only"
    begun = SearchFolder(path, Plan({"Cu": 1}, 1, (), 2, 4, 100, 7), COPPER.name)
    begun.go_on(begun.open())
    begun.release()
    assert read_search(path).status == "killed"  # FUSE would have failed to build a structure


def test_one_process_for_each_search(folder: Path) -> None:
    search = next(folder.glob("*_Cu")) / "seeded"
    lock = Lock(search / "graph_output.csv")
    with pytest.raises(PigenError, match=r"is being written by process \d+"):
        csp_run([folder], COPPER)
    lock.release()
    assert csp_run([folder], COPPER, hours=1e-6).searches == 4


def test_refusals(folder: Path, tmp_path: Path) -> None:
    search = next(folder.glob("*_Cu")) / "seeded"
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
    name = next(folder.glob("*_Cu")).name
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
        stop_often_and_compare(tmp_path / "csp", tmp_path, potential, 1, (two, one))
