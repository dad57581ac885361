"""Training jobs in processes forked from one that has imported torch; run by test_distributed.py.

    python tests/support/ranks.py FOLDER < jobs.json > results.json

A job is a list [size, folder, resume, settings of train, event], an event null or
[step, rank, signal]: the process of that rank gets the signal when it has done that many steps.
A result is the list of what each process said at its end: "" or the type of the exception.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import CONFIG

import pigen.model.trainer as training
from pigen.config import DataConfig, Experiment, TrainConfig
from pigen.model.pairs import pair_basis
from pigen.model.train import train as train_model

SETTINGS = {"epochs": 5, "batch_size": 7, "device": "cpu"}


def main(folder: Path) -> None:
    # In bfloat16 the order of a sum would show.
    training.fast_bf16 = lambda device: False  # type: ignore[assignment]
    # Loads the compiled kernel, half a second, once for all processes.
    pair_basis(torch.zeros(1, 1, 3), torch.eye(3)[None], torch.ones(1, 1) > 0, cutoff=1.0, radial=1)
    said = [run(folder, *job) for job in json.load(sys.stdin)]
    print(json.dumps(said))


def run(
    folder: Path, size: int, name: str, resume: bool, settings: dict[str, Any], event: Any
) -> list[str]:
    """One job, each process of it forked from this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(size):
        notes = folder / f"{name}.{rank}"
        pid = os.fork()
        if not pid:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            try:
                train(folder, name, resume, settings, event)
                notes.write_text("")
            except BaseException as error:
                notes.write_text(f"{type(error).__name__}: {error}")
            os._exit(0)
        children.append((pid, notes))
    for pid, _ in children:
        os.waitpid(pid, 0)
    return [notes.read_text() if notes.exists() else "killed" for _, notes in children]


def train(folder: Path, name: str, resume: bool, settings: dict[str, Any], event: Any) -> None:
    """What one process does."""
    torch.manual_seed(os.getpid())  # nothing may depend on it
    step = training.Trainer._train_step

    def watched(self: training.Trainer, rows: np.ndarray) -> None:
        step(self, rows)
        if event and event[:2] == [self.step, self.group.rank]:
            os.kill(os.getpid(), signal.Signals[event[2]])

    training.Trainer._train_step = watched  # type: ignore[method-assign]
    source = str(folder / "train.h5")
    asked = Experiment(
        name="test",
        data=DataConfig(train=(source,), val=(source,)),
        model=CONFIG,
        train=TrainConfig(**{**SETTINGS, **settings}),
    )
    train_model(asked, folder / name, resume=resume, progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
