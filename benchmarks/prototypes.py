"""Frameworks: ours against pymatgen's matcher over the whole library, on the same structures.

    python benchmarks/prototypes.py [--data ../shared/data] [--n 500] [--naive 25] [--library aflow]

The naive loop, ``StructureMatcher.fit`` of each structure with each framework, both as they come,
takes about a second a structure: it is timed on the first few. On all n the truth is the matcher
over every framework with as many sites, which are the only ones it can fit. Prints CPU seconds per
structure, the ratio and the agreement.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.known import matches, structure_matcher
from pigen.descriptors.prototypes.library import Library, library_file, load_library, match
from pigen.descriptors.prototypes.reduce import matcher_cells, ready
from pigen.io import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--n", type=int, default=500, help="structures of each set")
    parser.add_argument("--naive", type=int, default=25, help="structures of the naive loop")
    parser.add_argument("--library", default="aflow")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        library = load_library(library_file(args.library, Path(folder)))
    for name in ("mp20/test", "generated/cdvae"):
        crystals = read(args.data / f"{name}.csv.gz").crystals[: args.n]
        match(crystals[:5], library)  # compiled and loaded before the clock starts
        fast, found = timed(lambda crystals=crystals: match(crystals, library).ranks)
        few = crystals[: args.naive]
        slow, naive = timed(lambda few=few: over_everything(few, library))
        expected = over_equal_sizes(crystals, library)
        fast, slow = fast / len(crystals), slow / len(few)
        print(f"{name}: {len(crystals)} structures, {len(library)} frameworks of {args.library}")
        print(f"  naive matcher  {slow:.2e} s/structure, on {len(few)}")
        print(f"  pigen          {fast:.2e} s/structure   ratio {slow / fast:.0f}")
        print(f"  verdicts equal to naive on {np.sum(found[: len(few)] == naive)} of {len(few)}")
        equal = np.sum(found == expected)
        print(f"  and to the matcher over equal sizes on {equal} of {len(crystals)}")
        print(f"  of which {np.sum(expected > 0)} have a framework")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time and result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def over_everything(crystals: Crystals, library: Library) -> np.ndarray:
    """Best rank by the matcher on all pairs, 0 for none."""
    frameworks = library.bundle.crystals.to_pymatgen()
    ranks = np.zeros(len(crystals), dtype=int)
    for i, structure in enumerate(crystals.to_pymatgen()):
        fits = [structure_matcher().fit(structure, framework) for framework in frameworks]
        ranks[i] = library.ranks[np.argmax(fits)] if any(fits) else 0
    return ranks


def over_equal_sizes(crystals: Crystals, library: Library) -> np.ndarray:
    """The same, on pairs with equal numbers of sites, each reduced once."""
    frameworks = library.bundle.crystals.to_pymatgen()
    ranks = np.zeros(len(crystals), dtype=int)
    for i, one in enumerate(ready(matcher_cells(crystals)[0])):
        alike = [r for r, f in enumerate(frameworks) if len(f) == len(one.structure)]
        fits = (library.ranks[r] for r in alike if matches(one.structure, frameworks[r]))
        ranks[i] = next(fits, 0)
    return ranks


if __name__ == "__main__":
    main()
