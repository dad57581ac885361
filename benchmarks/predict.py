"""Structure prediction: does a sample of a known composition match the known structure?

    python benchmarks/predict.py --data ../shared/data [--n 300] [--samples 1] [--relax]

Structures of mp20/test, none of whose formulas the shipped models saw; the composition and size of
the cell are given. A match is pymatgen's StructureMatcher with ltol 0.3, stol 0.5 and angle_tol 10;
the RMSE is over matches, in units of (V/N)^(1/3). With several samples the best counts; with
``--relax`` they are relaxed with CHGNet too, and the one of the lowest energy alone counts. Beside
the model stands retrieval: the training structure of the same anonymous formula whose elements are
most alike (numbers of Mendeleev), with the elements exchanged and the volume scaled by their radii.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from pigen.bundle import Bundle, strings
from pigen.config import RelaxConfig, SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, atomic_radii, mendeleev_numbers
from pigen.crystal.template_library import TemplateLibrary
from pigen.energy.stage import relax_bundle
from pigen.io import read
from pigen.model.checkpoint import Header, load_checkpoint
from pigen.model.request import check_request, library_of, plan
from pigen.model.sample import sample
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import find_checkpoint

MATCHER = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
SHARPNESS = 4.0
SIZES = ((1, 4), (5, 8), (9, 12), (13, 16), (17, 20))


def formula(crystal: Crystals) -> str:
    """Formula of all atoms of one cell."""
    counts = Counter(crystal.atomic_numbers.tolist())
    return "".join(f"{SYMBOLS[z]}{count}" for z, count in sorted(counts.items()))


def of_model(
    crystals: Crystals, config: SampleConfig, checkpoint: Path, samples: int
) -> list[Crystals]:
    """Samples for the composition of each crystal; none if the model refuses it.

    It does if it doesn't know an element, or if no template can hold so many atoms of each.
    """
    model, header = load_checkpoint(checkpoint, torch.device("cpu"))
    library = library_of(config, checkpoint)
    asked = [replace(config, composition=formula(one)) for one in crystals]
    able = [not refused(one, header, library) for one in asked]
    plans = [
        plan(i * samples + k, 0, one, header, library)
        for i, one in enumerate(asked)
        for k in range(samples)
        if able[i]
    ]
    parts = [sample(model, header, config, plans[i : i + 64]) for i in range(0, len(plans), 64)]
    drawn, first = Crystals.concatenate(parts), samples * (np.cumsum(able) - 1)
    return [drawn[i : i + samples] if a else drawn[:0] for i, a in zip(first, able, strict=True)]


def refused(config: SampleConfig, header: Header, library: TemplateLibrary | None) -> bool:
    """Whether the model can't do what is asked."""
    try:
        check_request(config, header, "", library)
    except UsageError:
        return True
    return False


def lowest(drawn: list[Crystals]) -> list[Crystals]:
    """Of the samples of each composition, relaxed, the one of the lowest energy; none if none."""
    found = []
    for samples in drawn:
        if not len(samples):
            found.append(samples)
            continue
        ids = strings(map(str, range(len(samples))))
        relaxed = relax_bundle(Bundle(crystals=samples, ids=ids), RelaxConfig(rattle=False))
        energy = relaxed.columns["e_relaxed"].values
        usable = np.where(relaxed.columns["converged"].values & np.isfinite(energy), energy, np.inf)
        best = int(np.argmin(usable))
        found.append(relaxed.crystals[best : best + int(np.isfinite(usable[best]))])
    return found


