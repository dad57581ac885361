"""Training a model: on a labelled set, in one process or in many as if in one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from pigen.config import Experiment, TrainConfig
from pigen.descriptors import load_descriptors
from pigen.model.init_from import check_start
from pigen.model.trainer import STATE, SYMMETRY, Trainer
from pigen.model.training_set import TrainingSet, read_training_set
from pigen.runtime.distributed import n_processes, processes
from pigen.runtime.errors import UsageError
from pigen.runtime.files import check_writable
from pigen.runtime.lock import Lock


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
    (what ``resume`` needs), ``metrics.csv`` (losses per epoch) and, at the end, their picture
    ``losses.png``. ``say`` takes a line for people.
    Under torchrun all processes call this with the same arguments; the first one writes.

    Raises:
        UsageError: no data, a label without values, an existing run without ``resume``, a state
            that belongs to other settings, a checkpoint of another network to start from, or a
            batch smaller than the number of processes.
        PigenError: the loss became NaN or infinite; the last good checkpoint stays. Another run
            trains in the folder.
        OneProcessError: memory ran out, or a process that torchrun started is gone; the state is
            saved.
    """
    _check_processes(experiment.train, n_processes())
    with processes(experiment.train.device) as group, contextlib.ExitStack() as held:
        data = group.from_first("data", lambda: _prepare(experiment, out_dir, resume))
        trainer = Trainer(experiment, data, out_dir, group)

        def begin() -> bytes:
            for line in data.start.lines(data.spec, experiment.model.labels) if data.start else ():
                say(line)
            held.enter_context(Lock(out_dir / STATE))
            if (out_dir / STATE).exists():
                trainer.load()
            return trainer.state() if group.size > 1 else b""

        state = group.from_first("state", begin)
        if not group.first:
            trainer.take(state)
        if group.first:
            held_out = f"{len(data.val)} for validation" if data.val else "none for validation"
            say(f"train: {len(data.train)} structures, {held_out}, {trainer.planned_steps} steps")
        return trainer.run(progress, say)


def _prepare(experiment: Experiment, out_dir: Path, resume: bool) -> TrainingSet:
    if not resume and (out_dir / STATE).exists():
        raise UsageError(f"{out_dir} holds a training run already; use --resume or another folder")
    check_writable(out_dir)
    if experiment.train.init_from:
        check_start(experiment.train.init_from, experiment.model, experiment.diffusion)
    load_descriptors(experiment.descriptors)
    data = read_training_set(experiment, out_dir / SYMMETRY)
    out_dir.mkdir(parents=True, exist_ok=True)
    return data


def _check_processes(config: TrainConfig, size: int) -> None:
    if config.hours and size > 1:
        raise UsageError(f"train.hours: {size} processes have no clock in common; use train.epochs")
    pieces = size * config.accumulate
    if config.batch_size < pieces:
        raise UsageError(
            f"train.batch_size = {config.batch_size} is the batch of all processes together, too "
            f"small for {size} of them with train.accumulate = {config.accumulate}: give at "
            f"least {pieces}"
        )
