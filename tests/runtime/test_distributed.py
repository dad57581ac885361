"""Training on many processes: the same as on one, whatever their number, and whoever dies."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from models import CRYSTALS, labels_of

from pigen.bundle import Bundle, Column, write_bundle
from pigen.config import Experiment, TrainConfig
from pigen.crystal.crystals import Crystals
from pigen.model.train import train
from pigen.runtime.distributed import _own_gpu, one_voice, processes
from pigen.runtime.errors import UsageError

STEPS = 20
"""Five epochs of 22 structures in batches of 7: the last batch of each has one structure."""
JOBS = {
    # name: [size, folder, resume, settings, event], as tests/support/ranks.py has them
    "one": [1, "one", False, {}, None],
    "two": [2, "two", False, {}, None],
    "two, interrupted": [2, "2 to 1", False, {}, [7, 1, "SIGINT"]],
    "gone on with one, batches in parts": [1, "2 to 1", True, {"accumulate": 3}, None],
    "two, one of them killed": [2, "killed", False, {}, [9, 1, "SIGKILL"]],
    "gone on with three": [3, "killed", True, {}, None],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    crystals = Crystals.concatenate([CRYSTALS] * 6)[:22]
    labels = labels_of(crystals)
    columns = {
        name: Column(labels[:, i], "", "made up by a test")
        for i, name in enumerate(("c", "mled", "e_hull", "k"))
    }
    ids = np.array([f"s{i}" for i in range(len(crystals))], dtype=object)
    write_bundle(made / "train.h5", Bundle(crystals=crystals, ids=ids, columns=columns))
    return made


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, list[str]]:
    """What the processes of each job said; all jobs, for importing torch takes longest."""
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "support" / "ranks.py", folder],
        input=json.dumps(list(JOBS.values())),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(JOBS, json.loads(done.stdout), strict=True))


def state(folder: Path) -> dict[str, object]:
    return torch.load(folder / "state.pt", weights_only=True)  # type: ignore[no-any-return]


def losses(folder: Path) -> np.ndarray:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(v) for k, v in row.items() if k != "seconds"] for row in rows])


def assert_same(a: Path, b: Path) -> None:
    one, other = state(a), state(b)
    assert one["step"] == other["step"] == STEPS
    for what in ("model", "average"):
        for name, weight in one[what].items():  # type: ignore[attr-defined]
            torch.testing.assert_close(other[what][name], weight, rtol=1e-6, atol=1e-6)  # type: ignore[index]
    np.testing.assert_allclose(losses(a), losses(b), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder: Path, said: dict[str, list[str]]) -> None:
    assert said["one"] == [""]
    assert said["two"] == ["", ""]
    assert_same(folder / "one", folder / "two")


@pytest.mark.slow
def test_one_interrupted_process_stops_all_and_one_goes_on_with_batches_in_parts(
    folder: Path, said: dict[str, list[str]]
) -> None:
    assert [one.split(":")[0] for one in said["two, interrupted"]] == ["KeyboardInterrupt"] * 2
    assert said["gone on with one, batches in parts"] == [""]
    assert_same(folder / "one", folder / "2 to 1")


@pytest.mark.slow
def test_a_killed_process_stops_all_with_a_message_and_more_go_on(
    folder: Path, said: dict[str, list[str]]
) -> None:
    first, second = said["two, one of them killed"]
    assert second == "killed"
    assert first.startswith("LostContactError: another process of the training is gone (")
    assert first.endswith("--resume goes on")
    assert "\n" not in first
    assert said["gone on with three"] == ["", "", ""]
    assert_same(folder / "one", folder / "killed")


def test_a_batch_must_hold_a_structure_for_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    asked = Experiment(name="test", train=TrainConfig(batch_size=7, accumulate=2))
    with pytest.raises(UsageError, match=r"train\.batch_size = 7 .* give at least 8"):
        train(asked, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_each_process_has_a_gpu_of_its_own() -> None:
    place = {"LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "5"}
    assert _own_gpu(place, n_gpus=8) == torch.device("cuda", 5)
    with pytest.raises(UsageError, match="8 processes on this machine, which has 4 GPUs"):
        _own_gpu(place, n_gpus=4)


def test_a_start_without_torchrun_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    expected = pytest.raises(UsageError, match=r"MASTER_ADDR .* start several processes with torch")
    with expected, processes("cpu"):
        pass


def test_only_the_first_process_tells_what_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pigen.runtime.distributed._LAST_WORD_S", 0.0)
    with pytest.raises(UsageError, match="wrong"), one_voice():
        raise UsageError("wrong")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"), one_voice():
        raise UsageError("wrong")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill one", "interrupt all"])
def test_under_torchrun_all_end_and_the_state_is_saved(
    folder: Path, tmp_path: Path, end: str
) -> None:
    out = tmp_path / "m"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", "pigen", "train", "pigen_c", "--out", str(out)]
    for one in (f"data.train=['{folder / 'train.h5'}']", "train.epochs=100000", "model.layers=1"):
        command += ["--set", one]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as torchrun:
        wait_for(lambda: (out / "metrics.csv").exists())
        ranks = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
        if end == "kill one":
            os.kill(int(ranks[1]), signal.SIGKILL)
        else:
            torchrun.terminate()
        _, said = torchrun.communicate(timeout=120)
    expected = "another process of the training is gone" if end == "kill one" else "interrupted"
    spoken = [line for line in said.splitlines() if line.startswith("pigen: error:")]
    assert len(spoken) == 1, said
    assert expected in spoken[0]
    assert int(state(out)["step"]) > 0  # type: ignore[call-overload]
    wait_for(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert reached()
