"""csp-seed: what FUSE and other codes are given, held to the facts of docs/csp.md."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import (
    KEEPS,
    SURVIVORS,
    Bundle,
    Column,
    Criterion,
    Reject,
    Verdict,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import MODES, Settings, compositions, read_experiment
from pigen.csp.seed import Request, csp_seed, published_name
from pigen.csp.select import conventional_cell, ordered, seed_cell
from pigen.runtime.errors import PigenError, UsageError

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def rock_salt(a: float, z1: int, z2: int) -> Crystals:
    return Crystals.single(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [z1, z2])


def generated() -> Bundle:
    """MgO twice, NaCl, two of one atom, one for FUSE to refuse, one with atoms on each other."""
    crystals = [
        rock_salt(4.21, 12, 8),
        rock_salt(4.30, 12, 8),
        rock_salt(5.64, 11, 17),
        Crystals.single(np.eye(3) * 3.35, [[0, 0, 0]], [84]),
        Crystals.single(FCC * 3.61, [[0, 0, 0]], [29]),
        rock_salt(5.0, 10, 8),
        Crystals.single(np.eye(3) * 4.0, [[0, 0, 0], [0, 0, 0.1]], [3, 9]),
    ]
    names = ["MgO", "../../etc/passwd", "Na Cl\n", "Po", "Cu", "NeO", "LiF"]
    return Bundle(
        crystals=Crystals.concatenate(crystals),
        ids=strings(names),
        parents=strings(f"parent of {i}" for i in range(7)),
        columns={
            "e_relaxed": Column(np.array([-5.9, -5.8, -3.0, -3.5, np.nan, 0, 0]), "eV/atom", "")
        },
        verdicts={
            "c": Verdict(
                np.array([1, 1, 1, 0, 1, 1, 1], dtype=bool), strings([""] * 7), Criterion("c")
            ),
            "k": Verdict(
                np.zeros(7, dtype=bool), strings(["low"] * 7), Criterion("k", in_sequence=False)
            ),
        },
        rejects=(Reject("broken", "empty: no atoms"),),
        provenance={"experiment": 'name = "x"\nrow = "PIGEN | (M_LED=9, C=0.7)"\n'},
    )


def call(text: str) -> dict[str, object]:
    """Arguments of the call of run_fuse in the text of an input.py."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "run_fuse"]
    assert len(found) == 1
    return {str(k.arg): ast.literal_eval(k.value) for k in found[0].keywords}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("csp") / "out"
    settings = Settings(rmax=60, initial=10, iterations=1000, hours=1.5)
    csp_seed(generated(), Request(choice="random", settings=settings), out, ("b.h5",))
    return out


def test_compositions_and_refusals(folder: Path) -> None:
    experiment = read_experiment(folder)
    assert (experiment.model, experiment.chosen) == ("PIGEN | (M_LED, C)", "unfiltered")
    formulas = [c.formula for c in compositions(folder, experiment)]
    assert sorted(formulas) == ["Cl1Na1", "Cu1", "Mg1O1", "Po1"]  # one of each composition
    assert experiment.read == 8
    assert experiment.refused["NeO"] == "element that FUSE lacks: Ne"
    assert experiment.refused["LiF"].startswith("atoms closer than 1 Å")
    assert experiment.refused["broken"] == "empty: no atoms"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == sorted(experiment.compositions)


def test_manifest_names_parent_hash_and_energy(folder: Path) -> None:
    from hashlib import sha256

    for composition in compositions(folder, read_experiment(folder)):
        cif = (folder / composition.folder / "seeded" / "seeds" / "seed.cif").read_bytes()
        assert sha256(cif).hexdigest() == composition.seed_sha256
        assert composition.parents[0].startswith("parent of")
        if composition.formula == "Cu1":
            assert composition.generated_energy is None  # it was NaN
        if composition.formula == "Cl1Na1":
            assert (composition.id, composition.generated_energy) == ("Na Cl\n", -3.0)


def test_input_is_what_fuse_takes(folder: Path) -> None:
    for composition in compositions(folder, read_experiment(folder)):
        texts = {m: (folder / composition.folder / m / "input.py").read_text() for m in MODES}
        seeded, alone = call(texts["seeded"]), call(texts["composition_only"])
        for arguments in (seeded, alone):
            assert arguments["composition"] == composition.elements
            assert arguments["ctype"] == "chgnet"
            options = arguments["relaxer_opts"]
            assert isinstance(options, dict)
            assert options == {"fmax": [0.1, 0.05], "steps": [250, 750], "verbose": [False, False]}
            assert arguments["n_opts"] == len(arguments["opt_class"]) == 2  # type: ignore[arg-type]
            assert arguments["rmax"] == 60
            assert arguments["iterations"] > arguments["initial_gen"] + 60  # type: ignore[operator]
            assert arguments["max_atoms"] == composition.seed_atoms
        assert (seeded["initial_gen"], alone["initial_gen"]) == (11, 10)
        assert seeded["read_exisiting_structures"] is True
        assert seeded["path_to_structures"] == "reference_structures"
        assert (seeded["use_spglib"], seeded["ratt_dist"]) == (False, 0)
        assert "read_exisiting_structures" not in alone
        assert composition.random_seeds["seeded"] != composition.random_seeds["composition_only"]
        for mode, text in texts.items():
            assert f"random.seed({composition.random_seeds[mode]})" in text


