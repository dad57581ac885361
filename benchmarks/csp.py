"""The embedded basin hopper: relaxations until it finds known ground states, before and after.

    python benchmarks/csp.py [--seeds 5] [--most 24] [--pool 12] [--log csp.jsonl] [--only MgO]...

Unseeded searches of compounds of 2 to 20 atoms in the cell, with the hopper as it is ("after") and
as it was ("before": random cells of PyXtal, space groups all alike, moves drawn by fixed weights,
one at a time), under way in one process and one batch. --versions fixed single: what is without the
bandit, and without rounds; seeded: with 20 structures that the model generated before the pool.
Frameworks of the compound itself, in any polymorph, are left out of the library of templates: those
of other compounds are what a search may know.

A relaxation is one structure relaxed to 0.05 eV/Å, in 300 steps at most. A search ends when it has
found what is known, or after --most relaxations, of which --pool are its initial pool. The pool,
whose cells don't depend on each other, is relaxed one by one; in the rounds after it those up to
the structure found are counted, though the rest is relaxed beside it. Found is a structure within
1 meV/atom of the lowest known polymorph relaxed with the same potential (TiO2: 20, of anatase),
that fits one of them by pymatgen's matcher; or one that lies further below all of them. No
polymorph of the garnet's composition has 20 atoms: there it is what any of the searches has found
lowest, to 10 meV/atom, and each does all its relaxations.

A search that ends is a line of the log. The command given again goes on with what is missing. Seeds
begin one after the other, and only those that are whole are in the table: what ends early is lucky.
The baseline of speed is FUSE's 3 to 5 s a relaxation, of cells of 2 to 8 atoms on one thread; times
are CPU time of the process, the making of cells included.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from tqdm import tqdm

from hopper_before import FixedWeights, NoFrameworks, pyxtal_cell
from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import primitive_cells
from pigen.crystal.template_library import TemplateLibrary
from pigen.csp import hopper as hopping
from pigen.csp import moves
from pigen.csp.cells import sorted_atoms
from pigen.csp.hopper import BATCH, Hopper, Plan, Trial
from pigen.csp.run import judged
from pigen.csp.select import seeds
from pigen.energy.hull.diagram import hull_energies
from pigen.energy.potential import Potential, load_potential
from pigen.energy.relax import Relaxed, Relaxer, relax
from pigen.model import template_prior
from pigen.model.sample import sample_in_memory
from pigen.model.template_prior import Relatives
from pigen.run.predict import sampling
from pigen.runtime.resources import find_checkpoint
from polymorphs import GARNET, POLYMORPHS

FUSE_SECONDS = (3.0, 5.0)
NEAR = {"TiO2": 20e-3, "Y3Al5O12": 10e-3}  # eV/atom, else:
NEAR_ELSE = 1e-3
VERSIONS = {
    "before": (),
    "after": ("cells", "bandit", "rounds"),
    "fixed": ("cells", "rounds"),
    "single": ("cells", "bandit"),
    "seeded": ("cells", "bandit", "rounds", "seeds"),
}
"""What of the hopper as it is a version has."""
SEEDS = 20
UNDER_WAY, MAX_ATOMS, MAX_STEPS = 40, 600, 300


def elements_of(formula: str) -> dict[str, int]:
    return {symbol: int(n) for symbol, n in sorted(Composition(formula).get_el_amt_dict().items())}


# -- versions -------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def of_others(
    library: TemplateLibrary, formula: tuple[tuple[int, int], ...], units: tuple[int, ...]
) -> Relatives:
    """The relatives of a composition without its own known structures, which are to be found."""
    found, elements = RELATIVES(library, formula, units), {z for z, _ in formula}
    rows = np.unique(found.row)
    own = [row for row in rows.tolist() if set(library.elements(row).tolist()) == elements]
    kept = ~np.isin(found.row, own)
    ways = (found.row[kept], found.old[kept], found.new[kept], found.unlikeliness[kept])
    return Relatives(*ways, found.others, found.n_templates)


RELATIVES = template_prior._relatives


@contextmanager
def as_of(version: str) -> Iterator[None]:
    """The parts of a version in their places."""
    with ExitStack() as stack:
        if "bandit" not in VERSIONS[version]:
            stack.enter_context(patch.object(hopping, "Bandit", FixedWeights))
        if "cells" not in VERSIONS[version]:
            stack.enter_context(patch.object(hopping, "Frameworks", NoFrameworks))
            stack.enter_context(patch.object(hopping, "random_cell", pyxtal_cell))
            stack.enter_context(patch.object(moves, "random_cell", pyxtal_cell))
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


def sampled(formula: str, seed: int) -> tuple[Crystals, ...]:
    """What `pigen csp-seed --composition` gives a search: generated structures, unrelaxed."""
    units = range(1, POLYMORPHS[formula][0] // sum(elements_of(formula).values()) + 1)
    base = sampling(SEEDS, units, overrides=[f"seed={seed}"])
    asked = replace(base, name=formula, sample=replace(base.sample, composition=formula))
    drawn = sample_in_memory(asked, find_checkpoint(base.sample.checkpoint))
    taken = seeds(drawn, np.arange(len(drawn)), lambda name, why: None, fuse=True, each=SEEDS)
    return tuple(sorted_atoms(primitive_cells(one.cell)[0]) for one in taken)


class Search:
    """One search, its hopper led by hand: relaxations are told when its round is whole."""

    def __init__(
        self, key: tuple[str, str, int], most: int, pool: int, target: Target | None
    ) -> None:
        """Nothing relaxed yet; the key is compound, version and number of the search."""
        self.key, self.most, self.pool, self.target = key, most, pool, target
        formula, self.version, seed = key
        plan = Plan(
            elements=elements_of(formula),
            max_atoms=POLYMORPHS[formula][0],
            seeds=sampled(formula, seed) if "seeds" in VERSIONS[self.version] else (),
            n_random=pool,
            rmax=most,
            iterations=most,
            random_seed=1000 + seed,
            batch=BATCH if "rounds" in VERSIONS[self.version] else 1,
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
        """The next structure of the initial pool, none of which depends on another; then rounds."""
        slot, pool = self.hopper.n_told, self.hopper.plan.n_initial
        with as_of(self.version):
            self._trials = [self.hopper.start(slot)] if slot < pool else self.hopper.propose()
        self._relaxed = {}
        return self._trials

    def take(self, place: int, relaxed: Relaxed) -> bool:
        """Whether what was proposed is relaxed; then it has been told."""
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
            "pool": self.pool,
            "found": self.found,
            "lowest_known": self.target.lowest if self.target else None,
            "energies": self.energies,
            "moves": self.moves,
            "steps": self.steps,
        }


def search(waiting: Iterator[Search], n_searches: int, potential: Potential, log: Path) -> None:
    """Do the searches, some at a time, in one batch."""
    relaxer = Relaxer(potential, fmax=0.05, max_steps=MAX_STEPS, max_atoms=MAX_ATOMS)
    going: dict[tuple[str, str, int], Search] = {}

    def submit(one: Search) -> None:
        for place, trial in enumerate(one.propose()):
            relaxer.add((one.key, place), trial.crystal)

    start, n = time.process_time(), 0
    with tqdm(total=n_searches, unit="search", delay=1.0) as bar:
        while True:
            for one in islice(waiting, UNDER_WAY - len(going)):
                going[one.key] = one
                submit(one)
            if not going:
                return
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


def table(lines: list[dict[str, Any]], versions: list[str]) -> str:
    """Relaxations by compound and version; the ratio is of the first and the last version."""
    lowest = min((min(one["energies"]) for one in lines if one["key"][0] == GARNET), default=0.0)
    heads = "".join(f"| {version} | relaxations " for version in versions)
    rows = [f"| compound | atoms {heads}| ratio |", "|---" * (3 + 2 * len(versions)) + "|"]
    logs, lost = [], Counter[str]()
    for formula, (atoms, _) in POLYMORPHS.items():
        row, means = f"| {formula} | {atoms} ", []
        for version in versions:
            own = [one for one in lines if one["key"][:2] == [formula, version]]
            if not own:
                break
            found = [until(one, lowest) for one in own]
            hits = sorted(n for n in found if n is not None)
            counted = [n or one["most"] for n, one in zip(found, own, strict=True)]
            shown = ", ".join([*map(str, hits), *["–"] * (len(own) - len(hits))])
            row += f"| {len(hits)} of {len(own)} | {shown} "
            means.append(math.exp(np.mean(np.log(counted))))
            lost[version] += len(own) - len(hits)
        if len(means) == len(versions):
            logs.append(math.log(means[0] / means[-1]))
            rows.append(f"{row}| {means[0] / means[-1]:.2f} |")
    if logs:
        error = np.std(logs, ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
        factor = math.exp(np.mean(logs))
        missed = ", ".join(f"{lost[version]} of {version}" for version in versions)
        rows.append(
            f"\nfewer relaxations by {factor:.2f}, geometric mean over {len(logs)} compounds (one "
            f"standard error: {factor * math.exp(-error):.2f} to {factor * math.exp(error):.2f}); "
            f"a search that found nothing ({missed}) counts as one that found it last"
        )
    return "\n".join(rows)


def whole_seeds(lines: list[dict[str, Any]], names: list[str], versions: list[str]) -> list[Any]:
    """The lines of the seeds of which every search has ended: the others tell of the quick ones."""
    done = {tuple(line["key"]) for line in lines}
    seeds = {seed for *_, seed in done}
    whole = {s for s in seeds if all((f, v, s) in done for f in names for v in versions)}
    return [
        line
        for line in lines
        if line["key"][0] in names and line["key"][1] in versions and line["key"][2] in whole
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="searches for each compound")
    parser.add_argument("--most", type=int, default=24, help="relaxations of a search")
    parser.add_argument("--pool", type=int, default=12, help="of these in the initial pool")
    parser.add_argument("--log", type=Path, default=Path("csp.jsonl"))
    parser.add_argument("--only", action="append", choices=list(POLYMORPHS))
    parser.add_argument(
        "--versions", nargs="+", choices=list(VERSIONS), default=["before", "after"]
    )
    args = parser.parse_args()
    with patch.object(template_prior, "_relatives", of_others):
        measure(parser, args)


def measure(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What is asked for."""
    names = args.only or list(POLYMORPHS)
    lines = [json.loads(line) for line in args.log.open()] if args.log.exists() else []
    if any((line["most"], line["pool"]) != (args.most, args.pool) for line in lines):
        parser.error(f"{args.log} holds searches with another --most or --pool; name another --log")
    done = {tuple(line["key"]) for line in lines}
    keys = [(f, v, seed) for seed in range(args.seeds) for f in names for v in args.versions]
    missing = [key for key in keys if key not in done]
    if missing:
        potential = load_potential(device="cpu")
        targets = {name: Target.of(name, potential) for name in {key[0] for key in missing}}
        waiting = (Search(key, args.most, args.pool, targets[key[0]]) for key in missing)
        search(waiting, len(missing), potential, args.log)
        lines = [json.loads(line) for line in args.log.open()]
    lines = whole_seeds(lines, names, args.versions)
    print(table(lines, args.versions))
    if not lines:
        return
    total, spent = (sum(line[key] for line in lines) for key in ("relaxed", "cpu_s"))
    slow, fast = (seconds * total / spent for seconds in reversed(FUSE_SECONDS))
    print(
        f"\n{spent / total:.2f} CPU s a relaxation, {3600 * total / spent:.0f} an hour of one core "
        f"({total} in {spent:.0f} s); {fast:.0f} to {slow:.0f} times FUSE's"
    )


if __name__ == "__main__":
    main()
