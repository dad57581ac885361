"""Energies above the shipped hull: against published ones, and how fast.

    python benchmarks/hull.py [--data ../shared/data] [--reference FOLDER]

Entries of mp20/test were relaxed from their own geometry when the reference was built; their
energies above its hull are compared with the column e_above_hull (DFT, the whole Materials
Project). The same comparison with the published formation energies in place of CHGNet's tells what
comes of the hull's missing phases alone. Then 10,000 compositions that no entry has are timed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.crystals import reduced_formula
from pigen.elements import SYMBOLS, Z_OF
from pigen.hull import Hull, Reference, load_reference
from pigen.hull.reference import Entry
from pigen.read import read

SPLITS = ("train", "val", "test")


def compare(name: str, found: NDArray[np.float64], published: NDArray[np.float64]) -> None:
    """Print how far energies above the hull (eV/atom) lie from the published ones."""
    have = ~np.isnan(found)
    n, found, published = len(found), found[have], published[have]
    error = 1000 * (found - published)
    near = published <= 0.025
    kept = (found[near] <= 0.050).sum()
    on_hull = [f"{100 * (values < 1e-6).mean():.1f} %" for values in (found, published)]
    print(
        f"{name}, {len(found)} of {n} structures (meV/atom): mean absolute error "
        f"{abs(error).mean():.1f}, median {np.median(abs(error)):.1f}, mean error "
        f"{error.mean():+.1f}\n"
        f"  of {near.sum()} published at ≤ 25, {kept} ({100 * kept / near.sum():.1f} %) stay ≤ 50; "
        f"on the hull {on_hull[0]}, published {on_hull[1]}"
    )


def of_published(data: Path) -> NDArray[np.float64]:
    """Energies above the hull of mp20/test from the published formation energies alone."""
    entries = [Entry(f"{symbol}1", 0.0, symbol) for symbol in SYMBOLS[1:]]
    for split in SPLITS:
        bundle = read(data / "mp20" / f"{split}.csv.gz")
        energies = bundle.columns["formation_energy_per_atom"].values
        formulas = bundle.crystals.reduced_formulas()
        rows = zip(formulas, energies, bundle.ids, strict=True)
        entries += [Entry(formula, e, i) for formula, e, i in rows if e == e]
    hull = Hull(Reference(tuple(entries), "", ""))
    return hull.above(formulas, energies)[0]


def random_formulas(n: int, elements: list[str], seed: int = 0) -> list[str]:
    """Compositions of two to five elements, up to 20 atoms."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < n:
        chosen = rng.choice(elements, rng.integers(2, 6), replace=False)
        counts = rng.integers(1, 7, len(chosen))
        if counts.sum() <= 20:
            numbers = np.repeat([Z_OF[symbol] for symbol in chosen], counts)
            found.append(reduced_formula(numbers.astype(np.uint8)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--reference", type=Path, help="instead of the shipped one")
    args = parser.parse_args()
    reference = load_reference(args.reference)
    print(f"hull of {reference.note}")

    test = read(args.data / "mp20" / "test.csv.gz")
    published = test.columns["e_above_hull"].values
    energy_of = {entry.id: entry.energy for entry in reference.entries}
    energies = np.array([energy_of.get(i, np.nan) for i in test.ids])
    above = Hull(reference).above(test.crystals.reduced_formulas(), energies)[0]
    compare("CHGNet, relaxed", above, published)
    compare("published formation energies", of_published(args.data), published)

    elements = sorted({e.formula[:-1] for e in reference.entries} & set(SYMBOLS[1:]))
    formulas = random_formulas(10_000, elements)
    started = time.process_time()
    _, reasons = Hull(reference).above(formulas, np.zeros(len(formulas)))
    seconds = time.process_time() - started
    print(
        f"{len(formulas)} compositions in {len({_system(f) for f in formulas})} chemical systems: "
        f"{seconds:.1f} s of CPU, {(reasons != '').sum()} without a hull"
    )


def _system(formula: str) -> str:
    return "".join(c if c.isalpha() else " " for c in formula)


if __name__ == "__main__":
    main()
