"""Dask against the local pool: all filters of the paper on 20,000 real structures.

    python benchmarks/executor.py [--data ../shared/data] [--n 20000] [--workers 2] [--rounds 3]

Both have as many workers, and go through the same chunks of one bundle, in turns; workers are
started and warm before the clock runs. Processor times are those of all processes, Dask's scheduler
and workers included. Needs the extra `cluster`.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path

import psutil
from distributed import Client, LocalCluster

from filter import cifs, write
from pigen.bundle import Bundle, BundleWriter, iter_bundle
from pigen.bundle.stage import CHUNK
from pigen.io import read_chunks
from pigen.runtime.executor import Where, open_executor
from pigen.runtime.executor.cluster import ClusterExecutor
from pigen.screening.criteria import paper_criteria
from pigen.screening.filter import FilterStage

CRITERIA = paper_criteria()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    csv.field_size_limit(2**24)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_executor(Where(args.workers)) as local,
        LocalCluster(
            n_workers=args.workers, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        table, bundle = Path(folder, "all.csv"), Path(folder, "all.h5")
        write(table, cifs(args.data), args.n)
        with BundleWriter(bundle, {}) as writer:
            for chunk in read_chunks([table], executor=local):
                writer.append(chunk)
        executors: dict[str, Executor] = {"local": local, "dask": ClusterExecutor(client)}
        for executor in executors.values():
            through(executor, islice(iter_bundle(bundle, CHUNK), 4 * args.workers))
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in executors}
        for _ in range(args.rounds):
            kept = set()
            for name, executor in executors.items():
                wall, cpu = time.perf_counter(), cpu_time()
                kept.add(through(executor, iter_bundle(bundle, CHUNK)))
                took[name].append((time.perf_counter() - wall, cpu_time() - cpu))
            assert len(kept) == 1, "results differ"
        executors["dask"].shutdown()
    print(f"{args.n} structures, {args.workers} workers, median of {args.rounds} rounds")
    middle = {
        name: [statistics.median(column) for column in zip(*times, strict=True)]
        for name, times in took.items()
    }
    for name, (wall, cpu) in middle.items():
        print(f"  {name:<6} {wall:7.2f} s by the clock, {cpu:7.2f} s of processors")
    for k, what in enumerate(("by the clock", "of processors")):
        overhead = 100 * (middle["dask"][k] / middle["local"][k] - 1)
        print(f"  Dask over the local pool, {what}: {overhead:+.1f} %")


def through(executor: Executor, chunks: Iterator[Bundle]) -> int:
    """Judge all; how many pass all criteria."""
    passed = 0
    for chunk in FilterStage(CRITERIA, keep_all=True).over(chunks, executor):
        verdicts = [verdict.passed for verdict in chunk.verdicts.values()]
        passed += sum(all(column) for column in zip(*verdicts, strict=True))
    return passed


def cpu_time() -> float:
    """s of this process and all that it has started."""
    this = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (this, *this.children(recursive=True)))


if __name__ == "__main__":
    main()
