"""`pigen filter` with all of A′ A B C D K: 10,000 real structures, from a CSV and from a bundle.

    python benchmarks/filter.py [--data ../shared/data] [--n 10000] [--workers 2] [--memory]

The structures are those of mp20/test and generated/, filled up from mp20/train. With --memory also
the peak memory of all processes at 20,000 and at 200,000 structures (that takes a while), and the
time per structure of both. The baseline is the published way, M_LED by matminer and CrystalNN at
0.45 s a structure: benchmarks/descriptors.py measures it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

SETS = ("mp20/test", "generated/cdvae", "generated/llama2_7b", "mp20/train")
CRITERIA = ("--min-distance", "0.5", "--spp", "0.362", "--novel", "--c", "0.55:0.85",
            "--mled", "9:", "--k", "3.9:")  # fmt: skip
PIGEN = (sys.executable, "-c", "from pigen.cli import main; main()")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    csv.field_size_limit(2**24)
    with tempfile.TemporaryDirectory() as folder:
        table, bundle = Path(folder, "all.csv"), Path(folder, "all.h5")
        write(table, cifs(args.data), args.n)
        print(f"{args.n} structures, {args.workers} workers")
        seconds, cpu, _, _ = run(
            "import", table, "-o", bundle, "--executor", f"local:{args.workers}", "--json"
        )
        print(f"  import, CSV to bundle     {seconds:6.1f} s (CPU {cpu:.1f} s)")
        for source in (table, bundle):
            report("filter, CSV to bundle" if source == table else "filter, bundle to bundle",
                   source, args.workers)  # fmt: skip
        if args.memory:
            peaks = []
            for n in (20_000, 200_000):
                write(table, cifs(args.data), n)
                peaks.append(report(f"{n} structures", table, args.workers))
            print(f"  memory at ten times the structures: {peaks[1] / peaks[0]:.2f} times")


def report(what: str, source: Path, workers: int) -> float:
    """Run one filter, print its time and rate, return its peak memory in MiB."""
    out = source.with_name("out.h5")
    seconds, cpu, said, peak = run(
        "filter",
        source,
        *CRITERIA,
        "-o",
        out,
        "--force",
        "--json",
        "--executor",
        f"local:{workers}",
    )
    found = json.loads(said)
    assert found["kept"] + found["rejected"] == found["read"]
    print(
        f"  {what:<25} {seconds:6.1f} s (CPU {cpu:.1f} s), "
        f"{1e3 * seconds / found['read']:.2f} ms a structure, "
        f"{peak:.0f} MiB at most; kept {found['kept']} of {found['read']}"
    )
    return peak


def run(*args: str | Path) -> tuple[float, float, str, float]:
    """Wall and CPU seconds of a pigen command, its output, and the most MiB it all held."""
    started, before = time.perf_counter(), cpu_seconds()
    process = subprocess.Popen(
        [*PIGEN, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    stdout, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(stderr)
    return seconds, cpu_seconds() - before, stdout, peak


def cpu_seconds() -> float:
    """CPU time of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(pid: int) -> float:
    """Resident MiB of a process and its children, shared pages counted in each."""
    total = 0.0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            total += int(line.split()[1]) / 1024
    return total + sum(memory_of(int(child)) for child in children)


def cifs(data: Path) -> Iterator[str]:
    """The CIF texts of all sets, again and again."""
    for name in cycle(SETS):
        with gzip.open(data / f"{name}.csv.gz", "rt", newline="") as file:
            yield from (row["cif"] for row in csv.DictReader(file))


def write(path: Path, texts: Iterator[str], n: int) -> None:
    """A CSV of n structures."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "cif"])
        rows.writerows(enumerate(islice(texts, n)))


if __name__ == "__main__":
    main()
