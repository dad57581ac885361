"""The training loop: steps, epochs, and the state from which it goes on.

Every process computes its share of each batch. What a batch is, its noise and its loss don't depend
on how many processes there are; nor does the state, so a run may go on with another number of them.
"""

from __future__ import annotations

import csv
import io
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from pigen.config import Experiment, TrainConfig
from pigen.model.checkpoint import Header, save_checkpoint
from pigen.model.data import TrainingData, batches, drop_labels
from pigen.model.loss import GivenShares, Losses, NoisedBatch, losses
from pigen.model.network import Denoiser
from pigen.model.training_set import TrainingSet, check_same_settings, settings_of
from pigen.model.watching import Log, draw_losses
from pigen.runtime.device import fast_bf16, is_out_of_memory
from pigen.runtime.distributed import Group, OneProcessError
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import write_atomically
from pigen.runtime.lock import interrupts_noted

WARMUP_STEPS = 500
SELF_CONDITIONING = 0.5
"""Share of steps that first predict once, without gradient, and show the network its guess."""

CHECKPOINT = "model.safetensors"
STATE = "state.pt"
SYMMETRY = "symmetry.npz"
"""What is known of the symmetry of the training set, kept so that it is found but once."""
_MISFITS = (LookupError, ValueError, TypeError, AttributeError)
"""What a state raises that holds other things than ours."""
_METRICS, LOSSES = "metrics.csv", "losses.png"
_COMPONENTS = tuple(field.name for field in fields(Losses))


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    """Linear warm-up, constant to half-way, then a cosine to 1 % of the peak."""
    warmup = min(WARMUP_STEPS, max(1, n_steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = max(0.0, 2 * step / n_steps - 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Trainer:
    """Everything a training run is made of; `run` goes on from wherever the state is."""

    def __init__(
        self, experiment: Experiment, data: TrainingSet, out_dir: Path, group: Group
    ) -> None:
        """Make a network, fresh or from where the data says to start."""
        self.experiment = experiment
        self.config: TrainConfig = experiment.train
        self.out_dir = out_dir
        self.group = group
        self.device = group.device
        self.spec = data.spec
        self.start = data.start
        self.settings = settings_of(experiment, data)
        self.data = data.train.to(self.device)
        self.val = data.val.to(self.device) if data.val else None
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
        self.shares = GivenShares(**self.config.given)
        self.cubed_radii = self.spec.cubed_radii(self.data.frac)
        self.steps_per_epoch = sum(1 for _ in self._order(0))
        self.n_steps = max(1, round(self.config.epochs * self.steps_per_epoch))
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.sums = torch.zeros(len(_COMPONENTS) + 1, dtype=torch.float64)
        self.interrupts: list[int] = []

    # -- one step ------------------------------------------------------------------------------
    def _order(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        sizes = self.data.n_atoms.cpu().numpy()
        return batches(sizes, self.config.batch_size, self.experiment.seed, epoch)

    def _shares(self, n: int) -> Iterator[slice]:
        """The rows of a batch of n that this process computes, in as many parts as asked for."""
        parts = self.group.size * self.config.accumulate
        mine = range(self.group.rank, min(n, parts), self.group.size)
        return (slice(first, None, parts) for first in mine)

    def _batch(
        self,
        data: TrainingData,
        rows: NDArray[np.int64],
        generator: torch.Generator,
        shares: GivenShares | None = None,
    ) -> NoisedBatch:
        """The structures of these rows with their noise; some symmetric, some given in part."""
        chosen = torch.from_numpy(rows).to(self.device)
        symmetric = torch.rand(len(rows), generator=generator) < self.config.symmetric
        clean, labels = data.batch(chosen, symmetric.to(self.device))
        labels = drop_labels(labels, self.config.p_drop, generator)
        diffusion = self.experiment.diffusion
        return NoisedBatch.make(clean, labels, self.spec.lattice, diffusion, generator, shares)

    def _losses(self, model: Denoiser, batch: NoisedBatch, guess_first: bool) -> Losses:
        guess = None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast_bf16(self.device)):
            pairs = model.geometry(batch.noised)
            if guess_first:
                with torch.no_grad():
                    guess = model(batch.noised, batch.labels, None, pairs).float()
            prediction = model(batch.noised, batch.labels, guess, pairs)
        return losses(
            prediction.float(),
            batch.noised,
            batch.clean,
            batch.draw,
            scale=self.spec.lattice,
            cubed_radii=self.cubed_radii,
            config=self.experiment.diffusion,
            counts=batch.counts,
        )

    def _train_step(self, rows: NDArray[np.int64]) -> None:
        # One generator per step makes a resumed run draw what the uninterrupted one would. Every
        # process draws for the whole batch, so that the noise depends on no number of processes.
        generator = torch.Generator().manual_seed(self.experiment.seed * 1_000_003 + self.step)
        guess_first = bool(torch.rand((), generator=generator) < SELF_CONDITIONING)
        batch = self._batch(self.data, rows, generator, self.shares)
        self.optimizer.zero_grad(set_to_none=True)
        values = self._gradients(batch, len(rows), guess_first)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.planned_steps, self.config.lr)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        values = values.double()
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

    def _gradients(self, batch: NoisedBatch, n: int, guess_first: bool) -> Tensor:
        """Gradients of a batch of n, left in the parameters; its total loss and components."""
        values = self.cubed_radii.new_zeros(len(_COMPONENTS) + 1)
        shares = [(share, 1.0) for share in self._shares(n)]
        # A process without a structure has to have gradients too, of what the others have.
        for share, weight in shares or [(slice(0, 1), 0.0)]:
            try:
                found = self._losses(self.model, batch.part(share), guess_first)
                total = weight * found.total(self.experiment.loss)
                total.backward()  # type: ignore[no-untyped-call]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise OneProcessError(
                    f"out of memory at step {self.step}, with {n} structures on {self.group.size} "
                    "processes; go on with --resume --set "
                    f"train.accumulate={2 * self.config.accumulate}"
                ) from error
            components = [getattr(found, name) for name in _COMPONENTS]
            values += torch.stack([total, *(weight * one for one in components)]).detach()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.group.sum([*gradients, values])
        return values

    # -- the loop ------------------------------------------------------------------------------
    def run(self, progress: bool = True, say: Callable[[str], None] = lambda line: None) -> Path:
        """Train to the end; saves every few minutes, at the end, and when interrupted.

        Progress is a bar on a terminal, else a line for ``say`` now and then.
        """
        saved = time.monotonic()
        bar = tqdm(
            total=self.n_steps,
            initial=self.step,
            unit="step",
            disable=None if progress and self.group.first else True,
            desc="train",
            dynamic_ncols=True,
        )
        log = Log(say if progress and bar.disable and self.group.first else lambda line: None)
        started, at_start = time.monotonic(), self.seconds
        # Half a step must not be in what is saved, and all processes have to stop after the same.
        with interrupts_noted() as self.interrupts, bar:
            try:
                while True:
                    if self._epoch_has_ended():
                        self._end_of_epoch(bar)
                    if self._has_ended():
                        break
                    epoch, done = divmod(self.step, self.steps_per_epoch)
                    for rows in islice(self._order(epoch), done, None):
                        self._train_step(rows)
                        self.seconds = at_start + time.monotonic() - started
                        bar.update()
                        self._tell(log)
                        if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                            self.save()
                            saved = time.monotonic()
                        self._stop_if_interrupted()
                        if self._epoch_has_ended():
                            break
            except (KeyboardInterrupt, OneProcessError):
                self.save()
                raise
            self.save()
        if self.group.first:
            draw_losses(self.rows, self.experiment.loss, self.out_dir / LOSSES)
        return self.out_dir / CHECKPOINT

    def _tell(self, log: Log) -> None:
        in_epoch = (self.step - 1) % self.steps_per_epoch + 1
        loss = float(self.sums[0]) / in_epoch
        epoch, rate = self.step / self.steps_per_epoch, self.step / max(self.seconds, 1e-9)
        log.step(self.step, self.planned_steps, epoch, loss, rate)

    def _stop_if_interrupted(self) -> None:
        if self.group.any(bool(self.interrupts)):
            raise KeyboardInterrupt

    @property
    def planned_steps(self) -> int:
        """Steps of the whole run: by its epochs, or by its hours at the pace so far if fewer."""
        if not self.config.hours or not self.seconds:
            return self.n_steps
        in_time = self.step * 3600 * self.config.hours / self.seconds
        return min(self.n_steps, max(self.step, round(in_time)))

    def _has_ended(self) -> bool:
        return self.step > 0 and self.step == self.planned_steps

    def _epoch_has_ended(self) -> bool:
        """Whether the row of an epoch is due; a run may have been stopped just before it."""
        over = self._has_ended() or self.step % self.steps_per_epoch == 0
        return over and self.step > (self.rows[-1]["step"] if self.rows else 0)

    def _end_of_epoch(self, bar: Any) -> None:
        epoch = (self.step - 1) // self.steps_per_epoch
        steps = self.step - epoch * self.steps_per_epoch
        names = ("total", *_COMPONENTS)
        row = {"epoch": float(epoch + 1), "step": float(self.step), "seconds": self.seconds}
        row |= {f"train_{n}": float(x) / steps for n, x in zip(names, self.sums, strict=True)}
        row |= self.validate()
        row["lr"] = learning_rate(self.step - 1, self.planned_steps, self.config.lr)
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
        for rows in batches(self.val.n_atoms.cpu().numpy(), 64, self.experiment.seed, 0):
            batch = self._batch(self.val, rows, generator)
            for share in self._shares(len(rows)):
                found = self._losses(model, batch.part(share), False)
                components = torch.stack([getattr(found, name) for name in _COMPONENTS])
                sums += len(rows) * components.cpu().double()
            self._stop_if_interrupted()
        self.group.sum([sums])
        return {
            f"val_{n}": float(x) / len(self.val) for n, x in zip(_COMPONENTS, sums, strict=True)
        }

    # -- what stays ----------------------------------------------------------------------------
    def save(self) -> None:
        """Write the averaged weights and, beside them, all that `load` needs to go on.

        Only the first process does; the others have the same.
        """
        if not self.group.first:
            return
        header = Header(
            model=self.experiment.model,
            diffusion=self.experiment.diffusion,
            spec=self.spec,
            training={
                "experiment": self.experiment.name,
                "structures": str(len(self.data)),
                "steps": f"{self.step} of {self.planned_steps}",
                "epochs": f"{self.step / self.steps_per_epoch:.1f}",
                "hours": f"{self.seconds / 3600:.2f}",
                "seed": str(self.experiment.seed),
                "loss": str(asdict(self.experiment.loss)),
                "p_drop": str(self.config.p_drop),
                "symmetric": str(self.config.symmetric),
                "given": str(dict(self.config.given)),
                **({"init_from": self.start.origin} if self.start else {}),
            },
        )
        save_checkpoint(self.out_dir / CHECKPOINT, self.average, header)
        write_atomically(self.out_dir / STATE, self.state())
        self._write_metrics()

    def state(self) -> bytes:
        """All that `take` needs to go on from here."""
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
        return buffer.getvalue()

    def take(self, state: bytes) -> None:
        """Go on from a state. Raises UsageError for one of other settings, naming what differs."""
        found = torch.load(io.BytesIO(state), map_location=self.device, weights_only=True)
        check_same_settings(found["settings"], self.settings)
        self.model.load_state_dict(found["model"], strict=True)
        self.optimizer.load_state_dict(found["optimizer"])
        self.average = {k: v.to(self.device) for k, v in found["average"].items()}
        self.step = int(found["step"])
        self.seconds = float(found["seconds"])
        self.sums = found["sums"].cpu()
        self.rows = list(found["rows"])

    def load(self) -> None:
        """Go on from the state in ``out_dir``; UsageError if it doesn't fit."""
        path = self.out_dir / STATE
        try:
            self.take(path.read_bytes())
        except UsageError as error:
            raise UsageError(f"cannot resume {path}: {error}") from None
        except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, *_MISFITS) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"{path} can't be gone on with ({first}); remove it to train anew"
            ) from None

    def _write_metrics(self) -> None:
        if not self.rows or not self.group.first:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        write_atomically(self.out_dir / _METRICS, text.getvalue().encode())
