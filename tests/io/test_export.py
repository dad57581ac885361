"""Exports: what other programs read back is the crystal that was written."""

from __future__ import annotations

import csv
import os
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from real_crystals import ALL, PEROVSKITE, QUARTZ, bundle_of

from pigen.bundle import Bundle, Column, strings, write_bundle
from pigen.cli import main
from pigen.config.files import EXPORT_FORMATS as FORMATS
from pigen.crystal.crystals import Crystals
from pigen.io import Limits, read
from pigen.io.cif_text import to_cif
from pigen.io.entry import Structure
from pigen.io.export import export_bundle, safe_name, to_poscar
from pigen.io.formats import parse
from pigen.runtime.errors import PigenError, UsageError

TARGETS = {
    "cif": ["out", "out.zip"],
    "poscar": ["out", "out.zip"],
    "extxyz": ["out.extxyz"],
    "csv": ["out.csv"],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b.h5", bundle_of(30))
    return tmp_path / "b.h5"


def places(crystal: Crystals) -> list[tuple[int, tuple[float, ...]]]:
    """Atoms with their distances to all others, which know no order and no rotation."""
    delta = crystal.frac_coords[:, None] - crystal.frac_coords[None]
    shells = []
    for shift in np.ndindex(3, 3, 3):
        images = delta - np.round(delta) + np.array(shift) - 1
        shells.append(np.linalg.norm(images @ crystal.lattice[0], axis=-1))
    distances = np.sort(np.array(shells).transpose(1, 0, 2).reshape(len(delta), -1), axis=1)
    listed = zip(crystal.atomic_numbers.tolist(), distances.round(5).tolist(), strict=True)
    return sorted((z, tuple(row)) for z, row in listed)


@pytest.mark.parametrize(("form", "name"), [(f, t) for f in FORMATS for t in TARGETS[f]])
def test_round_trip(source: Path, tmp_path: Path, form: str, name: str) -> None:
    target = tmp_path / name
    assert export_bundle(source, target, form) == 30
    bundle, again = read(source), read(target)
    assert again.rejects == ()
    order = {key: i for i, key in enumerate(again.ids)}
    again = again.select([order[key] for key in bundle.ids])
    for ours, theirs in zip(bundle.crystals, again.crystals, strict=True):
        assert places(ours) == places(theirs)
    if form in ("csv", "extxyz"):
        assert again.parents.tolist() == bundle.parents.tolist()
        energy, formula = bundle.columns["energy"], bundle.columns["formula"]
        np.testing.assert_array_equal(again.columns["energy"].values, energy.values)
        assert again.columns["formula"].values.tolist() == formula.values.tolist()
        said = again.columns["verdict_low"].values == "passed"
        assert said.tolist() == bundle.verdicts["low"].passed.tolist()
    assert sorted(os.listdir(tmp_path)) == sorted(["b.h5", name])


def test_real_structures_round_trip(shared_data: Path, tmp_path: Path) -> None:
    bundle = read(shared_data / "mp20" / "test.csv.gz").select(slice(None, None, 30))
    write_bundle(tmp_path / "b.h5", replace(bundle, provenance={}))
    for form in ("extxyz", "csv"):
        export_bundle(tmp_path / "b.h5", tmp_path / form, form)
        again = read(tmp_path / form)
        assert again.ids.tolist() == bundle.ids.tolist()
        assert again.crystals.atomic_numbers.tolist() == bundle.crystals.atomic_numbers.tolist()
        delta = again.crystals.frac_coords - bundle.crystals.frac_coords
        assert np.abs(delta - np.round(delta)).max() < 1e-9
        for name, column in bundle.columns.items():
            np.testing.assert_array_equal(again.columns[name].values, column.values)


def test_cif_as_pymatgen_reads_it() -> None:
    from pymatgen.io.cif import CifParser

    for crystal in ALL:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser = CifParser.from_str(to_cif(crystal, "a b\n'c'"))
            (structure,) = parser.parse_structures(primitive=False)
        assert places(Crystals.from_pymatgen([structure])) == places(crystal)


def test_poscar_as_ase_reads_it(tmp_path: Path) -> None:
    from ase.io import read as read_ase

    for crystal in ALL:
        (tmp_path / "POSCAR").write_text(to_poscar(crystal, "two\nlines"))
        atoms = read_ase(tmp_path / "POSCAR", format="vasp")
        found = Crystals.single(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        assert places(found) == places(crystal)


def test_extxyz_as_ase_reads_it(source: Path, tmp_path: Path) -> None:
    from ase.io import read as read_ase

    export_bundle(source, tmp_path / "a.extxyz", "extxyz")
    bundle = read(source)
    frames = read_ase(tmp_path / "a.extxyz", index=":")
    assert len(frames) == 30
    for i, frame in enumerate(frames):
        crystal = bundle.crystals[i]
        np.testing.assert_allclose(frame.cell.array, crystal.lattice[0], atol=1e-12)
        cartesian = crystal.frac_coords @ crystal.lattice[0]
        np.testing.assert_allclose(frame.positions, cartesian, atol=1e-12)
        assert frame.info["id"] == bundle.ids[i]
        motif = bundle.columns["motif"].values
        window = slice(bundle.crystals.ptr[i], bundle.crystals.ptr[i + 1])
        assert frame.arrays["motif"].tolist() == motif[window].tolist()


@pytest.mark.parametrize("write", [to_cif, to_poscar])
def test_a_left_handed_cell_keeps_its_crystal(tmp_path: Path, write: object) -> None:
    """Chiral quartz in a left-handed cell is not written as its mirror image."""
    swapped = Crystals.single(
        QUARTZ.lattice[0][[1, 0, 2]], QUARTZ.frac_coords[:, [1, 0, 2]], QUARTZ.atomic_numbers
    )
    assert np.linalg.det(swapped.lattice[0]) < 0
    path = tmp_path / ("a.cif" if write is to_cif else "a.vasp")
    path.write_text(write(swapped, "x"))  # type: ignore[operator]
    found = read(path).crystals
    assert np.linalg.det(found.lattice[0]) > 0
    assert space_group(QUARTZ) == space_group(found) != space_group(mirrored(QUARTZ))


def mirrored(crystal: Crystals) -> Crystals:
    return Crystals.single(-crystal.lattice[0], crystal.frac_coords, crystal.atomic_numbers)


def space_group(crystal: Crystals) -> int:
    import spglib

    # spglib takes Cartesian chirality from the cell, so a mirror image has the other group.
    lattice, frac = crystal.lattice[0], crystal.frac_coords
    if np.linalg.det(lattice) < 0:
        lattice, frac = -lattice, -frac
    found = spglib.get_symmetry_dataset((lattice, frac, crystal.atomic_numbers), symprec=1e-2)
    return int(found.number)


# -- names and places ----------------------------------------------------------------------------
@given(st.text(max_size=300))
def test_safe_names(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= 100
    assert safe == os.path.basename(safe)
    assert safe.isascii()
    assert safe[0] not in ".-"


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_hostile_ids_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    ids = ["../../etc/passwd", "/abs", "a/b", "a b", "A_B", "", "..", "x" * 999, "a\nb", "CON"]
    crystals = Crystals.concatenate([PEROVSKITE] * len(ids))
    write_bundle(tmp_path / "b.h5", Bundle(crystals=crystals, ids=strings(ids)))
    export_bundle(tmp_path / "b.h5", tmp_path / name, "cif")
    if name == "out":
        files = os.listdir(tmp_path / "out")
    else:
        files = zipfile.ZipFile(tmp_path / "out.zip").namelist()
    assert len({file.lower() for file in files}) == len(ids)
    assert all(Path(file).stem == safe_name(Path(file).stem) for file in files)
    assert sorted(os.listdir(tmp_path)) == sorted(["b.h5", name])
    assert len(read(tmp_path / name)) == len(ids)


def test_an_archive_is_reproducible(source: Path, tmp_path: Path) -> None:
    for name in ("1.zip", "2.zip"):
        export_bundle(source, tmp_path / name, "cif")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_existing_targets(source: Path, tmp_path: Path) -> None:
    for form, name in (("csv", "a.csv"), ("cif", "a.zip"), ("cif", "folder")):
        export_bundle(source, tmp_path / name, form)
        with pytest.raises(UsageError, match=f"{name} exists; --force replaces it"):
            export_bundle(source, tmp_path / name, form)
        export_bundle(source, tmp_path / name, form, force=True)
    (tmp_path / "folder" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="other files in it"):
        export_bundle(source, tmp_path / "folder", "cif", force=True)
    with pytest.raises(UsageError, match="other files in it"):
        export_bundle(source, tmp_path / "folder", "csv", force=True)
    with pytest.raises(UsageError, match="no such folder"):
        export_bundle(source, tmp_path / "no" / "a.csv", "csv")
    with pytest.raises(UsageError, match="no export format 'pdf'"):
        export_bundle(source, tmp_path / "a.pdf", "pdf")


@pytest.mark.parametrize(("form", "name"), [(f, t) for f in FORMATS for t in TARGETS[f]])
def test_a_failed_export_leaves_nothing(source: Path, tmp_path: Path, form: str, name: str) -> None:
    def broken(chunks: object) -> object:
        yield next(iter(chunks))  # type: ignore[call-overload]
        raise OSError("the disk is full")

    with pytest.raises(PigenError, match=f"cannot write .*{name}: the disk is full"):
        export_bundle(source, tmp_path / name, form, progress=broken)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["b.h5"]


def test_csv_has_one_row_per_crystal(source: Path, tmp_path: Path) -> None:
    export_bundle(source, tmp_path / "a.csv", "csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert list(rows[0]) == [
        *("id", "parent", "energy", "count", "known", "formula", "verdict_low", "cif"),
    ]


@pytest.mark.parametrize(
    "name", ["CON", "nul", "Aux.x", "com1", "LPT9.cif", "prn.a.b", "a.", "a.."]
)
def test_names_that_windows_takes(name: str) -> None:
    safe = safe_name(name)
    assert safe.lower().split(".")[0] not in ("con", "nul", "aux", "com1", "lpt9", "prn")
    assert not safe.endswith(".")
    assert safe_name(safe) == safe


def test_long_integers_survive(tmp_path: Path) -> None:
    values = np.array([12345678901234567, -(2**62), 7])
    bundle = Bundle(
        crystals=Crystals.concatenate([PEROVSKITE] * 3),
        ids=strings("abc"),
        columns={"long": Column(values, "", "a test")},
    )
    write_bundle(tmp_path / "b.h5", bundle)
    for form in ("csv", "extxyz"):
        export_bundle(tmp_path / "b.h5", tmp_path / form, form)
        again = read(tmp_path / form).columns["long"].values
        assert [int(x) for x in again] == values.tolist()


# -- symmetry ------------------------------------------------------------------------------------
def assert_same_places(a: Crystals, b: Crystals, atol: float) -> None:
    """The same atoms within a tolerance in Å, by all distances below 4 Å."""
    for ours, theirs in zip(places(a), places(b), strict=True):
        assert ours[0] == theirs[0]
        n = int((np.array(ours[1]) < 4).sum())
        np.testing.assert_allclose(ours[1][:n], theirs[1][:n], atol=atol)


@pytest.mark.parametrize("crystal", ALL)
def test_symmetry_is_written_and_read_back(tmp_path: Path, crystal: Crystals) -> None:
    from pymatgen.io.cif import CifParser

    shifted = Crystals.single(
        crystal.lattice[0],
        crystal.frac_coords + np.array([0.123, 0.234, 0.345]),
        crystal.atomic_numbers,
    )
    text = to_cif(shifted, "x", symprec=0.01)
    number = space_group(crystal)
    assert f"_symmetry_Int_Tables_number {number}\n" in text
    (tmp_path / "a.cif").write_text(text)
    again = read(tmp_path / "a.cif").crystals
    assert_same_places(crystal, again, 1e-3)
    assert space_group(again) == number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (theirs,) = CifParser.from_str(text).parse_structures(primitive=False)
    assert_same_places(crystal, Crystals.from_pymatgen([theirs]), 1e-3)


def test_symmetry_of_real_structures(shared_data: Path) -> None:
    """Nearly all have some, and read back they have the same atoms at the same distances."""
    bundle = read(shared_data / "mp20" / "test.csv.gz").select(slice(None, None, 60))
    symmetric = 0
    for crystal in bundle.crystals:
        text = to_cif(crystal, "x", symprec=0.01)
        ((_, found),) = parse(text, "cif", Limits())
        assert isinstance(found, Structure), found
        again = Crystals.single(found.lattice, found.frac_coords, found.atomic_numbers)
        assert_same_places(crystal, again, 0.02)
        symmetric += "Int_Tables_number 1\n" not in text
    assert symmetric >= 0.9 * len(bundle)


def test_symmetry_goes_into_cif_alone(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="symmetry goes into CIF alone"):
        export_bundle(source, tmp_path / "a.csv", "csv", symprec=0.01)
    assert export_bundle(source, tmp_path / "cifs", "cif", symprec=0.1, most=7) == 7
    assert len(read(tmp_path / "cifs")) == 7


def test_a_submission(source: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        main, ["export", str(source), "--for", "lemat-genbench", "-o", str(tmp_path / "out")]
    )
    assert run.exit_code == 0, run.output
    assert "30 crystals" in run.output
    assert "2470 fewer than the 2,500 of a submission" in run.output
    assert len(list((tmp_path / "out").glob("*.cif"))) == 30
    run = CliRunner().invoke(main, ["export", str(source), "-o", str(tmp_path / "x")])
    assert run.exit_code == 2