class Retrieval:
    """Training structures by anonymous formula."""

    def __init__(self, crystals: Crystals) -> None:
        """From the training set."""
        self.found: defaultdict[tuple[int, ...], list[tuple[Crystals, dict[int, int]]]]
        self.found = defaultdict(list)
        for one in crystals:
            counts = dict(Counter(one.atomic_numbers.tolist()))
            self.found[tuple(sorted(counts.values()))].append((one, counts))
        self.place = mendeleev_numbers()

    def __call__(self, crystal: Crystals) -> list[Structure]:
        """The most alike one, with the crystal's elements; none if there is no such formula."""
        wanted = dict(Counter(crystal.atomic_numbers.tolist()))
        best: tuple[float, Crystals, Mapping[int, int]] | None = None
        for one, counts in self.found[tuple(sorted(wanted.values()))]:
            for exchanged in exchanges(counts, wanted):
                cost = sum(
                    n * abs(self.place[z] - self.place[exchanged[z]]) for z, n in counts.items()
                )
                if best is None or cost < best[0]:
                    best = (cost, one, exchanged)
        if best is None:
            return []
        _, one, exchanged = best
        numbers = np.array([exchanged[z] for z in one.atomic_numbers.tolist()])
        cubes = np.nan_to_num(atomic_radii(), nan=1.5) ** 3
        scale = (cubes[numbers].sum() / cubes[one.atomic_numbers].sum()) ** (1 / 3)
        return Crystals.single(one.lattice[0] * scale, one.frac_coords, numbers).to_pymatgen()


def exchanges(counts: Mapping[int, int], wanted: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Every way to exchange elements for those wanted, with the same numbers of atoms."""
    sizes = sorted(set(counts.values()))
    choices = []
    for size in sizes:
        old = [z for z, n in counts.items() if n == size]
        new = [z for z, n in wanted.items() if n == size]
        choices.append(
            [list(zip(old, chosen, strict=True)) for chosen in itertools.permutations(new)]
        )
    for way in itertools.product(*choices):
        yield dict(itertools.chain.from_iterable(way))


def best_rms(true: Structure, guesses: list[Structure]) -> float:
    """Least RMS of the guesses that match; infinite if none does."""
    found = (MATCHER.get_rms_dist(true, guess) for guess in guesses if len(guess))
    return min((rms[0] for rms in found if rms is not None), default=np.inf)


def row(name: str, rms: np.ndarray, n_atoms: np.ndarray) -> str:
    """A line of the table."""

    def share(part: np.ndarray) -> str:
        p = np.isfinite(part).mean() if len(part) else np.nan
        return f"{100 * p:.1f} ± {100 * np.sqrt(p * (1 - p) / max(len(part), 1)):.1f}"

    by_size = [share(rms[(n_atoms >= a) & (n_atoms <= b)]) for a, b in SIZES]
    matched = rms[np.isfinite(rms)]
    cells = [name, share(rms), f"{matched.mean():.3f}" if len(matched) else "–", *by_size]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--relax", action="store_true")
    parser.add_argument("--symmetry", nargs="+", default=["free", "training"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--checkpoint", default="pigen")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    checkpoint = find_checkpoint(args.checkpoint)
    test = read(args.data / "mp20/test.csv.gz").crystals
    train = read(args.data / "mp20/train.csv.gz").crystals
    chosen = np.sort(
        np.random.default_rng(0).choice(len(test), min(args.n, len(test)), replace=False)
    )
    crystals = test[chosen]
    true, n_atoms = crystals.to_pymatgen(), crystals.n_atoms
    print(f"{len(crystals)} compositions, {args.samples} samples each, {args.steps} calls a sample")
    sizes = " | ".join(f"{a}–{b} atoms" for a, b in SIZES)
    print(f"| | matched, % | RMSE | {sizes} |\n|{'---|' * (3 + len(SIZES))}")
    retrieval = Retrieval(train)
    rms = np.array([best_rms(t, retrieval(one)) for t, one in zip(true, crystals, strict=True)])
    print(row("retrieval", rms, n_atoms), flush=True)
    for symmetry in args.symmetry:
        start = time.process_time()
        config = SampleConfig(
            symmetry=symmetry, formula_units=1, steps=args.steps, guidance=0.0, sharpness=SHARPNESS
        )
        drawn = of_model(crystals, config, checkpoint, args.samples)
        chosen = {symmetry: drawn}
        if args.relax:
            chosen[f"{symmetry}, lowest in energy"] = lowest(drawn)
        seconds = (time.process_time() - start) / len(crystals)
        for name, guesses in chosen.items():
            rms = [best_rms(t, g.to_pymatgen()) for t, g in zip(true, guesses, strict=True)]
            print(row(name, np.array(rms), n_atoms), flush=True)
        print(f"{symmetry}: {seconds:.2f} s of processor time a composition")


if __name__ == "__main__":
    main()
