"""Basin hopping for one composition: what to relax next, and what to make of how it went.

The hopper is a fold over relaxations in the order of their slots. It proposes the slots of a round
at once, so that one search alone fills a batch. What a round proposes depends on the seed and on
the relaxations of the rounds before it alone, and so does what the search learns of its moves: a
search that is told again what it was told before goes on as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.csp.bandit import Bandit
from pigen.csp.cells import formula_units, known_cell, random_cell
from pigen.csp.frameworks import Frameworks
from pigen.csp.moves import EXPECTED, Surroundings, move

TEMPERATURE = 0.02
"""eV/atom, of the Metropolis criterion."""
MELT = 50
"""Steps without a lower current structure after which the temperature rises at each refusal."""
MELTING = 0.01
"""eV/atom, the most it rises by."""
NEW_MINIMUM = 1e-4
"""eV/atom: what is lower by less is the same minimum, relaxed a little further."""
DIGITS = 6
"""Of an energy in eV/atom: those of the result file, so that a resumed search sees the same."""
KEPT = 20
"""Structures kept to splice with, and to rank what a move made among: the lowest ones."""
SAME = 1e-3
"""eV/atom: structures whose energies are as near as this gain nothing as one more of the lowest:
relaxations of one structure to 0.05 eV/Å differ by as much."""
BATCH = 8
"""Slots of a round: few searches fill a batch with them, and a move waits little for what the
others of its round have found."""
RANDOM = 4
"""One in so many cells of the initial pool is random: a compound may resemble none."""


@dataclass(frozen=True, eq=False)
class Plan:
    """One search.

    Attributes:
        elements: atoms in the reduced formula.
        max_atoms: in a cell.
        seeds: generated structures, atoms sorted by number, first in the initial pool.
        n_random: random structures in the initial pool.
        rmax: steps without a new minimum that end the search.
        iterations: relaxations that end it, the initial ones too.
        random_seed: of all it draws.
        batch: slots of a round, at most.
    """

    elements: Mapping[str, int]
    max_atoms: int
    seeds: tuple[Crystals, ...]
    n_random: int
    rmax: int
    iterations: int
    random_seed: int
    batch: int = BATCH

    @property
    def n_initial(self) -> int:
        """Structures in the initial pool."""
        return len(self.seeds) + self.n_random

    def after(self, n_rounds: int) -> int:
        """Slots in so many rounds; the initial pool and the search share none."""
        pool = -(-self.n_initial // self.batch)
        if n_rounds <= pool:
            slots = min(n_rounds * self.batch, self.n_initial)
        else:
            slots = self.n_initial + (n_rounds - pool) * self.batch
        return min(slots, self.iterations)

    def rounds(self, n_slots: int) -> int:
        """Whole rounds in so many slots from the first on."""
        if n_slots < self.n_initial:
            return n_slots // self.batch
        whole = -(-self.n_initial // self.batch) + (n_slots - self.n_initial) // self.batch
        return whole + (self.after(whole) < n_slots == self.iterations)


@dataclass(frozen=True, eq=False)
class Trial:
    """A structure to relax: the move that made it, and itself."""

    move: str
    crystal: Crystals


@dataclass(frozen=True)
class Record:
    """One relaxation, as the result file has it: energies and temperature in eV/atom."""

    slot: int
    initial: bool
    move: str
    energy: float
    temperature: float
    current: float
    lowest: float
    accepted: bool


def _known_before(number: int) -> int:
    """Cells on sites of known crystals among so many first ones of the pool, without its seeds."""
    return number - number // RANDOM


class Hopper:
    """The state of one search. Relaxations are told in the order of their slots."""

    def __init__(self, plan: Plan) -> None:
        """Nothing relaxed yet."""
        self.plan = plan
        self.n_told = 0
        self.lowest = math.inf
        self._current: tuple[float, Crystals] | None = None
        self._bandit = Bandit(EXPECTED)
        self._n_known = 0  # made by the move of this name
        self._met: list[tuple[float, int, Crystals]] = []
        self._temperature = TEMPERATURE
        self._since_minimum = self._since_lower = 0

    @cached_property
    def _frameworks(self) -> Frameworks:
        units = formula_units(self.plan.elements, self.plan.max_atoms)
        return Frameworks(self.plan.elements, units)

    @property
    def converged(self) -> bool:
        """Whether ``rmax`` steps brought no new minimum."""
        return self._since_minimum >= self.plan.rmax

    @property
    def done(self) -> bool:
        """Whether there is nothing left to relax; never in the middle of a round."""
        whole = self.plan.after(self.plan.rounds(self.n_told)) == self.n_told
        return whole and (self.converged or self.n_told >= self.plan.iterations)

    def propose(self) -> list[Trial]:
        """The structures of the next round, to be told in this order before the round after it."""
        n_rounds = self.plan.rounds(self.n_told)
        trials: list[Trial] = []
        for slot in range(self.n_told, self.plan.after(n_rounds + 1)):
            n_known = self._n_known + sum(trial.move == "known" for trial in trials)
            trials.append(self._trial(slot, n_known))
        return trials

    def _trial(self, slot: int, n_known: int) -> Trial:
        plan = self.plan
        if slot < plan.n_initial:
            return self.start(slot)
        rng = np.random.default_rng([plan.random_seed, slot])
        if self._current is None:  # every relaxation failed so far
            return Trial("new", random_cell(plan.elements, plan.max_atoms, rng))
        around = Surroundings(
            plan.elements,
            plan.max_atoms,
            plan.seeds,
            [crystal for *_, crystal in self._met],
            self._frameworks,
            _known_before(plan.n_random) + n_known,
        )
        return Trial(*move(self._current[1], around, self._bandit.order(rng), rng))

    def start(self, slot: int) -> Trial:
        """What the initial pool has in a slot: the seeds, then cells that no seed changes.

        One in `RANDOM` of these is random, the others are on sites of known crystals.
        """
        plan = self.plan
        if slot < len(plan.seeds):
            return Trial("initial", plan.seeds[slot])
        number = slot - len(plan.seeds)
        rng = np.random.default_rng([plan.random_seed, number])
        made = None
        if number % RANDOM != RANDOM - 1:
            made = known_cell(self._frameworks, _known_before(number), rng)
        if made is None:
            made = random_cell(plan.elements, plan.max_atoms, rng)
        return Trial("initial", made)

    def tell(self, trial: str, energy: float, crystal: Crystals) -> Record:
        """Take the relaxation of the next slot.

        Args:
            trial: the move that made it.
            energy: eV/atom; NaN or infinity where the relaxation failed.
            crystal: the relaxed structure.
        """
        slot = self.n_told
        initial = slot < self.plan.n_initial
        energy = round(energy, DIGITS) if math.isfinite(energy) else math.inf
        temperature = self._temperature
        accepted = self._hop(slot, energy, crystal, initial=initial)
        if energy < self.lowest - NEW_MINIMUM:
            self._since_minimum = 0
        elif not initial:
            self._since_minimum += 1
        self.lowest = min(self.lowest, energy)
        self._bandit.learn(trial, self._gain(energy))
        self._remember(energy, slot, crystal)
        self._n_known += trial == "known"
        self.n_told += 1
        current = self._current[0] if self._current else math.inf
        return Record(slot, initial, trial, energy, temperature, current, self.lowest, accepted)

    def _hop(self, slot: int, energy: float, crystal: Crystals, *, initial: bool) -> bool:
        if math.isinf(energy):
            return False
        rise = energy - self._current[0] if self._current else -math.inf
        if rise < 0:
            self._current, self._since_lower = (energy, crystal), 0
            self._temperature = TEMPERATURE
            return True
        if initial:  # a search starts from the lowest of the pool
            return False
        self._since_lower += 1
        # A stream of its own: that of the proposal is drawn from as often as the move needs.
        rng = np.random.default_rng([self.plan.random_seed, slot, 1])
        if 0 < rise and rng.random() < math.exp(-rise / self._temperature):
            self._current = (energy, crystal)
            return True
        if self._since_lower >= MELT:
            self._temperature += MELTING * float(rng.random())
        return False

    def _gain(self, energy: float) -> float:
        """What a move is worth, 0 … 1: the rank of what it made among the structures kept.

        1 for a new lowest one, 0 for one that ranks below them all, failed, or was met before.
        """
        if math.isinf(energy) or any(abs(energy - known) < SAME for known, *_ in self._met):
            return 0.0
        return 1 - sum(known < energy for known, *_ in self._met) / KEPT

    def _remember(self, energy: float, slot: int, crystal: Crystals) -> None:
        same = any(abs(energy - known) < NEW_MINIMUM for known, *_ in self._met)
        if math.isfinite(energy) and not same:
            self._met = sorted([*self._met, (energy, slot, crystal)], key=lambda met: met[:2])
            self._met = self._met[:KEPT]
