"""`pigen match`: candidates against known structures, in processor time and by the clock.

    python benchmarks/match.py [--data ../shared/data] [--n 10000] [--known 27000] [--workers 2]

Known are the structures of mp20 and, to fill up, copies of them with atoms moved by some 0.1 Å.
Candidates are, in equal parts, what other generators made, most of it of compositions that are not
known, and known structures with atoms moved likewise, which are the dear ones: each is compared.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from pigen.bundle import Bundle, divide, strings
from pigen.crystal.crystals import Crystals, wrap
from pigen.io import read
from pigen.runtime.executor import Where, open_executor
from pigen.screening.match import match

REAL = ("mp20/train", "mp20/extra", "mp20/val", "mp20/test")
GENERATED = ("generated/cdvae", "generated/llama2_7b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--n", type=int, default=10_000, help="candidates")
    parser.add_argument("--known", type=int, default=27_000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    real = structures(args.data, REAL, args.known)
    copies = moved(real[: max(args.known - len(real), 0)], rng)
    known = named(Crystals.concatenate([real, copies]), "known")
    generated = structures(args.data, GENERATED, args.n // 2)
    chosen = rng.permutation(len(real))[: args.n - len(generated)]
    candidates = named(Crystals.concatenate([generated, moved(real[chosen], rng)]), "candidate")
    with open_executor(Where(workers=1)) as executor:
        match(candidates.select(slice(-4, None)), [known], executor)  # compiled before the clock
    before, started = processor_time(), time.monotonic()
    with open_executor(Where(workers=args.workers)) as executor:
        _, counts = match(candidates, divide(known, 250), executor)
    took = time.monotonic() - started
    print(f"{len(candidates)} candidates, {len(known)} known, {args.workers} workers")
    print(f"  {took:.0f} s by the clock, {processor_time() - before:.0f} s of processor time")
    for kind, n in counts.items():
        print(f"  {n:6d}  {kind}")


def structures(data: Path, names: tuple[str, ...], most: int) -> Crystals:
    parts: list[Crystals] = []
    for name in names:
        if sum(map(len, parts)) < most:
            parts.append(read(data / f"{name}.csv.gz").crystals)
    return Crystals.concatenate(parts)[:most]


def named(crystals: Crystals, prefix: str) -> Bundle:
    return Bundle(crystals=crystals, ids=strings(f"{prefix}-{i}" for i in range(len(crystals))))


def moved(crystals: Crystals, rng: np.random.Generator) -> Crystals:
    """The crystals with every atom moved by 0.1 Å or so."""
    lengths = np.linalg.norm(crystals.lattice, axis=2)[crystals.batch]
    frac = crystals.frac_coords + 0.06 * rng.normal(size=lengths.shape) / lengths
    return Crystals(
        lattice=crystals.lattice,
        frac_coords=wrap(frac),
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def processor_time() -> float:
    """Seconds of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
