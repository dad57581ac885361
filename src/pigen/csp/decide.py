"""The energies that decide columns a, b and e, relaxed again alike before they are compared.

A search relaxes to 0.05 eV/Å, where two optimisers leave one structure 2 meV/atom apart, and a
structure that keeps a symmetry may have stopped 50 meV/atom up, on a saddle point. So the lowest
structures of each kind are rattled and relaxed to 0.01 eV/Å by one optimiser. What that gave stands
in decided.json in the composition's folder, by the hash of the structure's file, and is read from
there by whoever counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.csp.cells import RATTLE
from pigen.csp.results import Search, Step, read_structure_text, text_of
from pigen.energy.elsewhere import Relaxing
from pigen.energy.minimise import rattled
from pigen.energy.potential import Potential
from pigen.runtime.checked import read_checked
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import map_ordered
from pigen.runtime.files import write_atomically

FMAX, STEPS = 0.01, 1000
"""eV/Å and evaluations of the relaxations that decide."""
CLOSE = 5e-3
"""eV/atom above the lowest of its kind: a structure as near may turn out to be the lowest."""
APART = 1e-3
"""eV/atom: of structures nearer to each other than this, one is relaxed again."""
MOST = 3
"""Structures of each kind that are relaxed again."""
DECIDED = "decided.json"
_BATCH = 16


@dataclass(frozen=True)
class Decided:
    """What decided.json holds.

    Attributes:
        potential: of the energies.
        fmax: eV/Å, to which the structures were relaxed.
        energies: SHA-256 of a structure's file → energy after it was relaxed again, eV/atom.
    """

    potential: str = ""
    fmax: float = FMAX
    energies: Mapping[str, float] = field(default_factory=dict)


def deciding(seeded: Search, unseeded: Search) -> list[tuple[Search, Step]]:
    """The relaxations whose energies decide: the lowest ones of each kind.

    The seeds; the lowest that each search made itself; the lowest of the seeded search's initial
    pool without the seeds.
    """
    found: dict[tuple[Path, str], tuple[Search, Step]] = {}
    for search in (seeded, unseeded):
        own = [step for step in search.steps if not search.is_seed(step)]
        seeds = [step for step in search.steps if search.is_seed(step)]
        starts = [step for step in own if step.initial] if seeds else []
        for steps in (own, seeds, starts):
            for step in _lowest(steps):
                found[search.folder, step.file] = (search, step)
    return list(found.values())


def _lowest(steps: Iterable[Step]) -> list[Step]:
    chosen: list[Step] = []
    for step in sorted(steps, key=lambda one: one.energy):
        if math.isinf(step.energy) or len(chosen) == MOST:
            break
        if chosen and step.energy > chosen[0].energy + CLOSE:
            break
        if not chosen or step.energy > chosen[-1].energy + APART:
            chosen.append(step)
    return chosen


def with_decided(folder: Path, seeded: Search, unseeded: Search) -> tuple[Search, Search, bool]:
    """Both searches of a composition with the energies of its decided.json, and whether they have.

    All that decide are there and of the potential of the searches, or none is taken: an energy
    relaxed further is not compared with one that was not.

    Raises:
        PigenError: the file is damaged.
    """
    decided = _read(folder)
    which = deciding(seeded, unseeded)
    energies = {
        (search.folder, step.file): decided.energies.get(_hash_of(search, step) or "", math.nan)
        for search, step in which
    }
    fits = all(search.potential in ("", decided.potential) for search, _ in which)
    if not (which and fits and all(map(math.isfinite, energies.values()))):
        return seeded, unseeded, False
    first, second = (
        replace(
            search,
            steps=tuple(
                replace(step, decided=energies.get((search.folder, step.file)))
                for step in search.steps
            ),
        )
        for search in (seeded, unseeded)
    )
    return first, second, True


@dataclass(frozen=True, eq=False)
class Undecided:
    """A structure to relax again.

    Attributes:
        folder: of its composition.
        key: SHA-256 of its file.
        energy: eV/atom that its search left.
        potential: of that energy, as `Search.potential`.
        crystal: the structure.
    """

    folder: Path
    key: str
    energy: float
    potential: str
    crystal: Crystals


def undecided(folder: Path, seeded: Search, unseeded: Search) -> list[Undecided]:
    """What decides of a composition and is not in its decided.json; PigenError if it is damaged."""
    decided, found = _read(folder), []
    for search, step in deciding(seeded, unseeded):
        text = text_of(search.folder / "structures" / step.file)
        crystal = None if text is None else read_structure_text(text)
        key = _hash_of(search, step)
        known = key in decided.energies and search.potential in ("", decided.potential)
        if crystal is not None and key is not None and not known:
            found.append(Undecided(folder, key, step.energy, search.potential, crystal))
    return found


def decide(
    waiting: Sequence[Undecided],
    potential: Potential,
    executor: Executor,
    watch: Callable[[int], object] = lambda n: None,
) -> None:
    """Relax again, and write decided.json.

    A structure that does not converge keeps the energy that its search gave it.

    Args:
        waiting: from `undecided`.
        potential: of the energies; one that pickles where the executor has other processes.
        executor: of the relaxations.
        watch: told the number of structures after each batch.

    Raises:
        UsageError: a search had another potential.
    """
    for one in waiting:
        if one.potential not in ("", potential.name):
            raise UsageError(
                f"{one.folder}: its searches have energies of {one.potential}, not of "
                f"{potential.name}; give --model, or --as-left to relax nothing again"
            )
    batches = [waiting[i : i + _BATCH] for i in range(0, len(waiting), _BATCH)]
    crystals = (Crystals.concatenate([_off(one) for one in batch]) for batch in batches)
    relaxing = Relaxing(potential, FMAX, STEPS)
    for batch, relaxed in zip(batches, map_ordered(executor, relaxing, crystals), strict=True):
        for one, done in zip(batch, relaxed, strict=True):
            energy = done.energy if done.converged else one.energy
            _add(one.folder, potential.name, {one.key: energy})
        watch(len(batch))


def _off(one: Undecided) -> Crystals:
    """The structure off its symmetry, by the same rattle wherever and whenever."""
    return rattled(one.crystal, RATTLE, np.random.default_rng(int(one.key[:16], 16)))


def _read(folder: Path) -> Decided:
    path = folder / DECIDED
    if not path.is_file():
        return Decided()
    decided = read_checked(Decided, path, otherwise="")
    return decided if decided.fmax == FMAX else Decided()


def _add(folder: Path, potential: str, found: Mapping[str, float]) -> None:
    known = _read(folder)
    before = known.energies if known.potential == potential else {}
    text = json.dumps(asdict(Decided(potential, FMAX, {**before, **found})), indent=1)
    write_atomically(folder / DECIDED, text + "\n")


def _hash_of(search: Search, step: Step) -> str | None:
    text = text_of(search.folder / "structures" / step.file)
    return None if text is None else sha256(text.encode()).hexdigest()
