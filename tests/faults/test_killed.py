"""Whatever stops pigen, at any moment: no finished chunk is lost, and it goes on to the same end.

``PIGEN_KILLS`` is how often `pigen run` and `pigen filter` are killed, 20 times each by default.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from forks import (
    Fork,
    assert_beginning,
    assert_same_bundle,
    assert_same_files,
    bundles,
    completed,
    left_behind,
    pigen,
)
from safetensors.numpy import load_file

from pigen.bundle import Bundle, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.config import PseudoRandomConfig
from pigen.crystal.crystals import Crystals
from pigen.model.pseudo_random import pseudo_random_bundles
from pigen.runtime.executor import SerialExecutor

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("PIGEN_KILLS", "20"))
CHUNK = 8
"""Structures in a chunk: a small run has many."""
SERIAL = SerialExecutor()
STOPS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:

    small = partial(pseudo_random_bundles, chunk_size=CHUNK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pigen.run.experiment.CHUNK", CHUNK)
        patch.setattr("pigen.run.experiment.pseudo_random_bundles", small)
        patch.setattr("pigen.io.sources.CHUNK", CHUNK)
        patch.setattr("pigen.energy.stage.CHUNK", {"cpu": CHUNK})
        # A worker would import everything anew.
        patch.setattr(
            "pigen.runtime.executor.open_executor", lambda where=None: nullcontext(SERIAL)
        )
        yield


@dataclass
class Toll:
    """What stopping a verb again and again came to."""

    stops: int = 0
    resumes: int = 0
    chunks: int = 0  # finished before a stop

    def __str__(self) -> str:
        return (
            f"{self.stops} stops, {self.chunks} chunks finished before them, 0 lost; "
            f"{self.resumes} resumed runs equal to the uninterrupted one"
        )


@dataclass
class Job:
    """A verb that is stopped, and what it leaves when nobody stops it.

    Attributes:
        args: of pigen, with --resume, for an output.
        whole: output of the uninterrupted run; seconds: that it took.
    """

    args: Callable[[Path], list[object]]
    whole: Path
    seconds: float
    ignored: Callable[[str], bool] = field(default=lambda name: False)

    @classmethod
    def of(
        cls, args: Callable[[Path], list[object]], whole: Path, *, warm: bool = True, **more: object
    ) -> Job:
        """The job after its uninterrupted run, and after one here, so that a fork is quick."""
        whole.parent.mkdir(parents=True)
        log, first = whole.parent.with_name("log"), whole.with_name(f"first-{whole.name}")
        if warm:
            assert CliRunner().invoke(main, [str(arg) for arg in args(first)]).exit_code == 0
            _remove(first)
        return cls(args, whole, completed(args(whole), log), **more)  # type: ignore[arg-type]

    def stopped_and_resumed(
        self, folder: Path, number: signal.Signals, rng: random.Random, toll: Toll
    ) -> None:
        """Stop it once or more often, then let it end; it must end as the whole one."""
        output, log = folder / "parts" / self.whole.name, folder / "log"
        output.parent.mkdir(parents=True)
        safe: dict[str, tuple[int, int]] = {}
        again = True
        while again:
            fork = pigen(self.args(output), log)
            time.sleep(rng.uniform(0, 1.1 * self.seconds))
            code = fork.stop(number)
            if code == 0:  # it was faster than we
                _remove(output)
                safe = {}
                continue
            _check_end(fork, code, number)
            toll.stops += 1
            toll.chunks += len(fork.appends.read_text().splitlines())
            safe |= fork.finished()
            self._check_beginnings(output, safe)
            again = rng.random() < 0.3
        completed(self.args(output), log)
        assert not [*left_behind(output.parent)]
        if output.is_dir():
            assert_same_files(self.whole, output, self.ignored)
        else:
            assert_same_bundle(self.whole, output)
        toll.resumes += 1
        shutil.rmtree(folder)

    def _check_beginnings(self, output: Path, safe: dict[str, tuple[int, int]]) -> None:
        root = output.parent
        there, whole = bundles(root), bundles(self.whole.parent)
        assert set(safe) <= set(there), "a bundle with finished chunks is gone"
        for name, path in there.items():
            n, n_rejects = assert_beginning(whole[name], path)
            before = safe.get(name, (0, 0))
            assert n >= before[0], f"{name}: {before} were safe, {(n, n_rejects)} are there"
            assert n_rejects >= before[1]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _check_end(fork: Fork, code: int, number: signal.Signals) -> None:
    said = fork.stderr
    assert "Traceback" not in said, said
    if number == signal.SIGKILL:
        assert code == -number, said
        return
    assert code in (130, -number), said  # the latter before the verb begins
    lines = [line for line in said.splitlines() if "error" in line]
    assert lines == ["pigen: error: interrupted"] or not lines


def stop_often(job: Job, folder: Path, number: signal.Signals, n: int, seed: int) -> None:
    rng, toll = random.Random(seed), Toll()
    while toll.stops < n:
        job.stopped_and_resumed(folder / f"{toll.resumes}", number, rng, toll)
    assert toll.chunks or n < 20, "stopped too early to lose anything"
    print(f"{signal.Signals(number).name}: {toll}")


# -- jobs ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`pigen run` without a model: cells in a box, filtered."""
    sets = ["--set", "sample.n=40", "--set", "pseudo_random.n_atoms=[1, 8]"]
    sets += ["--set", "filter.spp=1e9", "--set", "filter.mled=2.0"]  # some pass, some do not

    def args(output: Path) -> list[object]:
        return ["run", "pseudo_random", *sets, "--out", output, "--resume"]

    return Job.of(args, tmp_path_factory.mktemp("run") / "whole" / "out")