def test_seeds_pass_the_checks_of_fuse(folder: Path) -> None:
    for composition in compositions(folder, read_experiment(folder)):
        path = folder / composition.folder / "seeded" / "seeds" / "seed.cif"
        atoms = ase.io.read(path)
        assert all(v == 1 for site in atoms.info["occupancy"].values() for v in site.values())
        symbols = atoms.get_chemical_symbols()
        counts = {element: symbols.count(element) for element in composition.elements}
        ratio = {counts[e] / n for e, n in composition.elements.items()}
        assert len(ratio) == 1  # an integer multiple of the reduced formula
        assert ratio.pop().is_integer()
        assert 2 <= len(atoms) == composition.seed_atoms <= composition.max_atoms
        for i in range(len(atoms)):
            others = [j for j in range(len(atoms)) if j != i]
            assert min(atoms.get_distances(i, others, mic=True)) >= 1.0


def test_one_atom_cells_are_doubled_and_primitive_ones_conventional() -> None:
    polonium = seed_cell(Crystals.single(np.eye(3) * 3.35, [[0, 0, 0]], [84]), fuse=True)
    assert polonium.n_atoms[0] == 2
    assert np.isclose(polonium.volume[0], 2 * 3.35**3)
    assert np.isclose(
        np.linalg.norm(np.diff(polonium.frac_coords, axis=0) @ polonium.lattice[0]), 3.35
    )
    assert seed_cell(rock_salt(4.21, 12, 8), fuse=True).n_atoms[0] == 8
    assert np.allclose(conventional_cell(rock_salt(4.21, 12, 8)).lattice[0], np.eye(3) * 4.21)
    assert seed_cell(rock_salt(5.0, 10, 8), fuse=False).n_atoms[0] == 8  # others know neon


STUB = {
    "__init__.py": "",
    "run_chgnet.py": (
        "import numpy as np\ndef run_chgnet(atoms):\n    return atoms, np.float32(-1.5), True\n"
    ),
    "run_multiple_calculators.py": "from fuse202.run_chgnet import *\n",
    "run_fuse.py": (
        "import os\nfrom decimal import Decimal\nfrom fuse202.run_chgnet import *\n"
        "def run_fuse(**given):\n"
        "    import sys, random\n"
        "    print(Decimal(run_chgnet(None)[1]), sorted(os.listdir('reference_structures')),"
        " os.environ['SPP_PATH'] == '', random.random())\n"
        "    os.remove('reference_structures/seed.cif')\n"
        "    open('reference_structures/temp.cif', 'w').close()\n"
        "    sys.exit()\n"
    ),
    "all.py": (
        "import os\nos.environ['GNBOSS_TEMP'], os.environ['SPP_PATH']\n"
        "from random import random\n"  # hides the module of that name
        "from fuse202.run_fuse import run_fuse\n"
    ),
}


def test_input_runs_with_the_guard_and_fresh_seeds(folder: Path, tmp_path: Path) -> None:
    """Against a stand-in that fails where FUSE fails: numpy's float32, a missing variable."""
    package = tmp_path / "fuse202"
    package.mkdir()
    for name, text in STUB.items():
        (package / name).write_text(text)
    run = next(folder.glob("*_Mg1O1")) / "seeded" / "run.sh"
    said = []
    for _ in range(2):  # the second run finds what the first left in reference_structures
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable}
        done = subprocess.run(["sh", run], env=env, timeout=60, check=False)
        assert (run.parent / "exit_code").read_text() == "0\n"
        assert done.returncode == 0
        said.append((run.parent / "fuse.log").read_text())
    assert said[0].startswith("-1.5 ['seed.cif'] True")
    assert said[0] == said[1]  # the random seed too


def test_run_sh_ends_a_search_that_never_ends(folder: Path, tmp_path: Path) -> None:
    run = next(folder.glob("*_Cu1")) / "composition_only" / "run.sh"
    endless = tmp_path / "python"
    endless.write_text("#!/bin/sh\nexec sleep 60\n")
    endless.chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(endless), "PIGEN_CSP_LIMIT": "0.2s"}
    assert subprocess.run(["sh", run], env=env, timeout=30, check=False).returncode == 124
    assert "1.5h" in run.read_text()
    (run.parent / "output.txt").write_text("PIGEN basin hopper, potential x\n")
    assert subprocess.run(["sh", run], env=env, timeout=30, check=False).returncode == 1
    assert (run.parent / "output.txt").exists()  # csp-run goes on with it


