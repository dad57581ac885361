"""Do two source trees of PIGEN give the same bundles and print the same?

    python benchmarks/same_output.py BEFORE/src AFTER/src [--work DIR] [--only filter run] [--fresh]

Each step is a command line. It runs with either tree in a folder of its own, on the same input:
real structures of the shipped hull, some generated ones, and what is no structure. What the
commands print, and the bundles and text files that they leave, are then compared. In a bundle
crystals, ids, columns (values, unit, source), verdicts, rejects and provenance count, not how HDF5
stores them. Times, and hashes of bundles (which the form of the bundle changes), do not count.
Results of the first tree are kept in DIR, and used again unless --fresh is given.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

N = 600
INPUT = f"""
from dataclasses import replace
from pathlib import Path
import pigen
phases = pigen.read(Path(pigen.__file__).parent / "data/hull/phases.h5")
real = phases.select(slice(0, len(phases), max(len(phases) // {N}, 1)))
made = pigen.read("random/samples.h5")
def write(path, *parts):
    parts = [replace(one, columns={{}}, provenance={{}}, parents=[""] * len(one)) for one in parts]
    pigen.write_bundle(path, pigen.Bundle.concatenate(parts))
write("all.h5", real, made)
write("few.h5", real.select(slice(0, 70, 10)), made.select(slice(0, 3)))
"""
"""Makes the input, with the first tree."""

RUN = ("run", "pigen_mled_c", "--set", "sample.n=12", "--set", "sample.steps=20")
STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "import": (("import", "all.csv", "bad.cif", "few.h5", "-o", "data.h5"), ("show", "data.h5")),
    "label": (
        ("label", "data.h5", "--values", "mine.csv", "-o", "labelled.h5"),
        ("label", "data.h5", "--columns", "c,spp", "--shard", "1/2", "-o", "part.h5"),
        ("label", "data.h5", "--columns", "c,spp", "--shard", "2/2", "-o", "part.h5", "--json"),
        ("merge", "part.1-of-2.h5", "part.2-of-2.h5", "-o", "merged.h5"),
        ("known", "few.h5", "-o", "known.txt.gz"),
    ),
    "filter": (
        ("filter", "data.h5", "-o", "passed.h5"),
        ("filter", "data.h5", "-o", "passed.h5", "--resume"),
        ("filter", "data.h5", "--keep-all", "-o", "judged.h5"),
        ("filter", "labelled.h5", "--c", "0.55:0.85", "--where", "mine=1:5", "--k", "2.5", "-o",
         "windows.h5", "--json"),
        ("filter", "windows.h5", "--spp", "0.3", "-o", "again.h5"),
        ("filter", "data.h5", "--mled", "5", "--novel", "--known", "known.txt.gz", "--shard", "1/2",
         "-o", "share.h5"),
        ("filter", "data.h5", "--mled", "5", "--novel", "--known", "known.txt.gz", "--shard", "2/2",
         "-o", "share.h5"),
        ("merge", "share.1-of-2.h5", "share.2-of-2.h5", "-o", "shares.h5"),
        *(("show", name) for name in ("passed.h5", "judged.h5", "windows.h5", "again.h5")),
        ("report", "judged.h5", "-o", "judged.html"),
        ("report", "windows.h5", "-o", "windows.html"),
        ("export", "windows.h5", "--format", "csv", "-o", "windows.csv"),
        ("import", "judged.h5", "few.h5", "-o", "mixed.h5"),
    ),
    "energy": (
        ("filter", "few.h5", "--min-distance", "1.2", "--keep-all", "-o", "few_judged.h5"),
        ("energy", "few_judged.h5", "--only-passed", "--max-steps", "40", "-o", "relaxed.h5"),
        ("energy", "few_judged.h5", "--only-passed", "--max-steps", "40", "-o", "relaxed.h5",
         "--resume", "--json"),
        ("hull", "evaluate", "relaxed.h5", "-o", "evaluated.h5"),
        ("filter", "relaxed.h5", "--ehull", "0.1", "-o", "stable.h5"),
    ),
    "prototypes": (
        ("prototypes", "match", "few.h5", "--library", "reference", "--top", "20", "-o",
         "matched.h5"),
        ("prototypes", "unique", "few.h5", "-o", "unique.h5"),
        ("prototypes", "build", "few.h5", "-o", "frameworks.h5"),
    ),
    "csp": (
        ("csp-seed", "judged.h5", "--n", "5", "-o", "seeds"),
        ("csp-seed", "passed.h5", "--n", "5", "--select", "filtered", "-o", "filtered"),
    ),
    "run": (
        (*RUN, "-o", "plain"),
        (*RUN, "-o", "plain", "--resume", "--json"),
        (*RUN, "--set", "energy.relax=true", "--set", "filter.c=[0.3,0.9]", "--set",
         "filter.mled=4.0", "--set", "filter.where.space_group=[1.0,300.0]", "-o", "relaxing"),
        ("report", "relaxing", "-o", "relaxing.html"),
        ("table", "ed1", "plain", "relaxing"),
        ("table", "1", "relaxing", "--explain"),
        ("show", "relaxing/evaluated.h5"),
    ),
}  # fmt: skip

_VOLATILE = (
    (r"content [0-9a-f]{16}", "content …"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00|Z)?", "TIME"),
    (r'"seconds": [\d.]+', '"seconds": …'),
    (r"sha256 [0-9a-f]{12,64}", "sha256 …"),
    (r"(sha256 of \S+:)\s+[0-9a-f]{64}", r"\1 …"),
    (r"\b[0-9a-f]{64}\b", "…"),
)
_FORM = ("kept_by", "judged_by", "keeps", "created")
"""Keys of provenance that are of the bundle's form, or of the time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "same_output"))
    parser.add_argument("--only", nargs="*", choices=STEPS, default=list(STEPS))
    parser.add_argument("--fresh", action="store_true", help="Run the first tree again, too.")
    args = parser.parse_args()
    one, other = args.work / "before", args.work / "after"
    if args.fresh or not (one / "all.h5").exists():
        shutil.rmtree(args.work, ignore_errors=True)
        one.mkdir(parents=True)
        make_input(args.before.resolve(), one)
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    for name in ("all.csv", "bad.cif", "few.h5", "mine.csv"):
        shutil.copy(one / name, other / name)
    wrong = 0
    for step in [name for name in STEPS if name in args.only]:
        if not (one / f"{step}.log").exists():
            run_step(args.before.resolve(), one, step)
        run_step(args.after.resolve(), other, step)
        wrong += report(step, list(differences(one, other, step)))
    wrong += report("files", list(differing_files(one, other)))
    sys.exit(1 if wrong else 0)


def make_input(source: Path, folder: Path) -> None:
    elements = 'pseudo_random.elements=["O", "Na", "Cl", "Ti", "Cu"]'
    options = ("--set", "sample.n=60", "--set", elements, "-o", "random")
    run(source, folder, pigen("run", "pseudo_random", *options))
    run(source, folder, [sys.executable, "-c", INPUT])
    shutil.rmtree(folder / "random")
    run(source, folder, pigen("export", "all.h5", "--format", "csv", "-o", "all.csv"))
    with (folder / "all.csv").open("a") as table:
        table.write("broken,,data_none\n" if (folder / "all.csv").stat().st_size else "")
    (folder / "bad.cif").write_text("data_bad\n_cell_length_a 1\n")
    with h5py.File(folder / "all.h5") as file:
        ids = [name.decode() for name in file["id"][::3]]
    rows = "".join(f"{name},{i % 7}\n" for i, name in enumerate(ids))
    (folder / "mine.csv").write_text(f"id,mine\n{rows}nobody,1\n")


def pigen(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pigen.cli import main; main()", *arguments]


def run(source: Path, folder: Path, command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}"


def run_step(source: Path, folder: Path, step: str) -> None:
    said = [
        f"$ pigen {' '.join(line)}\n{run(source, folder, pigen(*line))}" for line in STEPS[step]
    ]
    (folder / f"{step}.log").write_text("\n".join(said))


def plain(text: str) -> str:
    for pattern, instead in _VOLATILE:
        text = re.sub(pattern, instead, text)
    return text


def differences(one: Path, other: Path, step: str) -> Iterator[str]:
    texts = [plain((folder / f"{step}.log").read_text()).splitlines() for folder in (one, other)]
    yield from difflib.unified_diff(*texts, "before", "after", lineterm="", n=1)


def differing_files(one: Path, other: Path) -> Iterator[str]:
    """Of the files that both trees were asked for."""
    done = {path.stem for path in other.glob("*.log")}
    if done == set(STEPS):
        names = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (one, other)]
        names[0] = [name for name in names[0] if name not in ("all.h5",)]
        yield from difflib.unified_diff(*names, "before", "after", lineterm="", n=0)
    for path in sorted(other.rglob("*")):
        name = path.relative_to(other)
        if path.is_dir() or path.suffix == ".log" or not (one / name).exists():
            continue
        if path.suffix == ".h5":
            yield from (f"{name}: {line}" for line in differing_data(one / name, path))
        elif path.suffix in {".json", ".md", ".csv", ".txt", ".toml", ".py", ".html", ".cif"}:
            texts = [plain(p.read_text()) for p in (one / name, path)]
            if texts[0] != texts[1]:
                lines = [text.splitlines() for text in texts]
                yield from list(difflib.unified_diff(*lines, f"before/{name}", f"after/{name}",
                                                     lineterm="", n=0))[:40]  # fmt: skip


def differing_data(one: Path, other: Path) -> Iterator[str]:
    before, after = content(one), content(other)
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        same = np.array_equal(a, b, equal_nan=True) if is_float(a) and is_float(b) else (
            np.array_equal(a, b) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
            else a == b
        )  # fmt: skip
        if not same:
            yield f"{key}: {shown(a)} before, {shown(b)} after"


def is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def shown(value: object) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else str(value)[:200]


def content(path: Path) -> dict[str, object]:
    """All that a bundle says, by name."""
    found: dict[str, object] = {}
    with h5py.File(path) as file:

        def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if name.startswith("shard"):
                return
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]
            if name.startswith("columns/"):
                found[f"{name} says"] = plain(str(sorted(item.attrs.items())))
            elif name.startswith("verdicts/") and name.count("/") == 1:
                found[f"{name} says"] = str(item.attrs["source"])

        file.visititems(add)
        found["columns"] = list(file["columns"])
        found["verdicts"] = list(file["verdicts"])
        for name in ("n_crystals", "n_atoms", "n_rejects", "complete"):
            found[name] = int(file.attrs[name])
        for key, value in file["provenance"].attrs.items():
            if key not in _FORM:
                found[f"provenance {key}"] = plain(str(value))
    return found


def report(what: str, found: list[str]) -> bool:
    print(f"{what}: {'the same' if not found else ''}", flush=True)
    print("\n".join(f"    {line}" for line in found), flush=True)
    return bool(found)


if __name__ == "__main__":
    main()