@pytest.fixture(scope="module")
def filtered(run: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`pigen filter` of what that run made."""

    def args(output: Path) -> list[object]:
        criteria = ["--spp", "1e9", "--c", "0.5:0.9", "--mled", "2"]
        return ["filter", run.whole / "samples.h5", *criteria, "-o", output, "--resume"]

    return Job.of(args, tmp_path_factory.mktemp("filter") / "whole" / "good.h5")


@pytest.mark.parametrize("number", STOPS)
def test_run_survives(run: Job, tmp_path: Path, number: signal.Signals) -> None:
    n = KILLS if number == signal.SIGKILL else max(KILLS // 4, 1)
    stop_often(run, tmp_path, number, n, seed=number)


@pytest.mark.parametrize("number", STOPS)
def test_filter_survives(filtered: Job, tmp_path: Path, number: signal.Signals) -> None:
    n = KILLS if number == signal.SIGKILL else max(KILLS // 4, 1)
    stop_often(filtered, tmp_path, number, n, seed=number)


def test_filter_keeping_all_and_of_filtered_survives(
    filtered: Job, run: Job, tmp_path: Path
) -> None:
    """Its position is not the number of rows: of what was filtered before, rejects do not count."""
    for k, more in enumerate((["--keep-all"], [])):
        source = filtered.whole if not more else run.whole / "evaluated.h5"

        def args(output: Path, source: Path = source, more: list[str] = more) -> list[object]:
            return ["filter", source, "--c", "0.6:0.8", *more, "-o", output, "--resume"]

        job = Job.of(args, tmp_path / f"{k}" / "whole" / "good.h5")
        stop_often(job, tmp_path / f"parts{k}", signal.SIGKILL, 3, seed=k)


def test_label_survives(run: Job, tmp_path: Path) -> None:
    def args(output: Path) -> list[object]:
        return ["label", run.whole / "samples.h5", "-o", output, "--resume"]

    job = Job.of(args, tmp_path / "job" / "whole" / "data.h5")
    stop_often(job, tmp_path / "parts", signal.SIGKILL, 5, seed=1)


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.h5"
    config = PseudoRandomConfig(n_atoms=(2, 4), min_separation=2.0)
    write_bundle(path, Bundle.concatenate(list(pseudo_random_bundles(config, 24, 0, ["Na", "Cl"]))))
    return path


@pytest.fixture(scope="module")
def trained(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`pigen train` of a tiny network that is saved at every other step."""
    sets = ["model.scalars=8", "model.vectors=4", "model.messages=4", "model.layers=1"]
    sets += ["train.epochs=6", "train.batch_size=8", "train.checkpoint_minutes=0.001"]
    sets += ["train.device='cpu'", f"data.train=['{training_set}']", f"data.val=['{training_set}']"]

    def args(output: Path) -> list[object]:
        overrides = [arg for one in sets for arg in ("--set", one)]
        return ["train", "diffcsp", *overrides, "--out", output, "--resume"]

    def differ(name: str) -> bool:
        return name.endswith(("model.safetensors", "state.pt", "metrics.csv"))  # hold seconds

    return Job.of(
        args,
        tmp_path_factory.mktemp("train") / "whole" / "model",
        warm=False,  # a process that has taken gradients can't be forked
        ignored=differ,
    )


@pytest.mark.parametrize("number", STOPS)
def test_training_survives(trained: Job, tmp_path: Path, number: signal.Signals) -> None:
    rng = random.Random(number)
    for k in range(3):
        output = tmp_path / f"{k}" / "model"
        output.parent.mkdir()
        for _ in range(2):
            fork = pigen(trained.args(output), tmp_path / "log")
            time.sleep(rng.uniform(0.2, 1) * trained.seconds)
            code = fork.stop(number)
            if code:
                _check_end(fork, code, number)
        completed(trained.args(output), tmp_path / "log")
        assert_same_files(trained.whole, output, trained.ignored)
        assert not [*left_behind(output)]
        for name, weight in load_file(trained.whole / "model.safetensors").items():
            np.testing.assert_array_equal(load_file(output / "model.safetensors")[name], weight)
        assert metrics(trained.whole) == metrics(output)


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def test_sampling_survives(trained: Job, tmp_path: Path) -> None:
    checkpoint = trained.whole / "model.safetensors"
    sets = ["sample.n=12", "sample.steps=3", "sample.batch_size=3", "sample.device='cpu'"]
    overrides = [arg for one in sets for arg in ("--set", one)]

    def args(output: Path) -> list[object]:
        command = ["sample", "diffcsp", "--checkpoint", checkpoint, *overrides]
        return [*command, "-o", output, "--resume"]

    job = Job.of(args, tmp_path / "job" / "whole" / "samples.h5")
    stop_often(job, tmp_path / "parts", signal.SIGKILL, 5, seed=1)


def copper_and_gold(n: int) -> Bundle:
    """Cells of two atoms that effective medium theory relaxes in no time."""
    cells = [
        Crystals.single(np.eye(3) * (2.9 + 0.02 * k), [[0, 0, 0], [0.5, 0.5, 0.52]], [29, 79])
        for k in range(n)
    ]
    return Bundle(crystals=Crystals.concatenate(cells), ids=strings(f"s{k}" for k in range(n)))


def test_energy_survives(tmp_path: Path) -> None:
    source = tmp_path / "cells.h5"
    write_bundle(source, copper_and_gold(25))

    def args(output: Path) -> list[object]:
        model = ["--model", "ase.calculators.emt:EMT", "--device", "cpu"]
        return ["energy", source, *model, "-o", output, "--resume"]

    job = Job.of(args, tmp_path / "job" / "whole" / "relaxed.h5")
    stop_often(job, tmp_path / "parts", signal.SIGKILL, 5, seed=1)


def salts() -> Bundle:
    """Rock salt of two sizes, for CHGNet: four small searches in one group."""
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = [
        Crystals.single(fcc * a, [[0, 0, 0], [0.5, 0.5, 0.5]], z)
        for a, z in ((4.21, [12, 8]), (5.64, [11, 17]))
    ]
    return Bundle(crystals=Crystals.concatenate(cells), ids=strings(["MgO", "NaCl"]))


@pytest.mark.parametrize("model", ["ase.calculators.emt:EMT", "chgnet"])
def test_searches_survive(model: str, tmp_path: Path) -> None:
    """All that `pigen csp-run` leaves is equal, texts and tables included."""
    source = tmp_path / "cells.h5"
    write_bundle(source, salts() if model == "chgnet" else copper_and_gold(1))
    seed = ["--select", "random", "--rmax", "4", "--initial", "2", "--max-steps", "60"]
    completed(["csp-seed", source, *seed, "-o", tmp_path / "seeds"], tmp_path / "log")
    run = ["--model", model, "--device", "cpu"]
    rng = random.Random(1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    shutil.copytree(tmp_path / "seeds", whole)
    seconds = completed(["csp-run", whole, *run], tmp_path / "log")
    for _ in range(3):
        shutil.copytree(tmp_path / "seeds", parts)
        for _ in range(2):
            fork = pigen(["csp-run", parts, *run], tmp_path / "log")
            time.sleep(rng.uniform(0.1, 1) * seconds)
            fork.stop(signal.SIGKILL)
            assert "Traceback" not in fork.stderr
        completed(["csp-run", parts, *run], tmp_path / "log")
        assert_same_files(whole, parts, lambda name: name.endswith(".png"))
        assert not [*left_behind(parts)]
        shutil.rmtree(parts)


def test_the_clock_may_go_back(run: Job, tmp_path: Path) -> None:
    """A day back between a kill and the resumption, and an hour at every look at the clock."""

    def a_broken_clock() -> None:
        real, looks = time.time, iter(range(10**9))
        time.time = lambda: real() - 86_400 - 3_600 * next(looks)

    output = tmp_path / "out"
    fork = pigen(run.args(output), tmp_path / "log")
    time.sleep(0.5 * run.seconds)
    fork.stop(signal.SIGKILL)
    for path in [*tmp_path.rglob("out/*")]:
        os.utime(path, (time.time() + 86_400,) * 2)
    completed(run.args(output), tmp_path / "log", before=a_broken_clock)
    assert_same_files(run.whole, output, run.ignored)


def test_two_runs_in_one_folder(run: Job, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = pigen(run.args(output), tmp_path / "first")
    while not (output / "samples.h5").exists():
        time.sleep(0.005)
    second = pigen(run.args(output), tmp_path / "second")
    assert second.wait() == 1
    said = second.stderr.splitlines()
    assert said[-1].startswith("pigen: error:")
    assert f"is being written by process {first.pid} on" in said[-1]
    assert first.wait() == 0, first.stderr
    assert_same_files(run.whole, output, run.ignored)


def test_changed_settings_are_refused_by_name(run: Job, filtered: Job, tmp_path: Path) -> None:
    source = run.whole / "samples.h5"
    shutil.copy(filtered.whole, tmp_path / "good.h5")
    command = ["filter", source, "--spp", "1e9", "--c", "0.5:0.9", "-o", tmp_path / "good.h5"]
    for more, named in (
        (["--mled", "3"], "criterion mled was 'low=2.0"),
        (["--mled", "2", "--max-atoms", "7"], "limits was"),
        ([], "criterion mled was given and is now not given"),
        (["--mled", "2", "--keep-all"], "keeps was 'survivors'"),
    ):
        fork = pigen([*command, *more, "--resume"], tmp_path / "log")
        assert fork.wait() == 2
        (line,) = fork.stderr.splitlines()
        assert named in line, line
    shutil.copytree(run.whole, tmp_path / "out")
    fork = pigen([*run.args(tmp_path / "out"), "--set", "sample.n=41"], tmp_path / "log")
    assert fork.wait() == 2
    assert "another sample.n" in fork.stderr


def test_whole_runs_are_what_they_seem(run: Job, filtered: Job) -> None:
    """The comparisons above would be worth nothing on runs in which nothing passes."""
    survivors = read_bundle(run.whole / "survivors.h5")
    assert 0 < len(survivors) < 40
    assert 0 < len(read_bundle(filtered.whole)) < 40
