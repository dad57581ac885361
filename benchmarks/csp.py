"""The embedded basin hopper: relaxations until it finds known ground states, before and after.

    python benchmarks/csp.py [--seeds 5] [--most 80] [--log csp.jsonl] [--only MgO]...

Unseeded searches of compounds of 2 to 20 atoms in the cell, each with the hopper as it is ("after")
and as it was ("before": moves drawn by fixed weights, one at a time, space groups of random cells
all alike), under way in one process and one batch. A search ends when it has found what is known,
or after --most relaxations. Found is a structure within 1 meV/atom of the lowest known polymorph
relaxed with the same potential (TiO2: 20, of anatase), that fits one of them by pymatgen's matcher;
or one that lies further below all of them. No polymorph of the garnet's composition has 20 atoms:
there it is what any of the searches has found lowest, to 10 meV/atom, and each does --most-garnet
relaxations.

    python benchmarks/csp.py --starts 20 [--only MgO]...

counts how many of so many random cells relax to what is known, for both versions: what a search
has from its initial pool, at little cost.

A search that ends is a line of the log. The command given again goes on with what is missing, and
prints the table of what is there. The baseline of speed is FUSE's 3 to 5 s a relaxation, of cells
of 2 to 8 atoms on one thread; times are CPU time of the process, the making of cells included.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.random import Generator
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from tqdm import tqdm

from pigen.crystal.crystals import Crystals
from pigen.csp import hopper as hopping
from pigen.csp import moves
from pigen.csp.cells import COMPACTNESS, formula_units, random_cell, symmetric_cell
from pigen.csp.hopper import BATCH, Hopper, Plan, Trial
from pigen.csp.run import judged
from pigen.csp.space_groups import group_of
from pigen.energy.hull.lookup import hull_energies
from pigen.energy.potential import Potential, load_potential
from pigen.energy.relax import Relaxed, Relaxer, relax
from polymorphs import GARNET, POLYMORPHS

FUSE_SECONDS = (3.0, 5.0)
NEAR = {"TiO2": 20e-3, "Y3Al5O12": 10e-3}  # eV/atom, else:
NEAR_ELSE = 1e-3
VERSIONS = ("before", "after")
UNDER_WAY, MAX_ATOMS, MAX_STEPS = 20, 600, 300
FIXED = {"rattle": 1.0, "permute": 1.0, "strain": 1.0, "splice": 2.0, "new": 2.0, "double": 0.5}


def elements_of(formula: str) -> dict[str, int]:
    return {symbol: int(n) for symbol, n in sorted(Composition(formula).get_el_amt_dict().items())}


# -- the hopper as it was --------------------------------------------------------------------------
class FixedWeights:
    """In place of the bandit: an order drawn by fixed weights; learns nothing."""

    def __init__(self, expected: object) -> None:
        """Whatever is expected."""

    def order(self, rng: Generator) -> list[str]:
        """All moves."""
        shares = np.array(list(FIXED.values()))
        return list(rng.choice(list(FIXED), len(FIXED), replace=False, p=shares / shares.sum()))

    def learn(self, move: str, gain: float) -> None:
        """Nothing."""


def uniform_cell(elements: dict[str, int], max_atoms: int, rng: Generator) -> Crystals:
    """A random cell of a space group drawn uniformly."""
    units = int(rng.integers(1, formula_units(elements, max_atoms), endpoint=True))
    counts, room = [n * units for n in elements.values()], 1.0
    while True:
        group = group_of(int(rng.integers(2, 230, endpoint=True)))
        found = symmetric_cell(group, elements, counts, rng.uniform(*COMPACTNESS) / room, rng)
        if found is not None:
            return found
        room *= 1.02


@contextmanager
def as_of(version: str) -> Iterator[None]:
    """The parts of a version in their places."""
    if version == "after":
        yield
        return
    with (
        patch.object(hopping, "Bandit", FixedWeights),
        patch.object(hopping, "random_cell", uniform_cell),
        patch.object(moves, "random_cell", uniform_cell),
    ):
        yield


# -- searches --------------------------------------------------------------------------------------
@dataclass
class Target:
    """What is to be found of a compound, None of the garnet."""

    lowest: float
    polymorphs: list[Structure]
    near: float

    @classmethod
    def of(cls, formula: str, potential: Potential) -> Target | None:
        """The known polymorphs, relaxed."""
        known = [
            Structure.from_spacegroup(*one).get_primitive_structure(0.01)
            for one in POLYMORPHS[formula][1]
        ]
        if not known:
            return None
        relaxed = relax(Crystals.from_pymatgen(known), potential, fmax=0.01)
        assert all(one.converged for one in relaxed), formula
        return cls(
            min(one.energy for one in relaxed),
            [one.crystal.to_pymatgen()[0] for one in relaxed],
            NEAR.get(formula, NEAR_ELSE),
        )

    def reached(self, energy: float, crystal: Crystals) -> bool:
        """Whether this is one of them, or lower than all."""
        if energy > self.lowest + self.near:
            return False
        if energy < self.lowest - self.near or self.near > NEAR_ELSE:
            return True
        found = crystal.to_pymatgen()[0]
        return any(StructureMatcher().fit(found, one) for one in self.polymorphs)


class Search:
    """One search, its hopper led by hand: relaxations are told when its round is whole."""

    def __init__(self, key: tuple[str, str, int], most: int, target: Target | None) -> None:
        """Nothing relaxed yet; the key is compound, version and number of the search."""
        self.key, self.most, self.target = key, most, target
        formula, self.version, seed = key
        initial = most // 3
        plan = Plan(
            elements=elements_of(formula),
            max_atoms=POLYMORPHS[formula][0],
            seeds=(),
            n_random=initial,
            rmax=most,
            iterations=most,
            random_seed=1000 + seed,
            batch=BATCH if self.version == "after" else 1,
        )
        with as_of(self.version):
            self.hopper = Hopper(plan)
        hull = hull_energies("chgnet 0.3.0")
        elements = plan.elements
        self.hull = hull("".join(f"{symbol}{n}" for symbol, n in elements.items()))
        self.energies: list[float] = []
        self.moves: list[str] = []
        self.steps = 0
        self.found: int | None = None
        self._trials: list[Trial] = []
        self._relaxed: dict[int, Relaxed] = {}

    def propose(self) -> list[Trial]:
        """The next round."""
        with as_of(self.version):
            self._trials = self.hopper.propose()
        self._relaxed = {}
        return self._trials

    def take(self, place: int, relaxed: Relaxed) -> bool:
        """Whether the round is whole; then it has been told."""
        self._relaxed[place] = relaxed
        if len(self._relaxed) < len(self._trials):
            return False
        for i, trial in enumerate(self._trials):
            energy, crystal, _ = judged(trial, self._relaxed[i], self.hull)
            self.hopper.tell(trial.move, energy, crystal)
            self.energies.append(energy if math.isfinite(energy) else 1e20)
            self.moves.append(trial.move)
            self.steps += self._relaxed[i].n_steps
            if self.found is None and self.target and self.target.reached(energy, crystal):
                self.found = len(self.energies)
        return True

    @property
    def ended(self) -> bool:
        """Whether it has found what is known, or done all its relaxations."""
        return self.found is not None or self.hopper.done

    def line(self) -> dict[str, Any]:
        """For the log."""
        return {
            "key": self.key,
            "most": self.most,
            "found": self.found,
            "lowest_known": self.target.lowest if self.target else None,
            "energies": self.energies,
            "moves": self.moves,
            "steps": self.steps,
        }


def search(waiting: list[Search], potential: Potential, log: Path) -> None:
    """Do the searches, some at a time, in one batch."""
    relaxer = Relaxer(potential, fmax=0.05, max_steps=MAX_STEPS, max_atoms=MAX_ATOMS)
    going: dict[tuple[str, str, int], Search] = {}

    def submit(one: Search) -> None:
        for place, trial in enumerate(one.propose()):
            relaxer.add((one.key, place), trial.crystal)

    start, n = time.process_time(), 0
    with tqdm(total=len(waiting), unit="search", delay=1.0) as bar:
        while waiting or going:
            while waiting and len(going) < UNDER_WAY:
                one = waiting.pop(0)
                going[one.key] = one
                submit(one)
            for done in relaxer.step():
                key, place = done.key  # type: ignore[misc]
                n += 1
                one = going[key]
                if not one.take(place, done):
                    continue
                if not one.ended:
                    submit(one)
                    continue
                del going[key]
                spent, start = time.process_time() - start, time.process_time()
                with log.open("a") as file:
                    file.write(json.dumps({**one.line(), "cpu_s": spent, "relaxed": n}) + "\n")
                n = 0
                bar.update()


# -- the table -------------------------------------------------------------------------------------
def until(line: dict[str, Any], garnet: float) -> int | None:
    """Relaxations until what was to be found."""
    if line["key"][0] != GARNET:
        return line["found"]
    reached = (i for i, e in enumerate(line["energies"], start=1) if e <= garnet + NEAR[GARNET])
    return next(reached, None)


def table(lines: list[dict[str, Any]]) -> str:
    lowest = min((min(one["energies"]) for one in lines if one["key"][0] == GARNET), default=0.0)
    rows = [
        "| compound | atoms | before | relaxations | after | relaxations | ratio |",
        "|---" * 7 + "|",
    ]
    logs = []
    for formula, (atoms, _) in POLYMORPHS.items():
        row, means = f"| {formula} | {atoms} ", []
        for version in VERSIONS:
            own = [one for one in lines if one["key"][:2] == [formula, version]]
            if not own:
                break
            found = [until(one, lowest) for one in own]
            hits = sorted(n for n in found if n is not None)
            mean = math.exp(
                np.mean([math.log(n or one["most"]) for n, one in zip(found, own, strict=True)])
            )
            shown = ", ".join([*map(str, hits), *["–"] * (len(own) - len(hits))])
            row += f"| {len(hits)} of {len(own)} | {shown} "
            means.append(mean)
        if len(means) == 2:
            logs.append(math.log(means[0] / means[1]))
            rows.append(f"{row}| {means[0] / means[1]:.2f} |")
    if logs:
        error = np.std(logs, ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
        factor = math.exp(np.mean(logs))
        rows.append(
            f"\nfewer relaxations by {factor:.2f}, geometric mean over {len(logs)} compounds (one "
            f"standard error: {factor * math.exp(-error):.2f} to {factor * math.exp(error):.2f}); "
            "a search that found nothing counts as one that found it last"
        )
    return "\n".join(rows)


def starts(names: list[str], n: int) -> None:
    """Random cells alone: how many of n relax to what is known, by version."""
    potential = load_potential(device="cpu")
    print("| compound | atoms | before | after |\n|---|---|---|---|")
    for name in names:
        target, atoms = Target.of(name, potential), POLYMORPHS[name][0]
        if target is None:
            continue
        row = f"| {name} | {atoms} "
        for make in (uniform_cell, random_cell):
            cells = [
                make(elements_of(name), atoms, np.random.default_rng([77, k])) for k in range(n)
            ]
            relaxed = relax(Crystals.concatenate(cells), potential, max_steps=MAX_STEPS)
            hits = sum(
                math.isfinite(one.energy) and target.reached(one.energy, one.crystal)
                for one in relaxed
            )
            row += f"| {hits} of {n} "
        print(f"{row}|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="searches for each compound")
    parser.add_argument("--most", type=int, default=80, help="relaxations of a search")
    parser.add_argument("--most-garnet", type=int, default=32, help="the same of the garnet's")
    parser.add_argument("--log", type=Path, default=Path("csp.jsonl"))
    parser.add_argument("--only", action="append", choices=list(POLYMORPHS))
    parser.add_argument("--starts", type=int, help="random cells alone, so many")
    args = parser.parse_args()
    if args.starts:
        starts(args.only or list(POLYMORPHS), args.starts)
        return
    lines = [json.loads(line) for line in args.log.open()] if args.log.exists() else []
    done = {tuple(line["key"]) for line in lines}
    names = args.only or list(POLYMORPHS)
    keys = [(f, v, seed) for seed in range(args.seeds) for f in names for v in VERSIONS]
    keys.sort(key=lambda key: key[0] == GARNET)  # the largest cells last
    missing = [key for key in keys if key not in done]
    if missing:
        potential = load_potential(device="cpu")
        targets = {name: Target.of(name, potential) for name in names}
        most = {name: args.most_garnet if name == GARNET else args.most for name in names}
        search([Search(key, most[key[0]], targets[key[0]]) for key in missing], potential, args.log)
        lines = [json.loads(line) for line in args.log.open()]
    print(table(lines))
    total, spent = (sum(line[key] for line in lines) for key in ("relaxed", "cpu_s"))
    slow, fast = (seconds * total / spent for seconds in reversed(FUSE_SECONDS))
    print(
        f"\n{spent / total:.2f} CPU s a relaxation, {3600 * total / spent:.0f} an hour of one core "
        f"({total} in {spent:.0f} s); {fast:.0f} to {slow:.0f} times FUSE's"
    )


if __name__ == "__main__":
    main()
