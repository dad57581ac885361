"""Sampling: a sample depends on (seed, index) alone; requests are checked before any work."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from models import CRYSTALS
from real_crystals import assert_same
from tqdm import tqdm

from pigen.bundle import BundleWriter, read_bundle
from pigen.cli import main
from pigen.config import Experiment, SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.model.asked import warn_of_far_targets
from pigen.model.checkpoint import Header, load_checkpoint, save_checkpoint
from pigen.model.diffusion.reverse import Draws, reverse_chain
from pigen.model.guidance import guided
from pigen.model.request import check_request, plan
from pigen.model.sample import _Steps, sample, sample_to_bundle
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import Where, open_executor

HEADER = models.header(Crystals.concatenate([CRYSTALS] * 3))
MODEL = models.model(HEADER, torch.float32)
CONFIG = SampleConfig(n=9, steps=6, targets={"c": 0.7, "mled": (8.0, 9.0)}, batch_size=4)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, MODEL.state_dict(), HEADER)
    return path


def draw(config: SampleConfig, indices: list[int], seed: int = 0) -> Crystals:
    return sample(MODEL, HEADER, config, [plan(i, seed, config, HEADER) for i in indices])


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    together = draw(CONFIG, [0, 1, 2, 3, 4, 5])
    for i in (0, 3, 5):
        alone = draw(CONFIG, [i])
        assert alone.atomic_numbers.tolist() == together[i].atomic_numbers.tolist()
        # The products of a batch are summed in another order: equal to single precision.
        np.testing.assert_allclose(alone.lattice, together[i].lattice, atol=1e-4)


def test_out_of_memory_makes_the_batch_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sizes = draw(CONFIG, list(range(7))), []

    def small(*args: object, **options: object) -> object:
        mask = args[2]
        assert isinstance(mask, torch.Tensor)
        sizes.append(len(mask))
        if len(mask) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return reverse_chain(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sys.modules["pigen.model.sample"], "reverse_chain", small)
    parts = draw(CONFIG, list(range(7)))
    assert sizes == [7, 3, 3, 1]
    assert parts.atomic_numbers.tolist() == whole.atomic_numbers.tolist()
    np.testing.assert_allclose(parts.lattice, whole.lattice, atol=1e-4)


@pytest.mark.slow
def test_workers_draw_what_one_process_draws(checkpoint: Path, tmp_path: Path) -> None:
    experiment = Experiment(name="t", sample=replace(CONFIG, checkpoint=str(checkpoint)))
    torch.set_num_threads(1)  # as a worker has: how sums are split decides about their last digits
    sample_to_bundle(experiment, checkpoint, tmp_path / "here.h5", progress=False)
    with open_executor(Where(2)) as executor:
        path = tmp_path / "there.h5"
        sample_to_bundle(experiment, checkpoint, path, progress=False, executor=executor)
    assert_same(read_bundle(path), read_bundle(tmp_path / "here.h5"))


def test_seed_and_index_decide() -> None:
    a, b, c = draw(CONFIG, [7], 1), draw(CONFIG, [7], 1), draw(CONFIG, [7], 2)
    np.testing.assert_array_equal(a.frac_coords, b.frac_coords)
    assert a.lattice.tolist() != c.lattice.tolist()


def test_targets_are_given_or_drawn_from_their_range() -> None:
    plans = [plan(i, 0, CONFIG, HEADER) for i in range(50)]
    found = np.stack([p.targets for p in plans])
    assert (found[:, 0] == 0.7).all()
    assert ((found[:, 1] >= 8) & (found[:, 1] <= 9)).all()
    assert len(set(found[:, 1])) == 50
    assert np.isnan(found[:, 2:]).all()


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [("train", {1, 2, 5, 9}), ("targets", {1, 2, 5, 9}), (5, {5}), ((2, 9), {2, 9})],
)
def test_sizes(asked: str | int | tuple[int, ...], allowed: set[int]) -> None:
    config = replace(CONFIG, n_atoms=asked)
    assert {plan(i, 0, config, HEADER).n_atoms for i in range(60)} <= allowed


def test_elements_allowed_and_required() -> None:
    config = replace(CONFIG, elements_allowed=("O", "Si", "Na"), elements_required=("Na",))
    found = draw(config, list(range(8)))
    assert set(found.atomic_numbers.tolist()) <= {8, 14, 11}
    assert all(11 in one.atomic_numbers for one in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"elements_allowed": ("Au",)}, "Au"),
        ({"elements_one_of": (("Au", "O"),)}, "Au"),
        ({"n_elements": (5, 6), "n_atoms": 4}, "expected 5"),
        ({"stoichiometry": "Na:O = 7:5"}, "a unit has 12 atoms"),
        ({"n_atoms": 12}, "largest cell"),
        ({"n_atoms": 1, "elements_required": ("O", "Na")}, "expected 2"),
    ],
)
def test_what_the_model_cannot_do_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_request(replace(CONFIG, **settings), HEADER, "model")  # type: ignore[arg-type]


def test_a_target_far_from_the_training_data_is_told(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_far_targets(replace(CONFIG, targets={"mled": 0.2}), HEADER)
    assert not caplog.records
    warn_of_far_targets(replace(CONFIG, targets={"c": (0.6, 300.0)}), HEADER)
    (record,) = caplog.records
    assert "sample.targets.c: 300 is" in record.getMessage()


def test_a_label_the_model_lacks_is_refused() -> None:
    header = models.header(config=replace(models.CONFIG, labels=("c",)))
    with pytest.raises(UsageError, match=r"mled.*has: c"):
        check_request(CONFIG, header, "model")


def chain(header: Header, draws: Draws, start: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    model = models.model(header)
    plans = [plan(i, 0, CONFIG, header) for i in range(len(mask))]
    found = reverse_chain(
        guided(model, header, CONFIG, plans),
        start,
        mask,
        draws,
        scale=header.spec.lattice,
        config=header.diffusion,
        eta=1.0,
        sharpness=1.5,
    )
    return torch.cat([found.types[..., None].double(), found.frac], dim=-1)


def test_guidance_acts_in_its_interval_alone() -> None:
    model, batch = models.model(HEADER), models.noised(HEADER)[0]
    plans = [plan(i, 0, CONFIG, HEADER) for i in range(len(batch.t))]
    config = replace(CONFIG, guidance=3.0, guidance_interval=(0.5, 0.9))
    plain = replace(CONFIG, guidance=0.0)
    for t, acts in ((0.2, False), (0.5, True), (0.9, True), (0.95, False)):
        at = replace(batch, t=torch.full_like(batch.t, t))
        a = guided(model, HEADER, config, plans)(at, None)
        b = guided(model, HEADER, plain, plans)(at, None)
        assert bool((a.lattice - b.lattice).abs().max() > 1e-6) == acts


def test_the_sampler_step_is_equivariant_in_float64() -> None:
    g = torch.Generator().manual_seed(0)
    b, n, steps = 2, 4, 5

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    u, w = torch.rand(2, steps, b, n, generator=g, dtype=torch.float64)
    normals = (normal(b, n, 3), normal(b, 6), normal(steps, b, n, 3), normal(steps, b, 6))
    draws = Draws(*normals, u, w)
    start = torch.zeros(b, n, dtype=torch.long)
    mask = torch.ones(b, n, dtype=torch.bool)
    plain = chain(HEADER, draws, start, mask)

    order = torch.tensor([2, 0, 3, 1])
    permuted = replace(
        draws,
        frac=draws.frac[:, order],
        coord_noise=draws.coord_noise[:, :, order],
        reveal=u[:, :, order],
        choose=w[:, :, order],
    )
    torch.testing.assert_close(chain(HEADER, permuted, start, mask), plain[:, order])

    shift = torch.tensor([0.31, -0.2, 0.77], dtype=torch.float64)
    moved = chain(HEADER, replace(draws, frac=draws.frac + shift), start, mask)
    torch.testing.assert_close(moved[..., 0], plain[..., 0])
    apart = moved[..., 1:] - plain[..., 1:] - shift
    torch.testing.assert_close(apart - torch.round(apart), torch.zeros_like(apart))


def test_resuming_equals_never_stopping(checkpoint: Path, tmp_path: Path) -> None:
    experiment = Experiment(name="t", sample=replace(CONFIG, checkpoint=str(checkpoint)))
    sample_to_bundle(experiment, checkpoint, tmp_path / "whole.h5", progress=False)
    written = BundleWriter.append
    calls = 0

    def killed(self: object, chunk: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        written(self, chunk)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleWriter, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            sample_to_bundle(experiment, checkpoint, tmp_path / "parts.h5", progress=False)
    assert len(read_bundle(tmp_path / "parts.h5")) == 4
    sample_to_bundle(experiment, checkpoint, tmp_path / "parts.h5", resume=True, progress=False)
    whole = read_bundle(tmp_path / "whole.h5")
    assert_same(read_bundle(tmp_path / "parts.h5"), whole)
    assert len(whole) + len(whole.rejects) == 9
    assert set(whole.columns) == {"target_c", "target_mled"}


def test_a_diverged_chain_is_a_counted_reject(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, header = load_checkpoint(checkpoint, torch.device("cpu"))
    broken.state_dict()["coord_head.weight"].fill_(float("nan"))  # which a file may not hold
    monkeypatch.setattr(
        sys.modules["pigen.model.sample"], "load_checkpoint", lambda *_: (broken, header)
    )
    experiment = Experiment(name="t", sample=replace(CONFIG, n=3, checkpoint=str(checkpoint)))
    sample_to_bundle(experiment, checkpoint, tmp_path / "b.h5", progress=False)
    found = read_bundle(tmp_path / "b.h5")
    assert (len(found), len(found.rejects)) == (0, 3)
    assert "NaN" in found.rejects[0].reason


def test_the_command(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.h5"
    arguments = ["sample", "pigen_mled_c", "--checkpoint", str(checkpoint), "-o", str(out)]
    few = ["--set", "sample.n=3", "--set", "sample.steps=3"]
    runner = CliRunner()
    found = runner.invoke(main, [*arguments, *few, "--json"], catch_exceptions=False)
    assert found.exit_code == 0
    counts = json.loads(found.stdout)
    assert counts["crystals"] + counts["rejects"] == 3
    again = runner.invoke(main, [*arguments, *few])
    assert again.exit_code == 2
    assert "--resume" in again.output
    odd = runner.invoke(main, [*arguments, "--force", "--set", "sample.elements_required=['U']"])
    assert odd.exit_code == 2
    assert "U" in odd.output


def test_the_bar_counts_structures() -> None:
    with tqdm(total=40, initial=8, file=io.StringIO()) as bar:
        on_step = _Steps(bar, steps=5)
        shown = []
        for _ in range(10):  # two batches of 16 take 5 steps each
            on_step(16)
            shown.append(bar.n)
    assert shown == [11, 14, 17, 20, 24, 27, 30, 33, 36, 40]
