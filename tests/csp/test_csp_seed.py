"""csp-seed: what FUSE and other codes are given, held to the facts of docs/csp.md."""

from __future__ import annotations

import ast
import json
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
from pigen.config.searches import Request, Settings
from pigen.crystal.cells import conventional_cell
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import MODES, compositions, read_experiment
from pigen.csp.search_folder import plan_of
from pigen.csp.seed import csp_seed, published_name
from pigen.csp.select import ordered, seed_cell
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
    """Arguments of the call of run_fuse in the text of an input.py, but for variables."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "run_fuse"]
    assert len(found) == 1
    constant = (k for k in found[0].keywords if "going_on" not in ast.unparse(k.value))
    return {str(k.arg): ast.literal_eval(k.value) for k in constant}


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
        assert seeded.pop("path_to_structures") == "reference_structures"
        others = ("pull_random", "pull_spp_rank", "generate_gn_boss_structures")
        assert [seeded.pop(name) for name in others] == [False] * 3
        assert seeded.pop("rank_gn_structures") is None
        assert {**seeded, "initial_gen": 10} == alone  # nothing else tells the searches apart
        assert (alone["use_spglib"], alone["ratt_dist"]) == (False, 0)
        assert composition.random_seeds["seeded"] != composition.random_seeds["composition_only"]
        for mode, text in texts.items():
            assert f"\nrandom_seed = {composition.random_seeds[mode]}\n" in text


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


@pytest.mark.parametrize("engine", ["airss", "uspex", "calypso", "xtalopt"])
def test_other_engines(engine: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    csp_seed(generated(), Request(engine=engine, choice="random"), out)
    found = next(out.glob("*_MgO"))
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


# -- several seeds of a composition ----------------------------------------------------------------
def test_several_seeds_of_a_composition(tmp_path: Path) -> None:
    request = Request(choice="lowest-energy", each=3, n=2)
    csp_seed(generated(), request, tmp_path / "out")
    found = {
        c.formula: c for c in compositions(tmp_path / "out", read_experiment(tmp_path / "out"))
    }
    assert {formula: c.n_seeds for formula, c in found.items()} == {"Mg1O1": 2, "Po1": 1}
    oxide = found["Mg1O1"]
    assert (oxide.id, oxide.generated_energy) == ("MgO", -5.9)
    assert oxide.parents == ("parent of 0", "parent of 1")
    seeded = tmp_path / "out" / oxide.folder / "seeded"
    paths = sorted((seeded / "seeds").iterdir())
    assert [path.name for path in paths] == ["seed_001.cif", "seed_002.cif"]
    texts = {m: (tmp_path / "out" / oxide.folder / m / "input.py").read_text() for m in MODES}
    counts = {mode: call(text)["initial_gen"] for mode, text in texts.items()}
    assert counts == {"seeded": 252, "composition_only": 250}
    plan = plan_of(seeded, oxide, request.settings, "seeded")
    assert [round(float(one.volume[0]), 3) for one in plan.seeds] == [18.655, 19.877]
    with pytest.raises(ValueError, match="initial \\+ each \\+ rmax"):
        Request(each=30, settings=Settings(iterations=1760))


@pytest.mark.parametrize("engine", ["airss", "uspex", "calypso", "xtalopt"])
def test_several_seeds_for_other_engines(engine: str, tmp_path: Path) -> None:
    csp_seed(generated(), Request(engine=engine, choice="random", each=2), tmp_path / "out")
    found = next((tmp_path / "out").glob("*_MgO"))
    names = {
        "airss": ["MgO.res", "_.._etc_passwd.res"],
        "uspex": ["POSCARS"],
        "calypso": ["POSCAR_1", "POSCAR_2"],
        "xtalopt": ["POSCAR", "POSCAR_2"],
    }
    paths = [path for path in found.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert sorted(path.name for path in paths) == names[engine]
    if engine == "uspex":
        assert (found / "Seeds" / "POSCARS").read_text().count("Direct") == 2


def test_composition_generates_its_seeds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["csp-seed", "--composition", "MgO", "--composition", "TiO2", "--each", "2"]
    done = CliRunner().invoke(main, [*args, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 compositions (pigen, unfiltered) for fuse, of 4" in done.output
    found = compositions(out, read_experiment(out))
    assert {c.formula for c in found} == {"Mg1O1", "O2Ti1"}
    for one in found:
        n = len(list((out / one.folder / "seeded" / "seeds").glob("*.cif")))
        assert n == one.n_seeds <= 2
    assert read_experiment(out).sources == ("MgO", "TiO2")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give either structures"),
        (["--composition", "MgO", "--n", "3"], "--n chooses among SRC"),
        (["--composition", "Mg0.5O"], "whole"),
        (["--composition", "Mg(O"], "no formula"),
        (["--composition", "MgO99"], "largest cell"),
    ],
)
def test_what_no_seeds_can_be_generated_for(args: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["csp-seed", *args, "-o", str(tmp_path / "out")])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert not (tmp_path / "out").exists()
