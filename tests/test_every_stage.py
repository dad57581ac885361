"""Every stage once, each on what the one before it wrote: real crystals, the shipped model, CHGNet.

The crystals are of the shipped library of frameworks (Materials Project), so nothing is skipped.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import read_bundle, write_bundle
from pigen.cli import main
from pigen.runtime import resources

N_REAL = 12
N_SAMPLES = 4
TINY_MODEL = (
    *("model.scalars=8", "model.vectors=4", "model.messages=4", "model.layers=1"),
    *("train.epochs=1", "train.batch_size=6", 'model.labels=["c", "mled", "k"]'),
)


def pigen(*args: str | Path) -> str:
    """Run a verb that must succeed; what it printed."""
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == 0, (args, done.output, done.exception)
    return done.stdout


def counts(*args: str | Path) -> dict[str, Any]:
    """Run a verb with --json; what it counted."""
    found: dict[str, Any] = json.loads(pigen(*args, "--json"))
    return found


def sets(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def real(folder: Path) -> Path:
    """The smallest crystals of the shipped library that hold two elements or more, as CIFs."""
    library = read_bundle(resources.PROTOTYPES / "reference.h5")
    is_compound = np.array([len(np.unique(one.atomic_numbers)) > 1 for one in library.crystals])
    smallest = np.argsort(library.crystals.n_atoms, kind="stable")
    write_bundle(folder / "library.h5", library.select(smallest[is_compound[smallest]][:N_REAL]))
    pigen("export", folder / "library.h5", "--format", "cif", "-o", folder / "real.zip")
    with zipfile.ZipFile(folder / "real.zip") as archive:
        assert len(archive.namelist()) == N_REAL
    return folder / "real.zip"


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of the shipped model, its survivors relaxed; all that have a value survive."""
    lenient = ("filter.spp=1e9", "filter.c=[0, 9]", "filter.mled=0", "filter.novel=false")
    cheap = (f"sample.n={N_SAMPLES}", "sample.steps=10", "energy.relax=true", "energy.max_steps=3")
    pigen("run", "pigen_mled_c", *sets(*cheap, *lenient), "--out", folder / "run")
    return folder / "run"


def test_real_crystals_become_a_training_set_and_a_model(folder: Path, real: Path) -> None:
    imported = counts("import", real, "-o", folder / "real.h5")
    assert (imported["read"], imported["kept"]) == (N_REAL, N_REAL)
    pigen("label", folder / "real.h5", "-o", folder / "train.h5")
    labelled = read_bundle(folder / "train.h5")
    assert np.isfinite([labelled.columns[name].values for name in ("c", "mled", "k")]).all()
    data = f'data.train=["{folder / "train.h5"}"]'
    pigen("train", "pigen_mled_c", *sets(data, *TINY_MODEL), "--out", folder / "model")
    checkpoint = folder / "model" / "model.safetensors"
    drawn = folder / "drawn.h5"
    few = sets("sample.n=3", "sample.steps=3")
    pigen("sample", "pigen_mled_c", "--checkpoint", checkpoint, *few, "-o", drawn)
    assert len(read_bundle(drawn)) == 3


def test_real_crystals_are_filtered_and_matched(folder: Path, real: Path) -> None:
    kept = folder / "kept.h5"
    filtered = counts("filter", real, "--spp", "0.362", "--c", "0.55:0.85", "-o", kept)
    assert filtered["read"] == N_REAL
    assert 0 < filtered["kept"] == len(read_bundle(kept))
    matched = folder / "matched.h5"
    found = counts("prototypes", "match", real, "--library", "reference", "-o", matched)
    # Each is the one that represents its framework in the library.
    assert found["matched"] == N_REAL
    compared = counts("compare", kept, "--to", real)
    assert compared["n_reference"] == N_REAL


def test_a_run_ends_in_a_table_and_a_page(folder: Path, run: Path) -> None:
    evaluated, survivors = read_bundle(run / "evaluated.h5"), read_bundle(run / "survivors.h5")
    assert len(evaluated) + len(evaluated.rejects) == N_SAMPLES
    relaxed = read_bundle(run / "relaxed.h5")
    assert sorted(relaxed.parents) == sorted(survivors.ids)
    assert len(relaxed) > 0
    assert relaxed.columns["n_steps"].values.max() <= 3  # energy.max_steps
    assert set(relaxed.columns) > {"e_relaxed", "converged", "n_steps", "rmsd", "e_hull"}
    rates = json.loads((run / "table.json").read_text("utf-8"))["rates"]
    assert rates["sequence"] == rates["sequence"] | {"passed": len(survivors), "total": N_SAMPLES}
    assert "E100" in rates
    assert pigen("table", "1", run).count("pigen_mled_c")
    page = folder / "page.html"
    pigen("report", run, "-o", page)
    assert all(id_ in page.read_text("utf-8") for id_ in survivors.ids)


def test_relaxed_crystals_go_to_dft_and_to_searches(folder: Path, run: Path) -> None:
    relaxed = run / "relaxed.h5"
    exported = counts("dft-export", relaxed, "-o", folder / "vasp")
    assert exported["candidates"] == len(read_bundle(relaxed))
    seeds = folder / "csp"
    short = ("--rmax", "1", "--initial", "1", "--iterations", "4", "--max-steps", "2")
    pigen("csp-seed", run / "survivors.h5", "--n", "1", "--seed-atoms", "20", *short, "-o", seeds)
    searched = counts("csp-run", seeds, "--executor", "local:1")
    assert (searched["ended"], searched["searches"]) == (2, 2)
    collect = ("csp-collect", seeds, "--library", "aflow", "--as-left")
    collected = counts(*collect, "-o", folder / "minima.h5")
    minima = read_bundle(folder / "minima.h5")
    assert len(minima) + len(minima.rejects) == 2
    assert collected["minima"] == len(set(minima.columns["formula"].values)) == 1
