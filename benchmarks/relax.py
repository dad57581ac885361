"""Relaxation: ours against chgnet's StructOptimizer, on the same structures to the same fmax.

    python benchmarks/relax.py [SRC] [--n 100] [--fmax 0.05] [--baseline baseline.json]

Without SRC, candidates sampled by the shipped model that pass filters A–D; with it, the first
structures of any source. Times are process times on one thread, loading excluded. The baseline
takes about ten minutes for 100 structures: it is kept, structure by structure, in the file that
--baseline names, and what is there is not computed again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from pigen.bundle import Bundle, strings
from pigen.config import load_experiment
from pigen.crystal.crystals import Crystals
from pigen.energy import CHGNetPotential, relax
from pigen.io import read
from pigen.model.checkpoint import load_checkpoint
from pigen.model.request import plan
from pigen.model.sample import sample
from pigen.runtime.resources import find_checkpoint
from pigen.screening.criteria import paper_criteria
from pigen.screening.filter import FilterStage

MAX_STEPS = 500
SAME = 2e-3  # eV/atom


def candidates(n: int) -> Crystals:
    """The first n samples of the shipped experiment that pass A–D."""
    config = load_experiment("pigen_mled_c", [f"sample.n={2 * n}", "seed=7"])
    model, header = load_checkpoint(find_checkpoint(config.sample.checkpoint), torch.device("cpu"))
    kept: list[Crystals] = []
    criteria = paper_criteria(config.filter)
    stage, first = FilterStage(criteria), 0
    while sum(map(len, kept)) < n:
        plans = [plan(i, config.seed, config.sample, header) for i in range(first, first + 64)]
        drawn = sample(model, header, config.sample, plans)
        chunk = Bundle(crystals=drawn, ids=strings(str(one.index) for one in plans))
        kept += [one.crystals for one in stage.over([chunk])]
        first += 64
    return Crystals.concatenate(kept)[:n]


def by_chgnet(crystals: Crystals, fmax: float, kept: Path | None) -> list[dict[str, float]]:
    """Seconds, steps and final eV/atom of each structure relaxed by StructOptimizer (FIRE)."""
    from chgnet.model.dynamics import StructOptimizer

    stored: dict[str, dict[str, float]] = {}
    if kept is not None and kept.exists():
        stored = json.loads(kept.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = StructOptimizer(use_device="cpu")
    results = []
    for crystal in crystals:
        parts = (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, np.array(fmax))
        key = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
        if key not in stored:
            (structure,) = crystal.to_pymatgen()
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = optimizer.relax(structure, fmax=fmax, steps=MAX_STEPS, verbose=False)
            seconds = time.process_time() - start
            path = done["trajectory"]
            energy = float(path.energies[-1]) / len(structure)
            stored[key] = {"seconds": seconds, "steps": len(path), "energy": energy}
            if kept is not None:
                kept.write_text(json.dumps(stored))
        results.append(stored[key])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--baseline", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    crystals = read(args.source).crystals[: args.n] if args.source else candidates(args.n)
    potential = CHGNetPotential("cpu")
    relax(crystals[:1], potential, fmax=args.fmax, max_steps=2)  # compiles
    start = time.process_time()
    found = relax(crystals, potential, fmax=args.fmax, max_steps=MAX_STEPS)
    ours = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n_steps = np.array([one.n_steps for one in found])
    energy = np.array([one.energy for one in found])
    print(f"{len(crystals)} structures, {crystals.n_atoms.mean():.1f} atoms on average")
    print(
        f"ours: {ours / len(found):.3f} core-s and {n_steps.mean():.1f} evaluations a structure, "
        f"{sum(one.converged for one in found)} converged, at most {memory:.0f} MiB"
    )
    baseline = by_chgnet(crystals, args.fmax, args.baseline)
    theirs = sum(one["seconds"] for one in baseline)
    above = energy - np.array([one["energy"] for one in baseline])
    print(
        f"StructOptimizer: {theirs / len(baseline):.3f} core-s and "
        f"{np.mean([one['steps'] for one in baseline]):.1f} steps a structure"
    )
    print(f"{theirs / ours:.1f} times the structures per core-second")
    print(
        f"final energy at most 2 meV/atom above: {100 * np.mean(above <= SAME):.0f} %; "
        f"more than 2 meV/atom below: {100 * np.mean(above < -SAME):.0f} %; "
        f"mean difference {1e3 * np.nanmean(above):.1f} meV/atom"
    )


if __name__ == "__main__":
    main()
