"""Do seeded and other searches start alike? Mean energies of their initial pools.

    python benchmarks/equal_starts.py [MgO]... [--starts 48] [--seed 0]

Of each compound both searches that `pigen csp-seed` writes are done by `pigen csp-run` until their
initial pools are relaxed. The seed, a known polymorph, is left out of the mean. Each search draws
from a random seed of its own, as always, so the means differ by chance alone if starts are equal.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from pigen.bundle import Bundle, strings
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import MODES
from pigen.csp.results import read_search
from pigen.csp.run import csp_run
from pigen.csp.seed import csp_seed
from pigen.energy.potential import load_potential
from polymorphs import POLYMORPHS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", default=["MgO"], metavar="compound", help="MgO")
    parser.add_argument("--starts", type=int, default=48, help="random starts of a search")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    known = [Structure.from_spacegroup(*POLYMORPHS[name][1][0]) for name in args.names]
    seeds = Bundle(
        crystals=Crystals.from_pymatgen([one.get_primitive_structure(0.01) for one in known]),
        ids=strings(args.names),
    )
    settings = Settings(rmax=1, initial=args.starts, iterations=args.starts + 3, steps=300)
    request = Request(
        n=len(args.names), choice="random", seed=args.seed, settings=settings, search_atoms=8
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "csp"
        experiment = csp_seed(seeds, request, out)
        csp_run([out], load_potential(device="cpu"))
        print(f"{args.starts} starts, eV/atom; ± one standard error")
        for name in sorted(experiment.compositions):
            print(f"{name}: {', '.join(compared(out / name))}")


def compared(folder: Path) -> list[str]:
    """Mean energies of the random starts of a composition's searches, and how far apart."""
    means, errors, said = [], [], []
    for mode in MODES:
        search = read_search(folder / mode)
        energies = np.array([s.energy for s in search.steps if s.initial and not search.is_seed(s)])
        fine = energies[np.isfinite(energies)]
        means.append(fine.mean())
        errors.append(fine.std(ddof=1) / math.sqrt(len(fine)))
        failed = f", {len(energies) - len(fine)} failed" if len(fine) < len(energies) else ""
        said.append(f"{mode} {means[-1]:.3f} ± {errors[-1]:.3f} ({len(fine)} starts{failed})")
    apart = (means[0] - means[1]) / math.hypot(*errors)
    return [*said, f"{apart:+.1f} errors apart"]


if __name__ == "__main__":
    main()
