"""Energies above the shipped hull: against published ones, and how fast.

    python benchmarks/hull.py [--data ../shared/data] [--reference FOLDER] [--left-out N]

Entries of mp20/test were relaxed from their own geometry when the reference was built; their
energies above its hull are compared with the column e_above_hull (DFT, the whole Materials
Project). The same comparison with the published formation energies in place of CHGNet's tells what
comes of the hull's missing phases alone. Then 10,000 compositions that no entry has are timed.

--left-out N tests the guesses of `pigen hull build --substitute`: binaries of mp20/test that are
published on the hull are made of the others as if they were missing, and relaxed; N structures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, read_bundle, write_bundle
from pigen.crystal.crystals import reduced_formula
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.energy.hull import Hull, Reference, load_reference
from pigen.energy.hull.fitted import FITTED
from pigen.energy.hull.reference import Entry
from pigen.energy.hull.substitute import SUBSTITUTED, substitutes
from pigen.energy.stage import relax_bundle
from pigen.io import read

SPLITS = ("train", "val", "test")


def compare(name: str, found: NDArray[np.float64], published: NDArray[np.float64]) -> None:
    """Print how far energies above the hull (eV/atom) lie from the published ones."""
    have = ~np.isnan(found)
    n, found, published = len(found), found[have], published[have]
    error = 1000 * (found - published)
    near = published <= 0.025
    kept = (found[near] <= 0.050).sum()
    on_hull = [f"{100 * (values < 1e-6).mean():.1f} %" for values in (found, published)]
    stable = published < 1e-6
    lost = (found[stable] > 0.025).sum()
    print(
        f"{name}, {len(found)} of {n} structures (meV/atom): mean absolute error "
        f"{abs(error).mean():.1f}, median {np.median(abs(error)):.1f}, mean error "
        f"{error.mean():+.1f}\n"
        f"  of {near.sum()} published at ≤ 25, {kept} ({100 * kept / near.sum():.1f} %) stay ≤ 50; "
        f"on the hull {on_hull[0]}, published {on_hull[1]}\n"
        f"  of {stable.sum()} published on the hull, {lost} lie more than 25 above this one"
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


def left_out(reference: Reference, formulas: set[str], n: int) -> None:
    """Print how the energies of guessed binaries compare with those of the given structures."""
    given = [e for e in reference.entries if not e.id.startswith((SUBSTITUTED, FITTED))]
    rest = Reference(tuple(e for e in given if e.formula not in formulas), reference.level, "")
    assert reference.phases is not None
    phases = read_bundle(reference.phases)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phases.h5"
        write_bundle(path, Bundle(crystals=phases.crystals, ids=phases.ids, parents=phases.ids))
        made = substitutes(path, rest, 1_000_000)
    of = np.array(made.crystals.reduced_formulas())
    chosen = np.flatnonzero(np.isin(of, list(formulas)))[:n]
    relaxed = relax_bundle(made.select(chosen))
    guessed: dict[str, float] = {}
    columns = relaxed.columns
    for formula, energy, ok in zip(
        of[chosen], columns["e_relaxed"].values, columns["converged"].values, strict=True
    ):
        if ok:
            guessed[formula] = min(energy, guessed.get(formula, np.inf))
    known = {f: min(e.energy for e in given if e.formula == f) for f in guessed}
    error = np.array([1000 * (guessed[f] - known[f]) for f in guessed])
    print(
        f"{len(chosen)} guesses for {len(guessed)} binaries left out, against the "
        f"given structures (meV/atom): median {np.median(error):+.1f}, within 10 "
        f"{100 * (abs(error) <= 10).mean():.0f} %, more than 10 below "
        f"{100 * (error < -10).mean():.0f} %, more than 50 above {100 * (error > 50).mean():.0f} %"
    )


def random_formulas(n: int, elements: list[str], seed: int = 0) -> list[str]:
    """Compositions of two to five elements, up to 20 atoms."""
    rng = np.random.default_rng(seed)
    found: list[str] = []
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
    parser.add_argument("--left-out", type=int, default=0, metavar="N", help="guesses to test")
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

    if args.left_out:
        formulas = test.crystals.reduced_formulas()
        stable = {f for f, e in zip(formulas, published, strict=True) if e < 1e-6}
        binaries = {f for f in stable if sum(c.isupper() for c in f) == 2}
        left_out(reference, binaries, args.left_out)

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
