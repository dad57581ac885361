"""VASP inputs out and energies back, through files of VASP's layout."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from known_structures import known_structures
from vasprun import vasprun

from pigen.bundle import Bundle, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.energy.hull import Reference
from pigen.energy.hull.reference import Entry

MGO = known_structures()["MgO"].crystals


def element(symbol: str) -> Crystals:
    return Crystals.single(3 * np.eye(3), np.zeros((1, 3)), [Z_OF[symbol]])


PHASES = Bundle(
    crystals=Crystals.concatenate([element("Mg"), element("O"), MGO, element("Fe")]),
    ids=strings(["mg", "o", "mgo", "fe"]),
)
CANDIDATES = Bundle(
    crystals=Crystals.concatenate([MGO, MGO, known_structures()["MgAl2O4"].crystals]),
    ids=strings(["cand/1", "cand 1", "spinel"]),
)
TITLES = {"Mg": "PAW_PBE Mg_pv 13Apr2007", "Fe": "PAW_PBE Fe_pv 02Aug2007"}


def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    return result


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    entries = (
        Entry("Mg1", -1.6, "mg"),
        Entry("O1", -4.9, "o"),
        Entry("Mg1O1", -6.1, "mgo"),
        Entry("Fe1", -8.0, "fe"),
    )
    folder = tmp_path / "ref"
    Reference(entries, "chgnet", "four entries").write(folder)
    write_bundle(folder / "phases.h5", PHASES)
    return folder


@pytest.fixture
def exported(tmp_path: Path, reference: Path) -> Path:
    source = tmp_path / "near.h5"
    write_bundle(source, CANDIDATES)
    folder = tmp_path / "vasp"
    args = ("--competing", "--reference", reference, "-o", folder)
    result = pigen("dft-export", source, *args)
    assert f"{folder}: 3 candidates, 3 competing phases" in result.stdout
    assert "      1  no hull: Al\n" in result.stdout
    assert "6 have a POTCAR.spec in place of a POTCAR" in result.stdout
    return folder


def calculate(folder: Path, place: str, energy: float, **options: Any) -> None:
    """What VASP leaves behind: energies in eV/atom."""
    bundle = read_bundle(folder / "exported.h5")
    row = bundle.columns["folder"].values.tolist().index(place)
    one = bundle.crystals[row]
    options = {"titles": TITLES, **options}
    text = vasprun(one, energy * int(one.n_atoms[0]), **options)
    (folder / place / "vasprun.xml").write_text(text, encoding="utf-8")


def test_inputs_are_those_of_the_paper(exported: Path) -> None:
    from pymatgen.io.vasp import Incar, Poscar

    folder = exported / "candidate" / "spinel"
    incar = Incar.from_file(folder / "INCAR")
    paper = {"ENCUT": 600, "KSPACING": 0.3, "KGAMMA": True, "EDIFF": 1e-6, "NSW": 0}
    assert {key: incar[key] for key in paper} == paper
    poscar = Poscar.from_file(folder / "POSCAR", check_for_potcar=False)
    assert poscar.structure.composition.reduced_formula == "MgAl2O4"
    potentials = (folder / "POTCAR.spec").read_text().split()
    assert [p.partition("_")[0] for p in potentials] == poscar.site_symbols
    assert not (folder / "KPOINTS").exists()
    with (exported / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["folder"] for row in rows] == [
        "candidate/cand_1",
        "candidate/cand_1_2",
        "candidate/spinel",
        "competing/mg",
        "competing/o",
        "competing/mgo",
    ]  # Al has no reference, so MgAl2O4 brings no phases
    assert rows[1]["id"] == "cand 1"
    assert (rows[2]["formula"], rows[2]["n_atoms"]) == ("MgAl2O4", "56")


def test_energies_come_back(exported: Path, tmp_path: Path) -> None:
    calculate(exported, "candidate/cand_1", -5.95)
    calculate(exported, "candidate/cand_1_2", -6.25)
    calculate(exported, "candidate/spinel", -6.5)
    for place, energy in (("mg", -1.5), ("o", -4.5), ("mgo", -6.0)):
        calculate(exported, f"competing/{place}", energy)
    text = (exported / "competing/mgo/vasprun.xml").read_bytes()
    (exported / "competing/mgo/vasprun.xml").unlink()
    (exported / "competing/mgo/vasprun.xml.gz").write_bytes(gzip.compress(text))
    result = pigen("dft-collect", exported, "--json")
    counts = json.loads(result.stdout)
    assert counts["candidates_with_energy"] == counts["candidates"] == 3
    assert counts["competing_with_energy"] == 3
    assert counts["no_hull"] == {"no hull: Al": 1}
    found = read_bundle(exported / "collected.h5")
    assert found.ids.tolist() == ["cand/1", "cand 1", "spinel"]
    np.testing.assert_allclose(found.columns["e_dft"].values, [-5.95, -6.25, -6.5], atol=1e-6)
    np.testing.assert_allclose(found.columns["e_hull_dft"].values[:2], [0.05, -0.25], atol=1e-6)
    assert found.columns["e_hull_dft_reason"].values.tolist() == ["", "", "no hull: Al"]
    assert "hull of 3 competing phases" in found.columns["e_hull_dft"].source
    # Aluminium from elsewhere completes the hull: MgO + 2 Al + 3 O are (-12 - 8 - 13.5)/7.
    table = tmp_path / "mine.csv"
    table.write_text("formula,energy\nAl,-4.0\n", encoding="utf-8")
    Reference((Entry("Al1", -4.0, "al"),), "", "aluminium").write(tmp_path / "al")
    pigen("dft-collect", exported, "--reference", tmp_path / "al", "--force")
    spinel = read_bundle(exported / "collected.h5").columns["e_hull_dft"].values[2]
    assert spinel == pytest.approx(-6.5 + 33.5 / 7, abs=1e-6)


def test_failures_are_counted_with_reasons(exported: Path) -> None:
    calculate(exported, "candidate/cand_1", -5.9, encut=520)
    calculate(exported, "candidate/cand_1_2", -5.9, steps=5, nelm=5)
    (exported / "candidate/spinel/vasprun.xml").write_text("<modeling><generator>")
    calculate(exported, "competing/mg", -1.5, titles={"Mg": "PAW_PBE Mg 13Apr2007"})
    swapped = vasprun(element("Fe"), -8.0, titles=TITLES)
    (exported / "competing/o/vasprun.xml").write_text(swapped, encoding="utf-8")
    result = pigen("dft-collect", exported)
    found = read_bundle(exported / "collected.h5")
    assert np.isnan(found.columns["e_dft"].values).all()
    assert np.isnan(found.columns["e_hull_dft"].values).all()
    status = found.columns["dft_status"].values.tolist()
    assert status[0] == "settings differ: ENCUT 520.0 instead of 600.0"
    assert status[1].startswith("not converged: ")
    assert status[2].startswith("unreadable: ")
    assert found.columns["e_hull_dft_reason"].values[0] == f"no e_dft: {status[0]}"
    for reason in ("settings differ", "another potential", "another structure", "no vasprun.xml"):
        assert f"      1  {reason}\n" in result.stdout


def test_incar_can_be_changed(tmp_path: Path) -> None:
    from pymatgen.io.vasp import Incar

    source = tmp_path / "one.h5"
    write_bundle(source, CANDIDATES.select([0]))
    pigen("dft-export", source, "-o", tmp_path / "v", "--incar", "ISPIN=2", "--incar", "encut=520")
    incar = Incar.from_file(tmp_path / "v" / "candidate" / "cand_1" / "INCAR")
    assert (incar["ISPIN"], incar["ENCUT"], incar["KSPACING"]) == (2, 520, 0.3)


@pytest.mark.parametrize(("preset", "moves"), [("mp", 0), ("mp-relax", 99)])
def test_inputs_of_the_materials_project(
    tmp_path: Path, reference: Path, preset: str, moves: int
) -> None:
    from pymatgen.io.vasp import Incar, Kpoints, Poscar

    oxide = Crystals.single(4.3 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [8, 26])
    source, folder = tmp_path / "fe.h5", tmp_path / "vasp"
    write_bundle(
        source, replace(CANDIDATES.select([0, 1]), crystals=Crystals.concatenate([oxide] * 2))
    )
    args = ("--competing", "--reference", reference, "--preset", preset, "--incar", "NELM=150")
    result = pigen("dft-export", source, *args, "-o", folder)
    assert "2 competing phases for 2 candidates\n" in result.stderr  # Fe and O, each once
    place = folder / "candidate" / "cand_1"
    incar = Incar.from_file(place / "INCAR")
    assert (incar["ISPIN"], incar["NSW"], incar["LDAUU"], incar["NELM"]) == (
        2,
        moves,
        [5.3, 0],
        150,
    )
    poscar = Poscar.from_file(place / "POSCAR", check_for_potcar=False)
    assert poscar.site_symbols == ["Fe", "O"]  # as MAGMOM and +U are listed
    assert (place / "POTCAR.spec").read_text().split() == ["Fe_pv", "O"]
    assert Kpoints.from_file(place / "KPOINTS").kpts[0][0] > 3
    metal = Incar.from_file(folder / "competing" / "fe" / "INCAR")
    assert "LDAUU" not in metal
    assert metal["ISPIN"] == 2


def test_many_competing_phases_are_asked_for(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pigen.cli.dft.MANY", 2)
    source = tmp_path / "near.h5"
    write_bundle(source, CANDIDATES)
    args = ("dft-export", source, "--competing", "--reference", reference, "-o", tmp_path / "v")
    said = pigen(*args, expect=2).stderr.splitlines()
    assert said[0] == "3 competing phases for 3 candidates"
    assert "3 competing phases are as many calculations; --yes writes them" in said[1]
    assert not (tmp_path / "v").exists()
    pigen(*args, "--yes")


def test_the_verb_offers_every_preset() -> None:
    from pigen.cli.dft import dft_export
    from pigen.energy.dft.vasp import PRESETS

    (option,) = (one for one in dft_export.params if one.name == "preset")
    assert list(getattr(option.type, "choices", ())) == list(PRESETS)


def test_potcar_is_written_from_the_users_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.core import SETTINGS

    for name in ("Mg_pv", "O"):
        place = tmp_path / "psp" / "POT_GGA_PAW_PBE_54" / name
        place.mkdir(parents=True)
        text = f"  PAW_PBE {name} 01Jan2000\n 2.00000000000000\n parameters from PSCTR are:\n"
        text += f"   VRHFIN ={name.partition('_')[0]}: s2\n   LEXCH  = PE\n"
        text += f"   TITEL  = PAW_PBE {name} 01Jan2000\n   ENMAX  =  400.0; ENMIN  =  300.0 eV\n"
        text += " END of PSCTR-controll parameters\n local part\n 93.7 0.17E+02\n End of Dataset\n"
        (place / "POTCAR").write_text(text, encoding="utf-8")
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path / "psp"))
    source = tmp_path / "two.h5"
    write_bundle(source, CANDIDATES.select([0, 2]))
    from pigen.energy.dft.vasp import _potcar

    _potcar.cache_clear()
    result = pigen("dft-export", source, "-o", tmp_path / "v", "--json")
    _potcar.cache_clear()
    assert json.loads(result.stdout)["with_potcar"] == 1
    written = (tmp_path / "v" / "candidate" / "cand_1" / "POTCAR").read_text()
    assert written.index("TITEL  = PAW_PBE Mg_pv") < written.index("TITEL  = PAW_PBE O")
    assert not (tmp_path / "v" / "candidate" / "spinel" / "POTCAR").exists()


def test_wrong_requests_end_before_any_work(tmp_path: Path, reference: Path) -> None:
    source, nothing = tmp_path / "near.h5", tmp_path / "nothing.h5"
    write_bundle(source, CANDIDATES)
    write_bundle(nothing, Bundle.empty())
    taken = tmp_path / "taken"
    taken.mkdir()
    exotic = tmp_path / "exotic.h5"
    write_bundle(exotic, replace(CANDIDATES.select([0]), crystals=element("Es")))
    for args, said in (
        ((source, "-o", taken), "exists"),
        ((nothing, "-o", tmp_path / "v"), "no candidates"),
        ((source, "-o", tmp_path / "v", "--incar", "ISPIN"), "expected TAG=VALUE"),
        ((source, "-o", tmp_path / "v", "--reference", reference), "--competing"),
        ((exotic, "-o", tmp_path / "v"), "no PAW potential for Es"),
    ):
        assert said in pigen("dft-export", *args, expect=2).stderr
        assert not (tmp_path / "v").exists()
    (reference / "phases.h5").unlink()
    args = ("--competing", "--reference", reference, "-o", tmp_path / "v")
    assert "has no structures" in pigen("dft-export", source, *args, expect=2).stderr
    assert "not a folder of `pigen dft-export`" in pigen("dft-collect", taken, expect=2).stderr
