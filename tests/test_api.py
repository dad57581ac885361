"""The Python API: light to import, and the same values as the commands."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import models
import numpy as np
import pytest
from click.testing import CliRunner
from known_structures import known_structures

import pigen
from pigen.bundle import read_bundle
from pigen.cli import main
from pigen.io.cif_text import to_cif
from pigen.model.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("Cu", "Si", "MgO", "ZnS", "SrTiO3", "TiO2")


@pytest.fixture
def cifs(tmp_path: Path) -> Path:
    """A folder of six CIFs, and one that is none."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.cif").write_text(to_cif(known_structures()[name].crystals, name))
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a 4\n")
    return folder


def command(*args: object) -> str:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return done.output


def assert_same(found: pigen.Bundle, file: Path) -> None:
    expected = read_bundle(file)
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.rejects == expected.rejects
    np.testing.assert_array_equal(found.crystals.frac_coords, expected.crystals.frac_coords)
    np.testing.assert_array_equal(found.crystals.lattice, expected.crystals.lattice)
    assert list(found.columns) == list(expected.columns)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name].values, column.values)
        assert (found.columns[name].unit, found.columns[name].source) == (
            column.unit,
            column.source,
        )
    for name, verdict in expected.verdicts.items():
        assert found.verdicts[name].reasons.tolist() == verdict.reasons.tolist()


