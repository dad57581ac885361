"""Training: `fit` is a resumable loop over a labelled set; `train` runs it for an experiment."""

from __future__ import annotations

import csv
import io
import logging
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from pigen.descriptors import load_descriptors
from pigen.device import fast_bf16, resolve_device
from pigen.errors import PigenError, UsageError
from pigen.experiment import Experiment, TrainConfig
from pigen.files import check_writable, write_atomically
from pigen.interrupts import interrupts_later
from pigen.lock import Lock
from pigen.model.checkpoint import Header, save_checkpoint
from pigen.model.data import TrainingData, batches, drop_labels
from pigen.model.init_from import Start, check_start
from pigen.model.loss import Clean, Corruption, Losses, add_noise, losses
from pigen.model.network import Denoiser
from pigen.model.spec import ModelSpec
from pigen.training_set import Labelled, digest, known_only, read_labelled

_log = logging.getLogger(__name__)

WARMUP_STEPS = 500
SELF_CONDITIONING = 0.5
"""Share of steps that first predict once, without gradient, and show the network its guess."""

CHECKPOINT = "model.safetensors"
_STATE = "state.pt"
_METRICS = "metrics.csv"
_MAY_CHANGE = ("train.device", "train.checkpoint_minutes", "train.init_from")
"""Settings that a resumed run need not share; what it started from is compared by its hash."""
_COMPONENTS = tuple(field.name for field in fields(Losses))


