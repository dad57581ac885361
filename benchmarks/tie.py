"""How far relaxations of one structure leave its energy apart: what csp-collect --tie stands for.

    python benchmarks/tie.py [--starts 4] [--seed 0]

Every polymorph of benchmarks/polymorphs.py is displaced by 0.1 Å, several times, relaxed to 0.05
eV/Å as a search does it, and again as `pigen csp-collect` does it: displaced by 0.05 Å, to 0.01
eV/Å. The figures are of all pairs of starts of one polymorph, meV/atom.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np
from pymatgen.core import Structure

from pigen.crystal.crystals import Crystals
from pigen.csp.cells import RATTLE, rattled
from pigen.csp.decide import FMAX, STEPS
from pigen.energy.potential import load_potential
from pigen.energy.relax import Relaxed, relax
from polymorphs import POLYMORPHS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    potential, rng = load_potential(device="cpu"), np.random.default_rng(args.seed)
    known = [
        Structure.from_spacegroup(*one).get_primitive_structure(0.01)
        for _, polymorphs in POLYMORPHS.values()
        for one in polymorphs
    ]
    starts = [
        rattled(crystal, 0.1, rng)
        for crystal in Crystals.from_pymatgen(known)
        for _ in range(args.starts)
    ]
    loose = relax(Crystals.concatenate(starts), potential, fmax=0.05, max_steps=750)
    again = Crystals.concatenate([rattled(one.crystal, RATTLE, rng) for one in loose])
    tight = relax(again, potential, fmax=FMAX, max_steps=STEPS)
    print(f"{len(known)} polymorphs, {args.starts} starts each, {potential.name}; meV/atom apart")
    for name, found in (("0.05 eV/Å", loose), (f"{FMAX:g} eV/Å", tight)):
        print(describe(name, found, args.starts))


def describe(name: str, found: list[Relaxed], n_starts: int) -> str:
    """Differences of energy within each polymorph."""
    energies = np.array([one.energy for one in found]).reshape(-1, n_starts)
    apart = 1000 * np.abs([a - b for row in energies for a, b in combinations(row, 2)])
    median, most = np.percentile(apart, [50, 95])
    return (
        f"{name}: median {median:.3f}, 95 % below {most:.3f}, most {apart.max():.3f}; "
        f"{sum(one.converged for one in found)} of {len(found)} converged"
    )


if __name__ == "__main__":
    main()