# -- importing ------------------------------------------------------------------------------------
def test_importing_takes_no_time_and_no_functions_place() -> None:
    code = (
        "import sys, time\n"
        "start = time.process_time()\n"
        "import pigen\n"
        "took = time.process_time() - start\n"
        "heavy = {'numpy', 'torch', 'pymatgen', 'ase', 'pandas', 'h5py'} & set(sys.modules)\n"
        "import pigen.io, pigen.screening.label, pigen.screening.filter\n"
        "found = [getattr(pigen, name) for name in ('read', 'label', 'filter', 'sample', 'rank')]\n"
        "print(took < 0.3, heavy, {type(one).__name__ for one in found}, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True set() {'function'} False", done.stdout + done.stderr


def test_every_public_name_is_there() -> None:
    assert dir(pigen) == sorted(pigen.__all__)
    for name in pigen.__all__:
        assert getattr(pigen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pigen.nothing
    assert (Path(pigen.__file__).parent / "py.typed").exists()


# -- reading --------------------------------------------------------------------------------------
def test_structures_are_read_from_anywhere_in_order(cifs: Path) -> None:
    from pymatgen.core import Lattice, Structure

    crystals = known_structures()["CaF2"].crystals
    structure = crystals.to_pymatgen()[0]
    structure.properties = {"material_id": "mp-1", "gap": 7, "huge": 10**400, "note": "x"}
    disordered = Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    atoms = crystals.to_ase()[0]
    atoms.info = {"gap": np.float64(7.5), "note": 'a "b"', "vector": [1, 2]}
    molecule = atoms.copy()
    molecule.pbc = False
    found = pigen.read(
        cifs / "Cu.cif", [structure, disordered], (one for one in (atoms, molecule)), crystals
    )
    assert found.ids.tolist() == ["Cu", "mp-1", "structure-2", "crystal-0"]
    assert [(r.id, r.reason.split(":")[0]) for r in found.rejects] == [
        ("structure-1", "disordered"),
        ("structure-3", "not periodic in three directions"),
    ]
    np.testing.assert_array_equal(found.columns["gap"].values, [np.nan, 7, 7.5, np.nan])
    assert found.columns["note"].values.tolist() == ["", "x", 'a "b"', ""]
    for i in (1, 2, 3):
        one = found.crystals[i]
        np.testing.assert_array_equal(one.lattice, crystals.lattice)
        np.testing.assert_allclose(one.frac_coords, crystals.frac_coords, atol=1e-15)
    again = pigen.read(found)
    assert again.ids.tolist() == found.ids.tolist()
    assert again.rejects == found.rejects


@pytest.mark.parametrize(("source", "says"), [(3, "from int"), ("gone.cif", "no such file")])
def test_what_is_no_source_is_refused(source: object, says: str) -> None:
    with pytest.raises(pigen.UsageError, match=says):
        pigen.read(source)  # type: ignore[arg-type]


# -- the same as the commands ---------------------------------------------------------------------
def test_labels_are_those_of_the_command(cifs: Path, tmp_path: Path) -> None:
    values = tmp_path / "gaps.csv"
    values.write_text("id,gap\n" + "".join(f"{n},{i}\n" for i, n in enumerate(NAMES)))
    command("label", cifs, "--columns", "c,k", "--values", values, "-o", tmp_path / "l.h5")
    assert_same(pigen.label(cifs, ["c", "k"], values=values), tmp_path / "l.h5")


def test_energy_rank_and_export_are_those_of_the_commands(cifs: Path, tmp_path: Path) -> None:
    emt = "ase.calculators.emt:EMT"
    command("energy", cifs / "Cu.cif", "--model", emt, "-o", tmp_path / "e.h5")
    assert_same(pigen.energy(cifs / "Cu.cif", potential=emt, device="cpu"), tmp_path / "e.h5")
    asked = ("--n", 3, "--by", "density:desc", "--keep-known")
    command("rank", cifs, *asked, "-o", tmp_path / "best")
    best = pigen.rank(cifs, 3, by="density:desc", keep_known=True, out=tmp_path / "mine")
    assert_same(best, tmp_path / "best.h5")
    assert (tmp_path / "mine.csv").read_text() == (tmp_path / "best.csv").read_text()
    assert len(list((tmp_path / "mine").glob("*.cif"))) == 3
    with pytest.raises(pigen.UsageError, match="exists"):
        pigen.rank(cifs, 3, by="density", out=tmp_path / "mine")
    command("export", tmp_path / "best.h5", "--format", "csv", "-o", tmp_path / "best_all.csv")
    assert pigen.export(best, tmp_path / "all.csv") == 3
    assert (tmp_path / "all.csv").read_text() == (tmp_path / "best_all.csv").read_text()


def test_report_is_a_page_about_what_it_is_given(cifs: Path, tmp_path: Path) -> None:
    path = pigen.report(pigen.read(cifs), tmp_path / "page.html", most=2)
    assert path == tmp_path / "page.html"
    assert "<title>page – PIGEN</title>" in path.read_text("utf-8")
    import_module("pigen.report.build")  # what is a package too stays callable
    assert callable(pigen.report)
    assert callable(pigen.energy)


# -- a bundle in a notebook -----------------------------------------------------------------------
def test_a_bundle_is_chosen_from_by_mask_id_place_and_slice(cifs: Path) -> None:
    bundle = pigen.read(cifs)
    assert len(bundle) == 6
    assert bundle["MgO"].crystals.reduced_formulas() == ["Mg1O1"]
    assert bundle[-1].ids.tolist() == ["ZnS"]
    assert bundle[1:3].ids.tolist() == ["MgO", "Si"]
    assert bundle[bundle.crystals.n_atoms == 8].ids.tolist() == ["MgO", "Si", "ZnS"]
    assert bundle[[3, 0]].ids.tolist() == ["SrTiO3", "Cu"]
    assert bundle[1:3].rejects == ()
    assert [one.ids[0] for one in bundle] == bundle.ids.tolist()
    with pytest.raises(KeyError, match="gone"):
        _ = bundle["gone"]
    with pytest.raises(IndexError):
        _ = bundle[6]


def test_a_notebook_shows_a_short_table_in_which_no_markup_of_others_lives(cifs: Path) -> None:
    bundle = pigen.read(cifs)
    evil = "<script>alert(1)</script>"
    many = pigen.Bundle.concatenate([bundle] * 3)
    ids = [evil, *many.ids[1:]]
    shown = pigen.Bundle(crystals=many.crystals, ids=ids, rejects=many.rejects)._repr_html_()
    assert evil not in shown
    assert shown.count("<tr") == 9 + 1  # a heading of two rows
    assert "18 crystals" in shown
    assert "10 more crystals; 3 rejects" in shown


def test_a_bundle_is_looked_at_in_a_widget(cifs: Path) -> None:
    pytest.importorskip("weas_widget", reason="weas-widget is not installed ('.[report]')")
    chosen, viewer = pigen.read(cifs).view().children
    assert [label.split()[0] for label, _ in chosen.options] == [
        "Cu",
        "MgO",
        "Si",
        "SrTiO3",
        "TiO2",
        "ZnS",
    ]
    assert set(viewer.atoms["species"]) == {"Cu"}
    chosen.value = 3
    assert set(viewer.atoms["species"]) == {"Sr", "Ti", "O"}
    assert viewer.bondSettings["O-Ti"]["max"] < 2.5


def test_what_has_no_label_is_a_warning(tmp_path: Path) -> None:
    values = tmp_path / "gaps.csv"
    values.write_text("id,gap\ncrystal-1,3\n")
    crystals = pigen.Crystals.concatenate([known_structures()["MgO"].crystals] * 3)
    with pytest.warns(UserWarning, match=r"of 3 structures: 2 no row in gaps.csv"):
        labelled = pigen.label(crystals, [], values=values)
    np.testing.assert_array_equal(labelled.columns["gap"].values, [np.nan, 3, np.nan])


def test_filters_are_those_of_the_command(cifs: Path, tmp_path: Path) -> None:
    command(
        *("filter", cifs, "--c", "0.4:0.85", "--k", "0.5", "--where", "space_group=:223"),
        *("-o", tmp_path / "f.h5"),
    )
    asked = {"c": (0.4, 0.85), "k": 0.5, "where": {"space_group": (None, 223)}}
    kept = pigen.filter(cifs, **asked)  # type: ignore[arg-type]
    assert 0 < len(kept) < len(NAMES)
    assert len(kept) + len(kept.rejects) == len(NAMES) + 1
    assert_same(kept, tmp_path / "f.h5")
    judged = pigen.filter(cifs, **asked, keep_all=True)  # type: ignore[arg-type]
    assert len(judged) == len(NAMES)
    reasons = judged.to_pandas()["verdict_c"]
    assert reasons["MgO"] == "passed"
    assert reasons["Cu"].startswith("c not below 0.85: ")


def test_a_window_that_is_none_is_refused(cifs: Path) -> None:
    with pytest.raises(pigen.UsageError, match="c: give a window"):
        pigen.filter(cifs, c=0.5)
    with pytest.raises(pigen.UsageError, match="k: expected"):
        pigen.filter(cifs, k=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(pigen.UsageError, match="where: c has an argument of its own"):
        pigen.filter(cifs, where={"c": (0.4, 0.5)})
    with pytest.raises(pigen.UsageError, match="must be below"):
        pigen.filter(cifs, c=(0.9, 0.5))


def test_samples_are_those_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, models.model(models.header()).state_dict(), models.header())
    experiment = tmp_path / "e.toml"
    experiment.write_text(
        'name = "sample"\nseed = 3\n[sample]\nn = 3\nsteps = 4\nbatch_size = 2\ndevice = "cpu"\n'
        f'checkpoint = "{path}"\n[sample.targets]\nc = [0.6, 0.7]\n'
    )
    command("sample", experiment, "-o", tmp_path / "s.h5")
    drawn = pigen.sample(
        np.int64(3),  # type: ignore[arg-type]
        targets={"c": (0.6, 0.7)},
        checkpoint=path,
        seed=3,
        steps=4,
        batch_size=2,
        device="cpu",
    )
    assert_same(drawn, tmp_path / "s.h5")
    with pytest.raises(pigen.UsageError, match=r"sample.n: must be at least 1"):
        pigen.sample(0)
    with pytest.raises(pigen.UsageError, match=r"did you mean sample.steps"):
        pigen.sample(1, stesp=3)


# -- the edge -------------------------------------------------------------------------------------
def test_bundles_go_out_with_their_values(cifs: Path) -> None:
    bundle = pigen.label(cifs, ["c"])
    frame = bundle.to_pandas()
    assert frame.index.tolist() == sorted(NAMES)
    assert frame.loc["MgO", ["formula", "n_atoms"]].tolist() == ["MgO", 8]
    assert frame.loc["MgO", "c"] == pytest.approx(0.8063, abs=1e-4)
    i = bundle.ids.tolist().index("MgO")
    structure, atoms = bundle.to_pymatgen()[i], bundle.to_ase()[i]
    assert structure.properties == {"id": "MgO", "c": frame.loc["MgO", "c"]}
    assert atoms.info == structure.properties
    assert structure.composition.reduced_formula == atoms.get_chemical_formula("metal", True)
    assert pigen.read(bundle.to_pymatgen()).ids.tolist() == bundle.ids.tolist()
    assert pigen.read(bundle.to_ase()).ids.tolist() == bundle.ids.tolist()


# -- what is shown --------------------------------------------------------------------------------
def test_the_examples_of_the_functions_are_right() -> None:
    found = doctest.testmod(import_module("pigen.api"))
    assert found.attempted > 8
    assert found.failed == 0


def test_the_examples_of_the_page_are_right(cifs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cifs.parent)
    page = (ROOT / "docs/api.md").read_text("utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/api.md", None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)