def train(
    experiment: Experiment,
    out_dir: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train the experiment's model in ``out_dir``; returns the checkpoint.

    The folder holds ``model.safetensors`` (averaged weights, what sampling loads), ``state.pt``
    (what ``resume`` needs) and ``metrics.csv`` (losses per epoch). ``say`` takes a line for people.

    Raises:
        UsageError: no data, a label without values, an existing run without ``resume``, a state
            that belongs to other settings, or a checkpoint of another network to start from.
        PigenError: the loss became NaN or infinite; the last good checkpoint stays. Another process
            trains in the folder.
    """
    if not resume and (out_dir / _STATE).exists():
        raise UsageError(f"{out_dir} holds a training run already; use --resume or another folder")
    check_writable(out_dir)
    if experiment.train.init_from:
        check_start(experiment.train.init_from, experiment.model, experiment.diffusion)
    load_descriptors(experiment.descriptors)
    data, labels = experiment.data, experiment.model.labels
    found = read_labelled(data.train, labels, data.max_atoms)
    val = read_labelled(data.val, labels, data.max_atoms) if data.val else None
    for name, one in (("data.train", found), ("data.val", val)):
        for reason, count in one.left_out.items() if one else ():
            _log.warning("%s: %d left out: %s", name, count, reason)
    out_dir.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(experiment, found, val, out_dir)
    for line in trainer.start.lines(trainer.spec, labels) if trainer.start else ():
        say(line)
    with Lock(out_dir / _STATE):
        if (out_dir / _STATE).exists():
            trainer.load()
        return trainer.run(progress)


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    """Linear warm-up, constant to half-way, then a cosine to 1 % of the peak."""
    warmup = min(WARMUP_STEPS, max(1, n_steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = max(0.0, 2 * step / n_steps - 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def settings_of(experiment: Experiment, train: Labelled, val: Labelled | None) -> dict[str, str]:
    """What a training run depends on, by name: it may be gone on with only while this stays."""
    parts = {
        "model": experiment.model,
        "diffusion": experiment.diffusion,
        "loss": experiment.loss,
        "train": experiment.train,
    }
    found = {"seed": str(experiment.seed), "data.train": digest(train)}
    for name, part in parts.items():
        found |= {f"{name}.{key}": str(value) for key, value in asdict(part).items()}
    if val is not None:
        found["data.val"] = digest(val)
    return {key: value for key, value in found.items() if key not in _MAY_CHANGE}


def check_same_settings(path: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise UsageError that names what differs between a state and its resumption."""
    changed = [
        f"{key} was {old.get(key, 'not given')} and is now {new.get(key, 'not given')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        raise UsageError(f"cannot resume {path}: {'; '.join(changed)}")


class Trainer:
    """Everything a training run is made of; `run` goes on from wherever the state is."""

    def __init__(
        self, experiment: Experiment, train: Labelled, val: Labelled | None, out_dir: Path
    ) -> None:
        """Fit the spec to the training set and make a fresh network."""
        self.experiment = experiment
        self.config: TrainConfig = experiment.train
        self.out_dir = out_dir
        self.device = resolve_device(self.config.device)
        labels = experiment.model.labels
        self.spec = ModelSpec.fit(train.crystals, labels, train.labels)
        self.start = Start.load(self.config.init_from) if self.config.init_from else None
        if self.start:
            self.spec = self.start.spec(self.spec, labels)
        val = known_only(val, self.spec.elements) if val else None
        self.settings = settings_of(experiment, train, val)
        if self.start:
            self.settings["train.init_from"] = self.start.origin
        self.data = TrainingData.of(train.crystals, train.labels, self.spec, self.device)
        self.val = (
            TrainingData.of(val.crystals, val.labels, self.spec, self.device) if val else None
        )
        torch.manual_seed(experiment.seed)
        self.model = Denoiser(experiment.model, len(self.spec.elements))
        if self.start:
            self.start.fill(self.model, self.spec)
        self.model.to(self.device)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.lr,
            weight_decay=self.config.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.cubed_radii = self.spec.cubed_radii(self.data.frac)
        self.steps_per_epoch = sum(1 for _ in self._order(0))
        self.n_steps = max(1, round(self.config.epochs * self.steps_per_epoch))
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.sums = torch.zeros(len(_COMPONENTS) + 1, dtype=torch.float64)

    # -- one step ------------------------------------------------------------------------------
    def _order(self, epoch: int) -> Any:
        sizes = self.data.n_atoms.cpu().numpy()
        return batches(sizes, self.config.batch_size, self.experiment.seed, epoch)

    def _losses(
        self,
        model: Denoiser,
        clean: Clean,
        labels: Tensor,
        generator: torch.Generator,
        guess_first: bool,
    ) -> Losses:
        draw = Corruption.draw(clean, generator)
        noised = add_noise(clean, draw, self.spec.lattice, self.experiment.diffusion)
        guess = None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast_bf16(self.device)):
            pairs = model.geometry(noised)
            if guess_first:
                with torch.no_grad():
                    guess = model(noised, labels, None, pairs).float()
            prediction = model(noised, labels, guess, pairs)
        return losses(
            prediction.float(),
            noised,
            clean,
            draw,
            scale=self.spec.lattice,
            cubed_radii=self.cubed_radii,
            config=self.experiment.diffusion,
        )

    def _train_step(self, rows: NDArray[np.int64]) -> None:
        # One generator per step makes a resumed run draw what the uninterrupted one would.
        generator = torch.Generator().manual_seed(self.experiment.seed * 1_000_003 + self.step)
        clean, labels = self.data.batch(torch.from_numpy(rows).to(self.device))
        labels = drop_labels(labels, self.config.p_drop, generator)
        guess_first = bool(torch.rand((), generator=generator) < SELF_CONDITIONING)
        found = self._losses(self.model, clean, labels, generator, guess_first)
        total = found.total(self.experiment.loss)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.n_steps, self.config.lr)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        values = torch.stack([total, *(getattr(found, c) for c in _COMPONENTS)]).detach().double()
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(values).all()):
            raise PigenError(
                f"training diverged at step {self.step}: loss {float(values[0])}, gradient norm "
                f"{float(norm)}; the last good checkpoint is {self.out_dir / CHECKPOINT}. "
                "Lower train.lr or train.clip and use --resume, or start again"
            )
        self.optimizer.step()
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        state = self.model.state_dict()
        keys = list(self.average)
        torch._foreach_lerp_([self.average[k] for k in keys], [state[k] for k in keys], 1 - decay)
        self.sums += values.cpu()
        self.step += 1

    # -- the loop ------------------------------------------------------------------------------
    def run(self, progress: bool = True) -> Path:
        """Train to the end; saves every few minutes, at the end, and when interrupted."""
        saved = time.monotonic()
        bar = tqdm(
            total=self.n_steps,
            initial=self.step,
            unit="step",
            disable=None if progress else True,
            desc="train",
        )
        started, at_start = time.monotonic(), self.seconds
        try:
            while True:
                if self._epoch_has_ended():
                    self._end_of_epoch(bar)
                if self.step == self.n_steps:
                    break
                epoch, done = divmod(self.step, self.steps_per_epoch)
                for rows in islice(self._order(epoch), done, None):
                    with interrupts_later():  # half a step would be in what is saved
                        self._train_step(rows)
                    self.seconds = at_start + time.monotonic() - started
                    bar.update()
                    if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                        self.save()
                        saved = time.monotonic()
                    if self._epoch_has_ended():
                        break
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            bar.close()
        self.save()
        return self.out_dir / CHECKPOINT

    def _epoch_has_ended(self) -> bool:
        """Whether the row of an epoch is due; a run may have been stopped just before it."""
        over = self.step == self.n_steps or self.step % self.steps_per_epoch == 0
        return over and self.step > (self.rows[-1]["step"] if self.rows else 0)

    def _end_of_epoch(self, bar: Any) -> None:
        epoch = (self.step - 1) // self.steps_per_epoch
        steps = self.step - epoch * self.steps_per_epoch
        names = ("total", *_COMPONENTS)
        row = {"epoch": float(epoch + 1), "step": float(self.step), "seconds": self.seconds}
        row |= {f"train_{n}": float(x) / steps for n, x in zip(names, self.sums, strict=True)}
        row |= self.validate()
        row["lr"] = learning_rate(self.step - 1, self.n_steps, self.config.lr)
        with interrupts_later():
            self.rows.append(row)
            self.sums.zero_()
        rate = self.step * self.config.batch_size / max(self.seconds, 1e-9)
        bar.set_postfix_str(f"loss {row['train_total']:.3f}, {rate:.0f} structures/s")
        self._write_metrics()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses of the averaged weights on the validation set, the same noise each time."""
        if self.val is None:
            return {}
        model = Denoiser(self.experiment.model, len(self.spec.elements)).to(self.device)
        model.load_state_dict(self.average)
        generator = torch.Generator().manual_seed(self.experiment.seed)
        sums = torch.zeros(len(_COMPONENTS), dtype=torch.float64)
        count = 0
        for rows in batches(self.val.n_atoms.cpu().numpy(), 64, self.experiment.seed, 0):
            clean, labels = self.val.batch(torch.from_numpy(rows).to(self.device))
            labels = drop_labels(labels, self.config.p_drop, generator)
            found = self._losses(model, clean, labels, generator, False)
            sums += len(rows) * torch.stack([getattr(found, c) for c in _COMPONENTS]).cpu().double()
            count += len(rows)
        return {f"val_{n}": float(x) / count for n, x in zip(_COMPONENTS, sums, strict=True)}

    # -- what stays ----------------------------------------------------------------------------
    def save(self) -> None:
        """Write the averaged weights and, beside them, all that `load` needs to go on."""
        header = Header(
            model=self.experiment.model,
            diffusion=self.experiment.diffusion,
            spec=self.spec,
            training={
                "experiment": self.experiment.name,
                "structures": str(len(self.data)),
                "steps": f"{self.step} of {self.n_steps}",
                "epochs": f"{self.step / self.steps_per_epoch:.1f}",
                "hours": f"{self.seconds / 3600:.2f}",
                "seed": str(self.experiment.seed),
                "loss": str(asdict(self.experiment.loss)),
                "p_drop": str(self.config.p_drop),
                **({"init_from": self.start.origin} if self.start else {}),
            },
        )
        save_checkpoint(self.out_dir / CHECKPOINT, self.average, header)
        buffer = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "settings": self.settings,
                "seconds": self.seconds,
                "sums": self.sums,
                "rows": self.rows,
            },
            buffer,
        )
        write_atomically(self.out_dir / _STATE, buffer.getvalue())
        self._write_metrics()

    def load(self) -> None:
        """Go on from the state in ``out_dir``; UsageError if it doesn't fit."""
        path = self.out_dir / _STATE
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            check_same_settings(path, state["settings"], self.settings)
            self.model.load_state_dict(state["model"], strict=True)
            self.optimizer.load_state_dict(state["optimizer"])
        except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, LookupError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"{path} can't be gone on with ({first}); remove it to train anew"
            ) from None
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.step = int(state["step"])
        self.seconds = float(state["seconds"])
        self.sums = state["sums"].cpu()
        self.rows = list(state["rows"])

    def _write_metrics(self) -> None:
        if not self.rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        write_atomically(self.out_dir / _METRICS, text.getvalue().encode())
