"""Training: it learns, resumes exactly, stops on NaN with the last good checkpoint kept."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from models import CONFIG, CRYSTALS, labels_of

from pigen.bundle import Bundle, Column, read_bundle, write_bundle
from pigen.cli import main
from pigen.config import DataConfig, Experiment, LossConfig, TrainConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.template_library import TemplateLibrary
from pigen.model.checkpoint import read_header
from pigen.model.loss import NoisedBatch
from pigen.model.train import train
from pigen.model.trainer import CHECKPOINT, Trainer, learning_rate
from pigen.model.training_set import (
    Labelled,
    known_only,
    read_labelled,
    read_training_set,
    split,
)
from pigen.runtime.distributed import Group
from pigen.runtime.errors import PigenError, UsageError

LABELS = ("c", "mled", "e_hull", "k")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A labelled bundle of 24 crystals."""
    return written(tmp_path / "train.h5", Crystals.concatenate([CRYSTALS] * 6))


def written(path: Path, crystals: Crystals) -> Path:
    labels = labels_of(crystals)
    columns = {name: Column(labels[:, i], "", "made up by a test") for i, name in enumerate(LABELS)}
    ids = np.array([f"s{i}" for i in range(len(crystals))], dtype=object)
    write_bundle(path, Bundle(crystals=crystals, ids=ids, columns=columns))
    return path


def experiment(source: Path, **settings: object) -> Experiment:
    config = TrainConfig(**{"epochs": 6, "batch_size": 8, "device": "cpu", **settings})  # type: ignore[arg-type]
    data = DataConfig(train=(str(source),), val=(str(source),))
    return Experiment(name="test", data=data, model=CONFIG, train=config)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["model"]  # type: ignore[no-any-return]


def test_training_lowers_the_loss_and_writes_what_it_did(source: Path, tmp_path: Path) -> None:
    asked = experiment(source, epochs=12, batch_size=4, lr=5e-3)
    weighty = replace(asked, loss=LossConfig(compactness=10.0))  # what falls the most in so few
    path = train(weighty, tmp_path / "m", progress=False)
    assert path == tmp_path / "m" / CHECKPOINT
    found = rows(tmp_path / "m")
    assert len(found) == 12
    for key in ("train_total", "train_types", "val_types", "val_coords", "val_lattice", "lr"):
        assert np.isfinite([float(row[key]) for row in found]).all()
    assert "val_compactness" in found[0]
    assert float(found[-1]["train_total"]) < 0.8 * float(found[0]["train_total"])
    header = read_header(path)
    assert header.training["structures"] == "24"
    assert header.model == CONFIG


