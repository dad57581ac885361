"""A potential whose evaluations run in an executor, where no crystal takes the others with it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pigen.crystals import Crystals
from pigen.energy.potential import Evaluation, Potential, load_potential
from pigen.executor import Divisible, map_ordered

EVALUATION_LIMIT = 300.0
"""s that evaluating a few crystals may take, the first time included, which may have to compile."""
_TOGETHER = {"cpu": 8, "cuda": 1000}
"""Crystals in a task. It must not depend on the executor: energies differ in their last digits
between batches."""


class PotentialElsewhere:
    """A potential of `load_potential`, evaluated by the workers of an executor.

    A crystal that hangs or kills a worker has that as its problem.
    """

    def __init__(self, model: str, device: str, executor: Executor) -> None:
        """Have a worker load it.

        Args:
            model: as of `load_potential`.
            device: "cpu" or "cuda".
            executor: of the workers.

        Raises:
            PigenError: as `load_potential`.
        """
        self._task, self._executor = _Evaluating(model, device), executor
        self._together = _TOGETHER[device]
        self.name = executor.submit(_name, model, device).result()

    def evaluate(self, crystals: Crystals) -> Evaluation:
        """As `Potential.evaluate`."""
        parts = self._task.divide(crystals, self._together)
        return self._task.join(list(map_ordered(self._executor, self._task, parts)))


@lru_cache(maxsize=1)
def _potential(model: str, device: str) -> Potential:
    return load_potential(model, device)


def _name(model: str, device: str) -> str:
    return _potential(model, device).name


@dataclass(frozen=True)
class _Evaluating(Divisible[Crystals, Evaluation]):
    model: str
    device: str
    time_limit = EVALUATION_LIMIT

    def __call__(self, item: Crystals) -> Evaluation:
        return _potential(self.model, self.device).evaluate(item)

    def size(self, item: Crystals) -> int:
        return len(item)

    def divide(self, item: Crystals, size: int) -> list[Crystals]:
        starts = range(0, max(len(item), 1), size)
        return [item[slice(start, start + size)] for start in starts]

    def join(self, results: Sequence[Evaluation]) -> Evaluation:
        return Evaluation(
            np.concatenate([one.energy for one in results]),
            np.concatenate([one.forces for one in results]),
            np.concatenate([one.stress for one in results]),
            tuple(problem for one in results for problem in one.problems),
        )

    def refuse(self, item: Crystals, reason: str) -> Evaluation:
        forces = np.full((len(item.atomic_numbers), 3), np.nan)
        nothing = np.full(len(item), np.nan)
        return Evaluation(
            nothing, forces, np.full((len(item), 3, 3), np.nan), (reason,) * len(item)
        )

    def nothing(self, item: Crystals) -> Crystals:
        return item[slice(0)]
