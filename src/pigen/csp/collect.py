"""`collect`: what the searches of some folders reached, compared on equal terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from pigen.bundle import Bundle
from pigen.csp.decide import decide, undecided
from pigen.csp.folder import Experiment
from pigen.csp.minima import minima
from pigen.csp.outcome import Outcome, read_outcomes
from pigen.descriptors.prototypes.library import Library
from pigen.energy.hull import Reference
from pigen.energy.potential import Potential


@dataclass(frozen=True)
class Collected:
    """What the searches of one folder reached.

    Attributes:
        folder: of the experiment.
        experiment: its manifest.
        outcomes: of its compositions.
        minima: the lowest structure of each search, from `minima.minima`.
    """

    folder: Path
    experiment: Experiment
    outcomes: list[Outcome]
    minima: Bundle


def collect(
    folders: Sequence[Path],
    libraries: Mapping[str, Library],
    reference: Reference,
    potential: Callable[[], Potential] | None,
    executor: Executor,
    watch: Callable[[int], object] = lambda n: None,
) -> list[Collected]:
    """Read the searches, after what decides their columns was relaxed again.

    Args:
        folders: of CSP experiments.
        libraries: name → known frameworks, as of `minima.minima`.
        reference: of the hull.
        potential: makes the one to relax again with, called if anything has to be; None to compare
            what the searches left.
        executor: of the relaxations.
        watch: told the number of structures that were relaxed again, now and then.

    Raises:
        UsageError: a folder holds no searches that are read, or they had another potential.
        PigenError: a manifest or a decided.json is damaged.
    """
    read = {folder: read_outcomes(folder, as_left=True) for folder in folders}
    if potential is not None:
        waiting = [
            one
            for folder, (_, outcomes) in read.items()
            for o in outcomes
            for one in undecided(folder / o.composition.folder, o.seeded, o.unseeded)
        ]
        if waiting:
            decide(waiting, potential(), executor, watch)
        read = {folder: read_outcomes(folder) for folder in folders}
    return [
        Collected(folder, experiment, outcomes, minima(outcomes, libraries, reference))
        for folder, (experiment, outcomes) in read.items()
    ]
