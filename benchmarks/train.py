"""Training speed on this machine: structures per second, and where the time goes.

    python benchmarks/train.py train.h5 [--rounds 8] [--device auto]

SRC is a training set as for `pigen train`. Three variants take turns, a few steps each: training
as it is, with the pair basis from the list of edges and e3nn's harmonics instead of the compiled
kernel, and in single precision. Times are CPU seconds of this process; on CUDA wall seconds, the
device synchronised.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import pigen.model.network as network
import pigen.model.trainer as training
from pigen.config import load_experiment
from pigen.model.pairs import basis_of_edges
from pigen.model.training_set import read_training_set
from pigen.runtime.device import fast_bf16, resolve_device
from pigen.runtime.distributed import Group

STEPS = 8
"""Steps in a turn."""


class Clock:
    """Seconds by part of a training step."""

    def __init__(self, device: torch.device) -> None:
        """Nothing measured yet."""
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def now(self) -> float:
        """Seconds since some moment."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time added to part ``name``."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = call(*args, **kwargs)
            self.seconds[name] += self.now() - start
            return result

        return wrapped


def from_edges(*args: Any, **kwargs: Any) -> torch.Tensor:
    """The pair basis without the kernel."""
    with torch.no_grad(), torch.autocast(args[0].device.type, enabled=False):
        return basis_of_edges(*args, **kwargs)


@contextmanager
def variant(name: str) -> Iterator[None]:
    """Train as one of `VARIANTS` says."""
    if name == "pair basis from edges":
        with patch.object(network, "pair_basis", from_edges):
            yield
    elif name == "single precision":
        with patch.object(training, "fast_bf16", lambda device: False):
            yield
    else:
        yield


VARIANTS = ("as it is", "pair basis from edges", "single precision")


@contextmanager
def parts_timed(trainer: training.Trainer, clock: Clock) -> Iterator[None]:
    """Time the parts of the steps made inside."""
    parts: list[tuple[Any, str, str]] = [
        (trainer.model, "forward", "network, forward"),
        (trainer.model, "geometry", "pair basis"),
        (torch.Tensor, "backward", "network, backward"),
        (training.NoisedBatch, "make", "noise and losses"),
        (training, "losses", "noise and losses"),
        (trainer.optimizer, "step", "optimiser"),
    ]
    patches = [
        patch.object(owner, name, clock.timed(part, getattr(owner, name)))
        for owner, name, part in parts
    ]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    settings = [f'data.train=["{args.source}"]', f'train.device="{args.device}"']
    experiment = load_experiment("diffcsp_cfg", settings)
    data = read_training_set(experiment)
    with tempfile.TemporaryDirectory() as folder:
        group = Group(resolve_device(args.device))
        trainer = training.Trainer(experiment, data, Path(folder), group)
        clock, total = Clock(trainer.device), dict.fromkeys(VARIANTS, 0.0)
        structures = 0
        order = list(trainer._order(0))
        for round_ in range(args.rounds + 1):  # the first one warms up
            batches = order[round_ * STEPS : (round_ + 1) * STEPS]
            for name in VARIANTS:
                with variant(name):
                    start = clock.now()
                    for rows in batches:
                        trainer._train_step(rows)
                    total[name] += (clock.now() - start) * (round_ > 0)
            structures += sum(len(rows) for rows in batches) * (round_ > 0)
            with parts_timed(trainer, clock):
                for rows in batches:
                    start = clock.now()
                    trainer._train_step(rows)
                    clock.seconds["all"] += clock.now() - start
    precision = "bfloat16 products" if fast_bf16(trainer.device) else "single precision"
    print(f"{len(trainer.data)} structures, {trainer.device}, {precision}")
    rate = {name: structures / seconds for name, seconds in total.items()}
    print("| | structures/s | ratio |\n|---|---|---|")
    for name in VARIANTS:
        print(f"| {name} | {rate[name]:.0f} | {rate[VARIANTS[0]] / rate[name]:.2f}× |")
    whole = clock.seconds.pop("all")
    clock.seconds["the rest"] = whole - sum(clock.seconds.values())
    print("\n| part of a step, as it is | share of the time |\n|---|---|")
    for name, value in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {100 * value / whole:.0f} % |")


if __name__ == "__main__":
    main()
