"""Relaxation of a few crystals as a task of an executor, where none takes the others with it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.energy.potential import Evaluation, Potential, load_potential
from pigen.energy.relax import Relaxed, relax
from pigen.energy.stage import STEP_LIMIT
from pigen.runtime.executor import Divisible


@dataclass
class PotentialElsewhere:
    """A potential of `load_potential` that pickles: each process loads it when it evaluates.

    Attributes:
        model, device: as of `load_potential`.
        name: as of `Potential`.
    """

    model: str
    device: str
    name: str

    @classmethod
    def of(cls, model: str, device: str, executor: Executor) -> PotentialElsewhere:
        """Have a worker load it, and say its name. Raises as `load_potential`."""
        return cls(model, device, executor.submit(_name, model, device).result())

    def evaluate(self, crystals: Crystals) -> Evaluation:
        """As `Potential.evaluate`."""
        return _potential(self.model, self.device).evaluate(crystals)


@lru_cache(maxsize=1)
def _potential(model: str, device: str) -> Potential:
    return load_potential(model, device)


def _name(model: str, device: str) -> str:
    return _potential(model, device).name


@dataclass(frozen=True)
class Relaxing(Divisible[Crystals, list[Relaxed]]):
    """`relax` of a batch that is small enough for one pass; results in its order.

    A crystal that hangs or kills a worker has failed, with that as its status. The result is a
    function of the batch alone, to the last bit on a CPU.

    Attributes:
        potential: of the energies; one that pickles, where the executor has other processes.
        fmax, max_steps: as of `relax`.
    """

    potential: Potential
    fmax: float
    max_steps: int
    time_limit = STEP_LIMIT

    def __call__(self, item: Crystals) -> list[Relaxed]:
        """Relax the batch."""
        if not len(item):
            self.potential.evaluate(item)  # which loads it
        return relax(item, self.potential, fmax=self.fmax, max_steps=self.max_steps)

    def size(self, item: Crystals) -> int:
        """Number of crystals."""
        return len(item)

    def divide(self, item: Crystals, size: int) -> list[Crystals]:
        """Slices of the batch."""
        starts = range(0, max(len(item), 1), size)
        return [item[slice(start, start + size)] for start in starts]

    def join(self, results: Sequence[list[Relaxed]]) -> list[Relaxed]:
        """All results in order, keys counted anew."""
        found = [one for part in results for one in part]
        return [replace(one, key=i) for i, one in enumerate(found)]

    def refuse(self, item: Crystals, reason: str) -> list[Relaxed]:
        """A relaxation that failed."""
        return [Relaxed(0, item, np.nan, False, 0, np.nan, reason)]

    def nothing(self, item: Crystals) -> Crystals:
        """No crystals."""
        return item[slice(0)]
