"""M_LED: ours against matminer and CrystalNN site by site, on the same structures.

    python benchmarks/descriptors.py [--data ../shared/data] [--n 1000] [--set mp20/test]

Both get structures in memory and look for the standardised primitive cell themselves. Prints CPU
seconds per structure on one core, the ratio, the agreement, and every structure that differs with
its motifs. The baseline takes about half a second a structure. (SPP: benchmarks/spp.py.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1] / "tests" / "support")
)  # the baseline lives there

from reference_mled import ReferenceMled, reference_mled

from pigen.crystal.crystals import Crystals
from pigen.descriptors import get_descriptor
from pigen.io import read

T = TypeVar("T")
TOLERANCE = 1e-3  # bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--n", type=int, default=1000, help="structures")
    parser.add_argument("--set", default="mp20/test", help="CSV under --data, without .csv.gz")
    args = parser.parse_args()
    crystals = read(args.data / f"{args.set}.csv.gz").crystals[: args.n]
    n = len(crystals)
    m_led = get_descriptor("mled")
    started = time.process_time()
    m_led(crystals[:2])
    print(f"M_LED on {n} structures of {args.set}")
    print(f"  first call  {time.process_time() - started:.1f} s (compiles, or loads the cache)")
    slow, expected = timed(partial(baseline, crystals))
    fast, evaluated = timed(partial(m_led, crystals), repeat=5)
    print(f"  baseline    {slow / n:.2e} s/structure")
    print(f"  pigen       {fast / n:.2e} s/structure   ratio {slow / fast:.0f}")
    found = evaluated.values["mled"]
    values = np.array([one.mled for one in expected])
    # Where the published list has none of the elements neither side has a value.
    same = (np.abs(found - values) < TOLERANCE) | (np.isnan(found) & np.isnan(values))
    print(f"  equal within {TOLERANCE} bits: {same.sum()} of {n} ({same.mean():.2%})")
    for i in np.flatnonzero(~same):
        atoms = slice(*crystals.ptr[i : i + 2])
        ours = site_motifs(crystals.atomic_numbers[atoms], evaluated.values["motif"][atoms])
        theirs = site_motifs(expected[i].numbers, expected[i].motifs)
        print(f"    structure {i}: {found[i]:.4f}, baseline {values[i]:.4f}")
        print(f"      (element, motif): {ours - theirs}, baseline {theirs - ours}")


def baseline(crystals: Crystals) -> list[ReferenceMled]:
    return [reference_mled(structure) for structure in crystals.to_pymatgen()]


def timed(work: Callable[[], T], repeat: int = 1) -> tuple[float, T]:
    """Least CPU time of some runs, and the last result."""
    times = []
    for _ in range(repeat):
        started = time.process_time()
        result = work()
        times.append(time.process_time() - started)
    return min(times), result


def site_motifs(numbers: np.ndarray, motifs: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(numbers.tolist(), motifs.tolist(), strict=True))


if __name__ == "__main__":
    main()
