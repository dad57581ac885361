"""`csp_run`: embedded basin hopping, in groups of searches that advance in step.

A round relaxes the next structures (`hopper.BATCH`) of every search of a group that has not ended,
in one batch. So what a batch holds depends on the searches alone, not on time, on other groups or
on where it is relaxed: a run that was stopped repeats the batches of one that was not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pigen.crystal.crystals import Crystals
from pigen.csp.folder import MODES, compositions, read_experiment
from pigen.csp.hopper import Hopper, Plan, Trial
from pigen.csp.search_folder import SearchFolder, canonical, plan_of
from pigen.energy.elsewhere import Relaxing
from pigen.energy.hull.stage import IMPLAUSIBLE
from pigen.energy.potential import Potential
from pigen.energy.relax import Relaxed
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor, width
from pigen.runtime.shard import Shard

GROUP = {"cpu": 4, "cuda": 16}
"""Searches in a group, by the device of the potential: enough to fill a batch."""

Hull = Callable[[str], float | None]


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
    executor: Executor | None = None,
    only: Sequence[str] = (),
    shard: Shard | None = None,
    group: int = GROUP["cpu"],
    hours: float = math.inf,
    hull: Hull = lambda formula: None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Run, or go on with, the searches of folders that `seed.csp_seed` wrote.

    Args:
        folders: of CSP experiments.
        potential: of the energies; one that pickles where the executor has other processes.
        executor: of the relaxations; None for this process.
        only: searches to run, as ``001_MgO/seeded`` or ``001_MgO``; none for all.
        shard: of the groups, in the order of the folders; None for all.
        group: searches in a group: those to run in a folder, so many at a time in their order.
        hours: wall clock of this run, which ends after the rounds under way; a search that it cuts
            off goes on in the next.
        hull: reduced formula → energy of the hull, eV/atom, None where there is none. A relaxation
            that ends more than `IMPLAUSIBLE` below has failed; the energy traces show it.
        watch: told when a group begins, and after every round.

    Raises:
        UsageError: no such folder or search, or one that holds results of another engine or
            potential.
        PigenError: a seed's file is missing or damaged, or another process runs a search.
    """
    deadline = time.monotonic() + 3600 * hours
    found = []
    for folder in folders:
        settings = read_experiment(folder).settings
        relaxing = Relaxing(potential, settings.fmax, settings.steps)
        searches = _searches(folder, only)
        found += [(searches[i : i + group], relaxing) for i in range(0, len(searches), group)]
    if not found:
        raise UsageError(f"no search {', '.join(only)} in {', '.join(map(str, folders))}")
    total = ended = relaxations = 0
    waiting: deque[tuple[list[SearchFolder], Relaxing]] = deque()
    for searches, relaxing in found if shard is None else shard.own(found):
        opened = [SearchFolder(path, plan, potential.name) for path, plan in searches]
        going = [search for search in opened if not search.ended]
        total, ended = total + len(opened), ended + len(opened) - len(going)
        if going:
            waiting.append((going, relaxing))
    with closing(_rounds(waiting, executor or SerialExecutor(), deadline, hull)) as rounds:
        for n_relaxed, n_ended in rounds:
            relaxations, ended = relaxations + n_relaxed, ended + n_ended
            watch(Progress(total, ended, relaxations))
    return Progress(total, ended, relaxations)


def _rounds(
    waiting: deque[tuple[list[SearchFolder], Relaxing]],
    executor: Executor,
    deadline: float,
    hull: Hull,
) -> Generator[tuple[int, int], None, None]:
    """Do rounds until all searches have ended; yields relaxations and ended searches of each."""
    under_way: list[_Group] = []
    rounds: dict[Future[list[Relaxed]], _Group] = {}
    try:
        while waiting or rounds:
            late = time.monotonic() >= deadline
            if late and not rounds:
                return
            while waiting and not late and len(rounds) < width(executor):
                groups = _opened(*waiting.popleft(), hull)
                under_way += groups
                for one in groups:
                    yield 0, one.n_ended
                    if one.searches:
                        rounds[one.submit(executor)] = one
            done, _ = wait(rounds, return_when=FIRST_COMPLETED)
            for future in done:
                one = rounds.pop(future)
                before = one.n_ended
                n_relaxed = one.take(future.result())
                yield n_relaxed, one.n_ended - before
                if one.searches and time.monotonic() < deadline:
                    rounds[one.submit(executor)] = one
    finally:
        for future in rounds:
            future.cancel()
        for one in under_way:
            one.release()


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


