"""Columns a–f of Extended Data Table 3, from what the two searches of each composition reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pigen.csp.decide import with_decided
from pigen.csp.folder import MODES, Composition, Experiment, compositions, read_experiment
from pigen.csp.results import STATUSES, Search, read_search
from pigen.runtime.errors import UsageError

TIE = 1e-3
"""eV/atom: more than tight relaxations of one structure differ by (`python benchmarks/tie.py`: 0.25
meV/atom at 95 %, 0.64 at most). Energies so near are equal."""


@dataclass(frozen=True)
class Outcome:
    """Both searches of one composition.

    Attributes:
        composition: what was searched.
        seeded: search that had the generated structure.
        unseeded: search that had not.
        decided: whether the energies that decide were relaxed again alike (`decide`).
    """

    composition: Composition
    seeded: Search
    unseeded: Search
    decided: bool = False

    @property
    def seed_read(self) -> bool:
        """Whether the seeded search took its seed and began to relax it."""
        return bool(self.seeded.seed_steps)

    @property
    def seed_failed(self) -> bool:
        """Column f: the relaxation of the generated structure failed."""
        return self.seed_read and math.isinf(self.generated)

    @property
    def generated(self) -> float:
        """Energy of the generated structure, relaxed, eV/atom; infinity where there is none."""
        return min((step.compared for step in self.seeded.seed_steps), default=math.inf)

    @property
    def found(self) -> float:
        """Lowest energy of what either search made itself, eV/atom."""
        return min(self.seeded.lowest_found, self.unseeded.lowest_found)

    @property
    def gain(self) -> float:
        """E_generated − E_CSP, eV/atom; NaN unless the seed and both searches have energies."""
        energies = (self.generated, self.found, self.unseeded.lowest)
        known = all(math.isfinite(energy) for energy in energies)
        return self.generated - self.found if known else math.nan


@dataclass(frozen=True)
class Counts:
    """One row of the table, or a sum of rows.

    Attributes:
        compositions: how many were searched.
        statuses: of the searches.
        continued: searches that were cut off and went on: in several parts.
        decided: compositions whose deciding energies were relaxed again (`decide`).
        seeds_unread: seeded searches that ran, but took no seed.
        judged: compositions in which the seed and both searches have an energy: of a.
        compared: compositions in which both searches have an energy, the seeded one with its seed
            read, if only to fail: of b.
        a: generated structure still lowest after both searches.
        b: seeded search ended lower than the other.
        gains: E_generated − E_CSP where CSP is lower, eV/atom: c is their mean.
        losses: the reverse where it is not: d is their mean.
        e: seed was the lowest starting point.
        f: seed's relaxation failed.
    """

    compositions: int
    statuses: Counter[str]
    continued: int
    decided: int
    seeds_unread: int
    judged: int
    compared: int
    a: int
    b: int
    gains: tuple[float, ...]
    losses: tuple[float, ...]
    e: int
    f: int

    @property
    def c(self) -> float | None:
        """Mean of E_generated − E_CSP where CSP is lower, meV/atom; None of none."""
        return _mean(self.gains)

    @property
    def d(self) -> float | None:
        """Mean of E_CSP − E_generated where the generated structure is, meV/atom; None of none."""
        return _mean(self.losses)


def count(outcomes: Iterable[Outcome], tie: float = TIE) -> Counts:
    """Columns a–f over compositions.

    E_CSP is the lowest energy of what the two searches made themselves: the seed's own relaxation
    is the generated structure, not a find. Searches that were killed count with what they reached.

    Args:
        outcomes: of the compositions of one row.
        tie: eV/atom; energies that differ by no more are equal, and neither is lower.
    """
    listed = list(outcomes)
    judged = [o for o in listed if not math.isnan(o.gain)]
    compared = [
        o
        for o in listed
        if o.seed_read and math.isfinite(o.seeded.lowest) and math.isfinite(o.unseeded.lowest)
    ]
    with_seed = [o for o in listed if math.isfinite(o.generated)]
    searches = [search for o in listed for search in (o.seeded, o.unseeded)]
    return Counts(
        compositions=len(listed),
        statuses=Counter(search.status for search in searches),
        continued=sum(search.n_parts > 1 for search in searches),
        decided=sum(o.decided for o in listed),
        seeds_unread=sum(bool(o.seeded.steps) and not o.seed_read for o in listed),
        judged=len(judged),
        compared=len(compared),
        a=sum(o.gain <= tie for o in judged),
        b=sum(o.unseeded.lowest - o.seeded.lowest > tie for o in compared),
        gains=tuple(o.gain for o in judged if o.gain > tie),
        losses=tuple(-o.gain for o in judged if o.gain < -tie),
        e=sum(o.seeded.lowest_start - o.generated > tie for o in with_seed),
        f=sum(o.seed_failed for o in listed),
    )


def total(rows: Sequence[Counts]) -> Counts:
    """The sum of rows; c and d are means over all compositions."""
    return Counts(
        compositions=sum(row.compositions for row in rows),
        statuses=sum((row.statuses for row in rows), Counter()),
        continued=sum(row.continued for row in rows),
        decided=sum(row.decided for row in rows),
        seeds_unread=sum(row.seeds_unread for row in rows),
        judged=sum(row.judged for row in rows),
        compared=sum(row.compared for row in rows),
        a=sum(row.a for row in rows),
        b=sum(row.b for row in rows),
        gains=tuple(gain for row in rows for gain in row.gains),
        losses=tuple(loss for row in rows for loss in row.losses),
        e=sum(row.e for row in rows),
        f=sum(row.f for row in rows),
    )


def read_outcomes(folder: Path, *, as_left: bool = False) -> tuple[Experiment, list[Outcome]]:
    """The manifest of a CSP folder and what its searches reached.

    Args:
        folder: of the experiment.
        as_left: compare by the energies that the searches left, not by those of decided.json.

    Raises:
        UsageError: no folder of searches that FUSE or `pigen csp-run` runs.
    """
    experiment = read_experiment(folder)
    if experiment.engine != "fuse":
        raise UsageError(
            f"{folder}: its seeds are for {experiment.engine}; only searches of FUSE and "
            "pigen csp-run are read"
        )
    outcomes = []
    for composition in compositions(folder, experiment):
        place = folder / composition.folder
        seeded, unseeded = (read_search(place / mode) for mode in MODES)
        outcome = Outcome(composition, seeded, unseeded)
        if not as_left:
            outcome = Outcome(composition, *with_decided(place, seeded, unseeded))
        outcomes.append(outcome)
    return experiment, outcomes


def status_line(statuses: Counter[str]) -> str:
    """Like ``17 converged, 2 killed, 1 failed``; every status that occurs."""
    return ", ".join(f"{statuses[name]} {name}" for name in STATUSES if statuses[name])


def _mean(energies: Sequence[float]) -> float | None:
    return 1000 * sum(energies) / len(energies) if energies else None