def test_job_scripts_name_every_search(folder: Path) -> None:
    searches = (folder / "searches.txt").read_text().split()
    assert len(searches) == 8
    assert all((folder / search / "run.sh").is_file() for search in searches)
    assert "#SBATCH --array=1-8\n" in (folder / "slurm_array.sh").read_text()
    assert "#SBATCH --time=1:40:00\n" in (folder / "slurm_array.sh").read_text()
    assert ":::: searches.txt" in (folder / "parallel.sh").read_text()
    for script in folder.rglob("*.sh"):
        subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize("engine", ["airss", "uspex", "calypso", "xtalopt"])
def test_other_engines(engine: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    csp_seed(generated(), Request(engine=engine, choice="random"), out)
    found = next(out.glob("*_Mg1O1"))
    names = {"airss": "*.res", "uspex": "Seeds/POSCARS", "calypso": "POSCAR_1", "xtalopt": "POSCAR"}
    (path,) = found.glob(names[engine])
    atoms = ase.io.read(path, format="res" if engine == "airss" else "vasp")
    assert sorted(atoms.get_chemical_symbols()) == ["Mg"] * 4 + ["O"] * 4
    if engine == "airss":
        from pymatgen.io.res import ResProvider

        title = ResProvider.from_file(str(path))._res.TITL
        energy = {"MgO": -5.9, "_.._etc_passwd": -5.8}[title.seed]
        assert np.isclose(title.energy, 8 * energy)
    assert any("O" in p.name and "Ne" in p.name for p in out.iterdir())  # FUSE's limits only


def test_order() -> None:
    bundle = generated()
    assert sorted(ordered(bundle, "random", 1)) == list(range(7))
    assert sorted(ordered(bundle, "filtered", 1)) == [0, 1, 2, 4, 5, 6]  # k is only counted
    assert list(ordered(bundle, "lowest-energy", 1))[:3] == [0, 1, 3]
    assert len(ordered(bundle, "lowest-energy", 1)) == 6  # NaN is none
    bare = Bundle(crystals=bundle.crystals, ids=bundle.ids)
    with pytest.raises(UsageError, match="pigen filter"):
        ordered(bare, "filtered", 1)
    with pytest.raises(UsageError, match="pigen energy"):
        ordered(bare, "lowest-energy", 1)


def test_names_of_the_table() -> None:
    assert published_name("PIGEN | (M_LED=9, E_hull=0)") == "PIGEN | (M_LED, E_hull)"
    assert published_name("PIGEN | K=3") == "PIGEN | K"
    assert published_name("DiffCSP+PI loss") == "DiffCSP + PI"
    assert published_name("mine") == "mine"


def test_settings_that_cannot_end() -> None:
    with pytest.raises(ValueError, match="iterations must exceed"):
        Settings(iterations=1750)
    with pytest.raises(ValueError, match="hours"):
        Settings(hours=float("nan"))


def test_verb(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.h5", generated())
    args = ["csp-seed", str(tmp_path / "b.h5"), "-o", str(tmp_path / "out"), "--select", "random"]
    done = CliRunner().invoke(main, args, standalone_mode=True)
    assert done.exit_code == 0, done.output
    assert "4 compositions (PIGEN | (M_LED, C), unfiltered) for fuse, of 8" in done.output
    assert "1  element that FUSE lacks" in done.output
    again = CliRunner().invoke(main, args)
    assert again.exit_code == 2
    assert "not an empty folder" in again.output
    bad = CliRunner().invoke(main, [*args[:3], str(tmp_path / "x"), "--iterations", "10"])
    assert bad.exit_code == 2
    assert "iterations must exceed" in bad.output
    shown = CliRunner().invoke(main, [*args[:3], str(tmp_path / "y"), "--json", "--n", "1"])
    assert json.loads(shown.output)["compositions"] == [
        "001_" + shown.output.split('"001_')[1].split('"')[0]
    ]


def test_what_a_filter_took_out_is_not_refused_again(tmp_path: Path) -> None:
    survivors = replace(generated(), verdicts={}, provenance={KEEPS: SURVIVORS})
    experiment = csp_seed(survivors, Request(n=1), tmp_path / "out")
    assert experiment.read == 7
    assert "broken" not in experiment.refused
    assert experiment.chosen == "filtered"


def test_nothing_to_seed_with(tmp_path: Path) -> None:
    neon = Bundle(crystals=rock_salt(5.0, 10, 8), ids=strings(["NeO"]))
    with pytest.raises(PigenError, match="element that FUSE lacks: Ne"):
        csp_seed(neon, Request(choice="random"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