@pytest.mark.slow
def test_resuming_equals_never_stopping(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = experiment(source)
    train(asked, tmp_path / "whole", progress=False)

    step = Trainer._train_step

    def interrupted(self: Trainer, batch: np.ndarray) -> None:
        if self.step == 10:  # in the middle of an epoch
            raise KeyboardInterrupt
        step(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "parts", progress=False)
    monkeypatch.undo()
    train(asked, tmp_path / "parts", resume=True, progress=False)

    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def assert_same_training(whole: Path, parts: Path) -> None:
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], weight, rtol=0, atol=0)
    for a, b in zip(rows(whole), rows(parts), strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


@pytest.fixture
def salts(tmp_path: Path) -> Path:
    """A labelled bundle of 24 compositions in the structure of rock salt, all in one cell."""
    fcc = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    crystals = Crystals.concatenate(
        [
            Crystals.single(5.6 * fcc, [[0, 0, 0], [0.5, 0.5, 0.5]], [cation, anion])
            for cation in (3, 11, 19, 37, 55, 12)
            for anion in (9, 17, 35, 53)
        ]
    )
    return written(tmp_path / "salts.h5", crystals)


def test_a_tenth_is_held_out_where_no_validation_set_is_given(salts: Path, tmp_path: Path) -> None:
    asked = replace(experiment(salts, epochs=2), data=DataConfig(train=(str(salts),)))
    lines: list[str] = []
    train(asked, tmp_path / "m", say=lines.append)
    assert lines[0] == "train: 22 structures, 2 for validation, 6 steps"
    assert lines[1].startswith("train: step 1 of 6, epoch 0.3, loss ")
    assert lines[-1].startswith("train: step 6 of 6, epoch 2.0, loss ")
    assert lines[-1].endswith(", 0:00:00 left")
    assert "val_coords" in rows(tmp_path / "m")[0]
    assert (tmp_path / "m" / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_compositions_are_held_out_whole(salts: Path) -> None:
    read = read_labelled([str(salts), str(salts)], LABELS, 20)
    kept, held_out = split(read, 0.3, 0)
    assert held_out is not None
    both = [set(part.crystals.reduced_formulas()) for part in (kept, held_out)]
    assert not both[0] & both[1]
    assert len(kept.crystals) + len(held_out.crystals) == len(read.crystals)
    assert 0 < len(held_out.crystals) <= 0.3 * len(read.crystals)
    known = set(kept.crystals.atomic_numbers.tolist())
    assert set(held_out.crystals.atomic_numbers.tolist()) <= known
    assert split(read, 0.01, 0)[1] is None


def test_nan_stops_with_the_last_good_checkpoint_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._train_step

    def poisoned(self: Trainer, batch: np.ndarray) -> None:
        if self.step == 4:
            self.save()
        if self.step == 7:
            self.model.coord_head.weight.data.fill_(float("nan"))
        step(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", poisoned)
    with pytest.raises(PigenError, match="diverged at step 7"):
        train(experiment(source), tmp_path / "m", progress=False)
    header = read_header(tmp_path / "m" / CHECKPOINT)
    assert header.training["steps"].startswith("4 of")
    assert all(torch.isfinite(w).all() for w in weights(tmp_path / "m").values())


def test_resume_refuses_changed_settings_and_names_them(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    train(experiment(source, epochs=1), out, resume=True, progress=False)  # of nothing is a start
    with pytest.raises(UsageError, match="use --resume"):
        train(experiment(source, epochs=1), out, progress=False)
    asked = experiment(source, epochs=1)
    for changed, said in (
        (experiment(source, epochs=2), r"train\.epochs was 1.* and is now 2"),
        (experiment(source, epochs=1, lr=0.5), r"train\.lr was .* and is now 0\.5"),
        (replace(asked, seed=7), "seed was 0 and is now 7"),
        (replace(asked, loss=replace(asked.loss, coords=9.0)), r"loss\.coords"),
        (replace(asked, diffusion=replace(asked.diffusion, sigma_max=0.7)), "diffusion.sigma_max"),
        (replace(asked, data=replace(asked.data, max_atoms=3)), r"data\.train was \d+ structures"),
    ):
        with pytest.raises(UsageError, match=said):
            train(changed, out, resume=True, progress=False)
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:1000])
    with pytest.raises(UsageError, match="remove it to train anew"):
        train(asked, out, resume=True, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["_train_step", "validate", "_write_metrics"])
def test_interrupted_anywhere_a_run_goes_on_as_if_it_had_not_been(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    asked = experiment(source)
    train(asked, tmp_path / "whole", progress=False)
    real, left = getattr(Trainer, method), [2]

    def interrupted(self: Trainer, *args: object) -> object:
        found = real(self, *args)
        left[0] -= 1
        if not left[0]:
            signal.raise_signal(signal.SIGINT)  # at its end: a step is through and not yet counted
        return found

    monkeypatch.setattr(Trainer, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "parts", progress=False)
    monkeypatch.undo()
    train(asked, tmp_path / "parts", resume=True, progress=False)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_out_of_memory_is_told_and_goes_on_in_parts(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer._losses

    def filled(self: Trainer, model: object, batch: NoisedBatch, guess_first: bool) -> object:
        if self.step == 4 and len(batch.labels) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(self, model, batch, guess_first)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_losses", filled)
    with pytest.raises(PigenError, match=r"at step 4, with 8 .* --set train\.accumulate=2"):
        train(experiment(source, epochs=2), tmp_path / "m", progress=False)
    train(experiment(source, epochs=2, accumulate=2), tmp_path / "m", resume=True, progress=False)
    assert len(rows(tmp_path / "m")) == 2


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(step, 4000, 1e-3) for step in range(4000)]
    assert rates[0] < 1e-5
    assert rates[499] == rates[1999] == 1e-3
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)


def test_a_run_by_hours_ends_with_its_rate_lowered(source: Path, tmp_path: Path) -> None:
    asked = experiment(source, epochs=1e6, hours=2 / 3600)
    train(asked, tmp_path / "m", progress=False)
    found = rows(tmp_path / "m")
    assert float(found[-1]["seconds"]) == pytest.approx(2, abs=1)
    assert float(found[-1]["lr"]) < 0.05 * asked.train.lr
    done, planned = read_header(tmp_path / "m" / CHECKPOINT).training["steps"].split(" of ")
    assert done == planned


def test_symmetry_is_kept_beside_the_model_and_found_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, cache = experiment(source), tmp_path / "m" / "symmetry.npz"
    first = read_training_set(asked, cache).train.symmetry
    assert first is not None
    assert bool(first.known.all())
    library = TemplateLibrary.load(tmp_path / "m" / "templates.npz")
    assert len(library) == 24
    assert library.names == LABELS
    monkeypatch.setattr("pigen.model.training_set.templates_of", None)
    again = read_training_set(asked, cache).train.symmetry
    for name, value in vars(first).items():
        torch.testing.assert_close(getattr(again, name), value)
    cache.write_bytes(b"PK damaged")
    with pytest.raises(TypeError):  # made anew
        read_training_set(asked, cache)


def test_labels_are_computed_where_missing_and_e_hull_found_under_its_other_name(
    tmp_path: Path,
) -> None:
    ids = np.array([f"s{i}" for i in range(len(CRYSTALS))], dtype=object)
    hull = Column(np.array([0.0, 0.1, np.nan, 0.05]), "eV/atom", "a test")
    bundle = Bundle(crystals=CRYSTALS, ids=ids, columns={"e_above_hull": hull})
    write_bundle(tmp_path / "b.h5", bundle)
    found = read_labelled([str(tmp_path / "b.h5")], ("c", "e_hull"), max_atoms=5)
    assert found.left_out == {"more than 5 atoms": 1}
    np.testing.assert_allclose(found.labels[:, 1], [0.0, 0.1, np.nan])
    assert found.labels[1, 0] == pytest.approx(4 / 3 * np.pi * 1.35**3 / CRYSTALS.volume[1])


def test_validation_leaves_out_elements_the_training_set_lacks() -> None:
    found = known_only(Labelled(CRYSTALS, labels_of(CRYSTALS), {}), [11, 17, 14, 8])
    assert len(found.crystals) == 2
    assert found.left_out == {"an element absent from the training set": 2}


def test_a_validation_set_of_other_elements_alone_is_refused(source: Path, tmp_path: Path) -> None:
    bundle = read_bundle(source)
    copper = np.array([29 in one.atomic_numbers for one in bundle.crystals])
    for name, chosen in (("train", ~copper), ("val", copper)):
        write_bundle(tmp_path / f"{name}_.h5", bundle.select(chosen))
    data = DataConfig(train=(str(tmp_path / "train_.h5"),), val=(str(tmp_path / "val_.h5"),))
    with pytest.raises(UsageError, match=r"data\.val: nothing is left of it: .*absent from"):
        read_training_set(replace(experiment(source), data=data))


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    runner = CliRunner()
    found = runner.invoke(main, ["train", "diffcsp", "--out", str(tmp_path / "m")])
    assert found.exit_code == 2
    assert "data.train" in found.output
    assert not (tmp_path / "m").exists()


def test_a_learned_loss_is_weighted(source: Path, tmp_path: Path) -> None:
    asked = experiment(source, epochs=1)
    trainer = Trainer(asked, read_training_set(asked), tmp_path, Group(torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    batch = trainer._batch(trainer.data, np.arange(8), generator, trainer.shares)
    found = trainer._losses(trainer.model, batch, guess_first=True)
    weights = replace(asked.loss, types=2.0, coords=3.0, lattice=5.0, compactness=7.0)
    expected = 2 * found.types + 3 * found.coords + 5 * found.lattice + 7 * found.compactness
    torch.testing.assert_close(found.total(weights), expected)


@pytest.mark.slow
def test_what_a_scheduler_sends_saves_the_model(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    settings = [f"data.train=['{source}']", "train.epochs=2000", "train.checkpoint_minutes=60"]
    tiny = [f"model.{key}={value}" for key, value in (("scalars", 16), ("layers", 1))]
    command = [sys.executable, "-c", "from pigen.cli import main; main()", "train", "pigen_c"]
    command += ["--out", str(out)]
    for one in settings + tiny:
        command += ["--set", one]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (out / "metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert int(read_header(out / CHECKPOINT).training["steps"].split()[0]) > 0
