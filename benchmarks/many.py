"""Hundreds of thousands of structures: how soon training starts, memory, and `pigen filter`.

    python benchmarks/many.py train.h5 [--structures 600000] [--processes 1 2]
                                       [--filter 100000 200000] [--criteria --min-distance 0.5]

train.h5 is a labelled bundle; its structures are repeated. Training runs until its first step is
done, once for each number of processes. The filter runs in one process, on parts of the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import filter as filtering

BATCH_SIZE = 256
"""Structures in the step that ends the start."""


def main() -> None:
    if sys.argv[1:2] == ["start"]:
        start(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("--structures", type=int, default=600_000)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--filter", type=int, nargs="*", default=[100_000, 200_000])
    parser.add_argument("--criteria", nargs=argparse.REMAINDER, default=["--min-distance", "0.5"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "many.h5")
        if args.processes:
            repeat(args.source, args.structures, bundle)
            print(f"{args.structures} structures, {bundle.stat().st_size / 2**20:.0f} MiB")
        for n in args.processes:
            measure_start(bundle, n)
        for n in args.filter:
            repeat(args.source, n, bundle)
            measure_filter(bundle, args.criteria)


def repeat(source: Path, n: int, target: Path) -> None:
    """A bundle of n structures, those of the source again and again."""
    from pigen.bundle import BundleWriter, read_bundle, strings

    once = read_bundle(source)
    with BundleWriter(target, {}) as writer:
        while writer.n_written < n:
            some = once.select(slice(0, n - writer.n_written))
            writer.append(replace(some, ids=strings(f"{i}-{writer.n_written}" for i in some.ids)))


def measure_start(bundle: Path, n: int) -> None:
    """Print what each of n processes took until the first step of training was done."""
    python = [sys.executable]
    if n > 1:
        python += ["-m", "torch.distributed.run", "--nproc-per-node", str(n)]
    command = [*python, __file__, "start", bundle, str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if len(lines) != n:
        raise SystemExit(done.stderr)
    for said in sorted((json.loads(line) for line in lines), key=lambda one: one["rank"]):
        print(
            f"  training, process {said['rank'] + 1} of {n}: first step done after "
            f"{said['seconds']:.0f} s (CPU {said['cpu']:.0f} s), {said['peak']:.0f} MiB at most"
        )


def start(bundle: str, began: str) -> None:
    """What each process does: train until the first step is done, and say what it took."""
    from pigen.config import load_experiment
    from pigen.model.train import train
    from pigen.model.trainer import Trainer

    step = Trainer._train_step

    def first(self, rows):  # type: ignore[no-untyped-def]
        step(self, rows)
        said = {
            "rank": self.group.rank,
            "seconds": time.time() - float(began),
            "cpu": time.process_time(),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(said), flush=True)
        self.group.any(True)  # all have done it
        os._exit(0)

    Trainer._train_step = first  # type: ignore[method-assign]
    settings = [f'data.train=["{bundle}"]', f"train.batch_size={BATCH_SIZE}"]
    with tempfile.TemporaryDirectory() as folder:
        train(load_experiment("pigen_mled_c", settings), Path(folder), resume=True)


def measure_filter(bundle: Path, criteria: list[str]) -> None:
    """Print time and memory of one `pigen filter`."""
    out = bundle.with_name("out.h5")
    seconds, cpu, said, peak = filtering.run(
        "filter", bundle, *criteria, "-o", out, "--force", "--json", "--executor", "local:1"
    )
    found = json.loads(said)
    assert found["kept"] + found["rejected"] == found["read"]
    print(
        f"  filter, {found['read']} structures: {seconds:.0f} s (CPU {cpu:.0f} s, "
        f"{1e3 * cpu / found['read']:.2f} ms a structure), {peak:.0f} MiB at most"
    )


if __name__ == "__main__":
    main()