def _opened(folders: Sequence[SearchFolder], relaxing: Relaxing, hull: Hull) -> list[_Group]:
    """The group of some searches, at the last round that all of them have saved.

    A run that is killed in the middle of a round leaves some searches one ahead. Those that are
    further apart were begun by other commands; they stay so, as groups of their own.
    """
    try:
        done = {folder: folder.open() for folder in folders}
        rounds = {folder: folder.plan.rounds(len(done[folder])) for folder in folders}
        together: list[list[SearchFolder]] = []
        for folder in sorted(folders, key=rounds.__getitem__):
            if not together or rounds[folder] > rounds[together[-1][0]] + 1:
                together.append([])
            together[-1].append(folder)
        groups = []
        for members in together:
            saved = rounds[members[0]]
            searches = [
                _Search(folder, folder.go_on(done[folder][: folder.plan.after(saved)]), hull)
                for folder in folders
                if folder in members
            ]
            groups.append(_Group(searches, relaxing))
        return groups
    except BaseException:
        for folder in folders:
            folder.release()
        raise


def judged(trial: Trial, relaxed: Relaxed, hull: float | None) -> tuple[float, Crystals, str]:
    """What a search takes a relaxation for: its energy, its structure, and why it failed or "".

    What failed has an infinite energy and keeps its structure of before.

    Args:
        trial: what was relaxed.
        relaxed: what became of it.
        hull: energy of the hull at this composition, eV/atom, None where there is none.
    """
    crystal = canonical(relaxed.crystal) if math.isfinite(relaxed.energy) else None
    if crystal is None:
        problem = relaxed.status if math.isnan(relaxed.energy) else "fell apart"
    elif hull is not None and relaxed.energy < hull - IMPLAUSIBLE:
        problem = f"{hull - relaxed.energy:.1f} eV/atom below the hull is no crystal"
    else:
        return relaxed.energy, crystal, ""
    return math.inf, trial.crystal, problem


class _Group:
    """Searches that advance in step."""

    def __init__(self, searches: list[_Search], relaxing: Relaxing) -> None:
        self.searches, self.n_ended = searches, 0
        self._relaxing = relaxing
        self._trials: list[list[Trial]] = []
        self._finish()

    def submit(self, executor: Executor) -> Future[list[Relaxed]]:
        """Begin a round."""
        self._trials = [search.hopper.propose() for search in self.searches]
        batch = Crystals.concatenate([one.crystal for trials in self._trials for one in trials])
        return executor.submit(self._relaxing, batch)

    def take(self, relaxed: list[Relaxed]) -> int:
        """End a round: all is saved before a search ends, so no search that has is ever ahead."""
        results = iter(relaxed)
        for search, trials in zip(self.searches, self._trials, strict=True):
            for trial in trials:
                search.take(trial, next(results))
        self._finish()
        return len(relaxed)

    def _finish(self) -> None:
        for search in self.searches:
            if search.hopper.done:
                search.finish()
                self.n_ended += 1
        self.searches = [search for search in self.searches if not search.hopper.done]

    def release(self) -> None:
        for search in self.searches:
            search.folder.release()


class _Search:
    """One search under way, and its folder."""

    def __init__(self, folder: SearchFolder, hopper: Hopper, hull: Hull) -> None:
        self.folder, self.hopper = folder, hopper
        elements = hopper.plan.elements
        self._hull = hull("".join(f"{symbol}{elements[symbol]}" for symbol in sorted(elements)))

    def take(self, trial: Trial, relaxed: Relaxed) -> None:
        """A relaxation has finished."""
        energy, crystal, problem = judged(trial, relaxed, self._hull)
        record = self.hopper.tell(trial.move, energy, crystal)
        self.folder.write(record, crystal, problem)

    def finish(self) -> None:
        """The search has ended."""
        self.folder.finish(self.hopper, self._hull)
