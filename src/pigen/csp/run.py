"""`csp_run`: embedded basin hopping, many searches side by side in the batches of one relaxer."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pigen.crystals import Crystals
from pigen.csp.folder import MODES, compositions, read_experiment
from pigen.csp.hopper import Hopper, Plan, Trial
from pigen.csp.results import IMPLAUSIBLE
from pigen.csp.search_folder import SearchFolder, canonical, plan_of
from pigen.energy.potential import Potential
from pigen.energy.relax import Relaxed, Relaxer
from pigen.errors import UsageError
from pigen.shard import Shard

SIDE_BY_SIDE = 32
"""Searches under way at a time: enough to fill a batch on a CPU, and to end the first ones soon."""
IN_FLIGHT = 256
"""Structures of initial pools that are made ahead, over all searches: making them takes time too.
A search in its later steps has one under way."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        searches: in all.
        ended: that have ended, those that had before included.
        relaxations: done by this run.
    """

    searches: int
    ended: int
    relaxations: int


def csp_run(
    folders: Sequence[Path],
    potential: Potential,
    *,
    only: Sequence[str] = (),
    shard: Shard | None = None,
    side_by_side: int = SIDE_BY_SIDE,
    hours: float = math.inf,
    hull: Callable[[str], float | None] = lambda formula: None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Run, or go on with, the searches of folders that `seed.csp_seed` wrote.

    Args:
        folders: of CSP experiments.
        potential: of the energies.
        only: searches to run, as ``001_Mg1O1/seeded`` or ``001_Mg1O1``; none for all.
        shard: of the searches, in the order of the folders; None for all.
        side_by_side: searches under way at a time.
        hours: wall clock of this run; a search it cuts off goes on in the next.
        hull: reduced formula → energy of the hull, eV/atom, None where there is none. A relaxation
            that ends more than `IMPLAUSIBLE` below has failed; the energy traces show it.
        watch: told after every step of the relaxer that finished something.

    Raises:
        UsageError: no such folder or search, or one that holds results of another engine or
            potential.
        PigenError: a seed's file is missing or damaged, or another process runs a search.
    """
    deadline = time.monotonic() + 3600 * hours
    found = [
        (path, plan, (settings.fmax, settings.steps))
        for folder in folders
        for settings in [read_experiment(folder).settings]
        for path, plan in _searches(folder, only)
    ]
    if not found:
        raise UsageError(f"no search {', '.join(only)} in {', '.join(map(str, folders))}")
    waiting: list[tuple[SearchFolder, tuple[float, int]]] = []
    own = found if shard is None else list(shard.own(found))
    for path, plan, goals in own:
        search = SearchFolder(path, plan, potential.name)
        if not search.ended:
            waiting.append((search, goals))
    total, ended = len(own), len(own) - len(waiting)
    relaxations = 0
    while waiting and time.monotonic() < deadline:
        # Experiments with one goal of the relaxation share a relaxer.
        goal = waiting[0][1]
        alike = [search for search, other in waiting if other == goal]
        waiting = [(search, other) for search, other in waiting if other != goal]
        relaxer = Relaxer(potential, fmax=goal[0], max_steps=goal[1])
        steps = _side_by_side(alike, relaxer, min(side_by_side, len(alike)), hull)
        with closing(steps):
            for n_relaxed, n_ended in steps:
                relaxations, ended = relaxations + n_relaxed, ended + n_ended
                if n_relaxed:
                    watch(Progress(total, ended, relaxations))
                if time.monotonic() >= deadline:
                    break
    return Progress(total, ended, relaxations)


def _side_by_side(
    folders: Sequence[SearchFolder],
    relaxer: Relaxer,
    n: int,
    hull: Callable[[str], float | None],
) -> Generator[tuple[int, int], None, None]:
    """Run searches, n at a time; yields, for each step, the relaxations and searches that ended."""
    waiting = deque(folders)
    under_way: dict[Path, _Search] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < n:
                folder = waiting.popleft()
                under_way[folder.path] = _Search(folder, relaxer, hull, max(IN_FLIGHT // n, 1))
            finished = relaxer.step()
            for relaxed in finished:
                path, slot = cast(tuple[Path, int], relaxed.key)
                under_way[path].take(slot, relaxed)
            ended = [path for path, search in under_way.items() if search.ended]
            for path in ended:
                del under_way[path]
            yield len(finished), len(ended)
    finally:
        for search in under_way.values():
            search.folder.release()


def _searches(folder: Path, only: Sequence[str]) -> list[tuple[Path, Plan]]:
    experiment = read_experiment(folder)
    if experiment.engine != "fuse":
        raise UsageError(f"{folder}: its seeds are for {experiment.engine}, not for searches")
    found = []
    for composition in compositions(folder, experiment):
        for mode in MODES:
            names = (composition.folder, f"{composition.folder}/{mode}")
            if only and not set(names) & set(only):
                continue
            path = folder / composition.folder / mode
            found.append((path, plan_of(path, composition, experiment.settings, mode)))
    return found


class _Search:
    """One search under way: it keeps the relaxer supplied, and its folder written in order."""

    def __init__(
        self,
        folder: SearchFolder,
        relaxer: Relaxer,
        hull: Callable[[str], float | None],
        ahead: int,
    ) -> None:
        self.folder, self._relaxer, self._ahead = folder, relaxer, ahead
        self._hopper: Hopper = folder.start()
        elements = self._hopper.plan.elements
        self._hull = hull("".join(f"{symbol}{elements[symbol]}" for symbol in sorted(elements)))
        self._trials: dict[int, Trial] = {}
        self._results: dict[int, tuple[float, Crystals, str]] = {}
        self.ended = False
        self._supply()

    def take(self, slot: int, relaxed: Relaxed) -> None:
        """A relaxation has finished; those of the initial pool may do so in any order."""
        crystal = canonical(relaxed.crystal) if math.isfinite(relaxed.energy) else None
        problem = ""
        if crystal is None:
            problem = relaxed.status if math.isnan(relaxed.energy) else "fell apart"
        elif self._hull is not None and relaxed.energy < self._hull - IMPLAUSIBLE:
            problem = f"{self._hull - relaxed.energy:.1f} eV/atom below the hull is no crystal"
        if problem or crystal is None:  # what failed is kept as it was before
            self._results[slot] = (math.inf, self._trials[slot].crystal, problem)
        else:
            self._results[slot] = (relaxed.energy, crystal, "")
        while self._hopper.n_told in self._results and not self._hopper.done:
            told = self._hopper.n_told
            energy, crystal, problem = self._results.pop(told)
            record = self._hopper.tell(self._trials.pop(told).move, energy, crystal)
            self.folder.write(record, crystal, problem)
        self._supply()

    def _supply(self) -> None:
        for slot in self._hopper.ready():
            if len(self._trials) - len(self._results) >= self._ahead:
                break
            if slot not in self._trials:
                self._trials[slot] = self._hopper.propose(slot)
                self._relaxer.add((self.folder.path, slot), self._trials[slot].crystal)
        if self._hopper.done:
            self.folder.finish(self._hopper, self._hull)
            self.ended = True
