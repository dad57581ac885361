"""`csp_seed`: write the folder of a CSP experiment from generated structures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from pigen import __version__
from pigen.bundle import Bundle, Reject
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, file_formula
from pigen.csp import fuse
from pigen.csp.engines import WRITERS
from pigen.csp.folder import (
    MODES,
    SEEDS,
    Composition,
    Experiment,
    write_manifest,
)
from pigen.csp.select import Seed, ordered, seeds
from pigen.io.cif_text import to_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import check_writable, parse_toml, write_atomically
from pigen.screening.funnel import unread


def csp_seed(
    bundle: Bundle, request: Request, out: Path, sources: tuple[str, ...] = ()
) -> Experiment:
    """Write a folder for each composition; returns the manifest, with what was refused and why.

    Args:
        bundle: generated structures.
        request: what to write.
        out: a new or empty folder.
        sources: where the structures came from, for the manifest.

    Raises:
        UsageError: the folder holds something or can't be written in, or the bundle lacks what the
            choice needs.
        PigenError: no structure can be a seed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder")
    check_writable(out)
    # What a filter took out has been counted there, and was no candidate here.
    refused = [*unread(bundle)]
    rows = ordered(bundle, request.choice, request.seed)
    candidates = seeds(
        bundle,
        rows,
        lambda name, reason: refused.append(Reject(name, reason)),
        fuse=request.engine == "fuse",
        each=request.each,
        most_atoms=request.seed_atoms,
    )
    chosen = _by_formula(candidates, request)
    if not chosen:
        why = f"; the first was refused: {refused[0].reason}" if refused else ""
        raise PigenError(f"no structure to seed a search with, of {len(bundle)} read{why}")
    out.mkdir(parents=True, exist_ok=True)
    compositions = [
        _write(bundle, own, out, number, request) for number, own in enumerate(chosen, start=1)
    ]
    experiment = Experiment(
        engine=request.engine,
        model=request.model or model_name(bundle),
        chosen="unfiltered" if request.choice == "random" else request.choice,
        seed=request.seed,
        settings=request.settings,
        read=len(bundle) + len(unread(bundle)),
        sources=sources,
        refused={reject.id: reject.reason for reject in refused},
        compositions=tuple(composition.folder for composition in compositions),
        pigen_version=__version__,
    )
    if request.engine == "fuse":
        searches = [f"{c.folder}/{mode}" for c in compositions for mode in MODES]
        write_atomically(out / "searches.txt", "\n".join([*searches, ""]))
        _script(out / "slurm_array.sh", fuse.slurm_array(searches, request.settings))
        _script(out / "parallel.sh", fuse.PARALLEL_SH)
        write_atomically(out / "environment.sh", fuse.ENVIRONMENT_SH, durable=False)
    write_manifest(out, experiment)  # last: a folder with it is whole
    return experiment


def _by_formula(candidates: Iterable[Seed], request: Request) -> list[list[Seed]]:
    """The seeds of each of the first compositions, no more of them looked at than need be."""
    chosen: dict[str, list[Seed]] = {}
    for seed in candidates:
        formula = seed.cell.reduced_formulas()[0]
        if formula in chosen or len(chosen) < request.n:
            chosen.setdefault(formula, []).append(seed)
        if len(chosen) == request.n and all(len(own) == request.each for own in chosen.values()):
            break
    return list(chosen.values())


def model_name(bundle: Bundle) -> str:
    """The row, else the name, of the experiment that a bundle says it comes from."""
    try:
        said = parse_toml(bundle.provenance.get("experiment", ""))
    except ValueError:
        return "unknown"
    return published_name(str(said.get("row") or said.get("name") or "unknown")[:100])


def published_name(row: str) -> str:
    """A model's name in Extended Data Table 3, where targets are left out, from that in the others.

    "PIGEN | (M_LED=9, C=0.7)" is "PIGEN | (M_LED, C)" there.
    """
    bare = re.sub(r"=[\d.]+", "", row)
    return {"DiffCSP+PI loss": "DiffCSP + PI"}.get(bare, bare)


def _write(
    bundle: Bundle, seeds: Sequence[Seed], out: Path, number: int, request: Request
) -> Composition:
    first, rows = seeds[0], [seed.row for seed in seeds]
    formula = first.cell.reduced_formulas()[0]
    cifs = [to_cif(seed.cell, f"seed_of_{file_formula(formula)}") for seed in seeds]
    energies = [_energy(bundle, row) for row in rows]
    seed_atoms = max(int(seed.cell.n_atoms[0]) for seed in seeds)
    composition = Composition(
        folder=f"{number:03d}_{file_formula(formula)}",
        formula=formula,
        elements=_elements(first.cell),
        id=bundle.ids[first.row],
        parents=tuple(dict.fromkeys(filter(None, bundle.parents[rows]))),
        generated_energy=min((e for e in energies if e is not None), default=None),
        generated_atoms=int(bundle.crystals.n_atoms[rows].max()),
        seed_atoms=seed_atoms,
        seed_sha256=sha256("".join(cifs).encode()).hexdigest(),
        max_atoms=max(request.search_atoms, seed_atoms),
        random_seeds={
            mode: _random_seed(request.seed, number, place) for place, mode in enumerate(MODES)
        },
        n_seeds=len(seeds),
    )
    folder = out / composition.folder
    folder.mkdir()
    if request.engine == "fuse":
        _write_searches(folder, composition, cifs, request.settings)
    else:
        cells = [seed.cell for seed in seeds]
        names = list(bundle.ids[rows])
        files = WRITERS[request.engine](list(zip(cells, names, energies, strict=True)))
        for path, text in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            write_atomically(folder / path, text, durable=False)
    write_manifest(folder, composition)
    return composition


def _write_searches(
    folder: Path, composition: Composition, cifs: Sequence[str], settings: Settings
) -> None:
    for mode in MODES:
        search = folder / mode
        search.mkdir()
        text = fuse.input_py(composition, settings, mode)
        write_atomically(search / "input.py", text, durable=False)
        _script(search / "run.sh", fuse.run_sh(settings))
    seeds = folder / "seeded" / SEEDS
    seeds.mkdir()
    for number, cif in enumerate(cifs, start=1):
        name = "seed.cif" if len(cifs) == 1 else f"seed_{number:03d}.cif"
        write_atomically(seeds / name, cif, durable=False)


def _elements(cell: Crystals) -> dict[str, int]:
    numbers, counts = np.unique(cell.atomic_numbers, return_counts=True)
    divisor = int(np.gcd.reduce(counts))
    pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
    return {SYMBOLS[z]: n // divisor for z, n in pairs}


def _energy(bundle: Bundle, row: int) -> float | None:
    column = bundle.columns.get("e_relaxed")
    if column is None or column.kind != "float64" or not np.isfinite(column.values[row]):
        return None
    return float(column.values[row])


def _random_seed(seed: int, number: int, mode: int) -> int:
    """A seed of its own for each search, the same whatever else is chosen."""
    return int(np.random.SeedSequence([seed, number, mode]).generate_state(1)[0])


def _script(path: Path, text: str) -> None:
    write_atomically(path, text, durable=False)
    path.chmod(0o755)
