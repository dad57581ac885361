"""Readers: every kind of source, checked against the libraries whose formats they are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_crystals import ALL, COPPER, NACL, PEROVSKITE, QUARTZ, assert_same, bundle_of

from pigen.bundle import Bundle, count_rejects, write_bundle
from pigen.crystal.crystals import Crystals
from pigen.io import Limits, read, read_chunks
from pigen.io.cif_text import to_cif
from pigen.io.entry import NOTE, Refused, Structure, checked
from pigen.io.export import to_poscar
from pigen.io.forms.cif import parse_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import Where, open_executor

CIF = to_cif(NACL, "NaCl")


def names(bundle: Bundle) -> list[str]:
    return [str(i) for i in bundle.ids]


def reasons(bundle: Bundle) -> list[str]:
    return [reject.reason for reject in bundle.rejects]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def assert_close(a: Crystals, b: Crystals, atol: float = 1e-6) -> None:
    """Same cells up to rotation, same atoms in the same order."""
    assert a.ptr.tolist() == b.ptr.tolist()
    assert a.atomic_numbers.tolist() == b.atomic_numbers.tolist()
    metric = [c.lattice @ c.lattice.transpose(0, 2, 1) for c in (a, b)]
    np.testing.assert_allclose(metric[0], metric[1], atol=100 * atol)
    delta = a.frac_coords - b.frac_coords
    assert np.abs(delta - np.round(delta)).max(initial=0) < atol


def sorted_distances(lattice: Any, frac: Any) -> np.ndarray:
    delta = frac[:, None] - frac[None]
    delta -= np.round(delta)
    return np.sort(np.linalg.norm(delta @ lattice, axis=-1).ravel())


def one_structure(text: str, limits: Limits | None = None) -> Structure:
    limits = limits or Limits(max_atoms=2000)
    ((_, found),) = parse_cif(text, limits)
    if isinstance(found, Refused):
        raise found
    return checked(found, limits)


# -- CIF against pymatgen ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "step"),
    [("mp20/test", 18), ("generated/cdvae", 22), ("generated/llama2_7b", 32)],
)
def test_cif_equals_pymatgen(shared_data: Path, table: str, step: int) -> None:
    """About 100 of each table: same cell, same elements, same places."""
    from pymatgen.io.cif import CifParser

    path = shared_data / f"{table}.csv.gz"
    bundle = read(path)
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        texts = [row["cif"] for row in csv.DictReader(file)]
    assert len(bundle) == len(texts)
    for i in range(0, len(texts), step):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (expected,) = CifParser.from_str(texts[i]).parse_structures(primitive=False)
        ours = bundle.crystals[i]
        np.testing.assert_allclose(ours.lattice[0], expected.lattice.matrix, atol=1e-10)
        for z in np.unique(ours.atomic_numbers):  # pymatgen may group atoms anew
            theirs = expected.frac_coords[np.array(expected.atomic_numbers) == z]
            distance = sorted_distances(expected.lattice.matrix, theirs)
            mine = ours.frac_coords[ours.atomic_numbers == z]
            assert len(mine) == len(theirs)
            np.testing.assert_allclose(sorted_distances(ours.lattice[0], mine), distance, atol=5e-3)


@pytest.mark.parametrize(("digits", "step"), [(8, 45), (3, 60)])
def test_symmetry_is_expanded(shared_data: Path, digits: int, step: int) -> None:
    """The asymmetric unit, even rounded to 3 digits, gives the structure it was made from."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure as Reference
    from pymatgen.io.cif import CifWriter

    matcher = StructureMatcher(ltol=0.05, stol=0.05, angle_tol=2, scale=False)
    structures = read(shared_data / "mp20" / "test.csv.gz").crystals[::step].to_pymatgen()
    for structure in structures:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = str(CifWriter(structure, symprec=0.01, significant_figures=digits))
        found = one_structure(text)
        again = Reference(found.lattice, found.atomic_numbers.tolist(), found.frac_coords)
        assert again.composition.reduced_formula == structure.composition.reduced_formula
        assert matcher.fit(again, structure)


CUBIC = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na+ 0 0 0 1.0
Cl1 Cl- 0.5 0.5 0.5 1
"""


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'F m -3 m'",
        "_space_group_name_H-M_alt 'Fm-3m'",
        "_space_group_name_Hall '-F 4 2 3'",
        "_space_group_IT_number 225",
        "_symmetry_space_group_name_H-M 'nonsense'\n_symmetry_Int_Tables_number 225",
        "_symmetry_space_group_name_H-M 'F 4/m -3 2/m'",
        "_space_group.name_H-M_alt 'F m -3 m'\n_space_group.IT_number 225\n_atom_site.x 1",
    ],
)
def test_symmetry_by_name(symmetry: str) -> None:
    found = one_structure(CUBIC.format(symmetry=symmetry))
    assert sorted(found.atomic_numbers) == [11] * 4 + [17] * 4


def test_a_file_that_lists_whole_orbits_beside_the_symmetry() -> None:
    rows = "Na2 Na+ 0.5 0.5 0 1\nNa3 Na+ 0.5 0 0.5 1\nNa4 Na+ 0 0.5 0.5 1\n"
    text = CUBIC.format(symmetry="_symmetry_space_group_name_H-M 'F m -3 m'") + rows
    found = one_structure(text)
    assert sorted(found.atomic_numbers) == [11] * 4 + [17] * 4
    assert found.values[NOTE] == "all 4 images of Na1 are listed as sites"
    with pytest.raises(Refused, match="contradictory symmetry: Na2 is listed, and is an image of"):
        one_structure(text[: text.index("Na4")])


def test_rhombohedral_axes_by_angle() -> None:
    text = """data_x
_cell_length_a 4.0\n_cell_length_b 4.0\n_cell_length_c 4.0
_cell_angle_alpha 70\n_cell_angle_beta 70\n_cell_angle_gamma 70
_symmetry_space_group_name_H-M 'R -3 m'
loop_\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z
Bi 0.23 0.23 0.23
"""
    assert len(one_structure(text).atomic_numbers) == 2


CELL = "_cell_length_a 5.64"
TIDY = CUBIC.format(symmetry="")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TIDY.replace("1.0\n", "0.5\n"), "disordered: occupancy 0.5 at Na1"),
        (TIDY.replace("Na+", "Qq"), "unknown element: 'Qq'"),
        (TIDY.replace("Na+", "Rf"), "unknown element: 'Rf'"),
        (TIDY.replace("0 0 0", "0 0 ?"), "no coordinates: of Na1"),
        (TIDY.replace("0.5 0.5 0.5", "0 0 0"), "overlapping: two atoms closer"),
        (TIDY.replace(CELL, "_cell_length_a ?"), "no cell: a length"),
        (TIDY.replace(CELL, ""), "no cell: a length"),
        (TIDY.replace(CELL, "_cell_length_a -5"), "impossible cell"),
        (TIDY.replace("gamma 90", "gamma 180"), "impossible cell"),
        (TIDY.replace("alpha 90", "alpha 170").replace("beta 90", "beta 170"), "impossible"),
        (TIDY.replace(CELL, "_cell_length_a 1e-9"), "zero volume"),
        (TIDY.replace("5.64", "1e200"), "impossible cell"),
        (TIDY.replace("0 0 0", "0 0 1e400"), "no coordinates"),
        (TIDY[: TIDY.index("Na1")], "no coordinates"),
        (TIDY[:-5], "unreadable CIF"),
        ("hello", "unreadable CIF"),
        ("", "no structure"),
        ("data_a\n_x 1", "no structure"),
        (CUBIC.format(symmetry="_symmetry_space_group_name_H-M 'X y z'"), "unknown space group"),
        (CUBIC.format(symmetry="_symmetry_space_group_name_H-M 'F d -3 m'"), "ambiguous origin"),
        (CUBIC.format(symmetry="_symmetry_space_group_name_H-M 'P 6/m'"), "impossible symmetry"),
        (CUBIC.format(symmetry="_symmetry_equiv_pos_as_xyz x,y"), "impossible symmetry"),
        (
            CUBIC.format(symmetry="_space_group_symop_magn_operation.xyz x,y,z,+1"),
            "magnetic symmetry",
        ),
    ],
)
def test_cif_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.cif").write_text(text)
    bundle = read(tmp_path / "a.cif")
    assert len(bundle) == 0
    assert len(bundle.rejects) == 1
    assert bundle.rejects[0].id == "a"
    assert reason in bundle.rejects[0].reason


@pytest.mark.parametrize(
    "text",
    [
        TIDY.replace("Na+", "D").replace("Cl-", "T1+"),  # isotopes
        TIDY.replace("_atom_site_type_symbol", "_atom_site_x"),  # labels alone
        TIDY.replace("90", "90.00(2)"),  # uncertainties
        TIDY.upper().replace("CL", "Cl").replace("NA", "Na"),
        TIDY.replace("\n", "\r\n"),
        TIDY.replace("0.5 0.5 0.5", "0.5 -0.5 12.5"),
        TIDY + "Cl2 Cl- 0.1 0.1 0.1 0\n",  # an absent site
        TIDY + "data_b\n_publ_author 'N. N.'\n",
        "\ufeff# Müller\n" + TIDY,
        "Here is the CIF:\n```cif\n" + TIDY.replace("Na+ 0 0 0 1.0", "Na+ 0 0 0 1.0"),
        TIDY.replace(CELL, CELL + "\n_cell_volume 1\n_cell_volume 2"),  # lies, twice
        TIDY.replace(CELL, CELL + "\n_chemical_formula_sum Na1 Cl1\n_symmetry_cell_setting P 1"),
        CUBIC.format(symmetry="_symmetry_space_group_name_H-M   P 1"),
        TIDY.replace(CELL, "save_x\n" + CELL),
    ],
)
def test_untidy_cif_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.cif").write_text(text, encoding="utf-8")
    bundle = read(tmp_path / "a.cif")
    assert reasons(bundle) == []
    numbers = bundle.crystals.atomic_numbers.tolist()
    assert numbers == ([1, 1] if "T1+" in text else [11, 17])
    np.testing.assert_allclose(bundle.crystals.frac_coords, [[0] * 3, [0.5] * 3], atol=1e-12)


def test_labels_that_may_be_two_elements_are_refused() -> None:
    text = TIDY.replace("_atom_site_type_symbol", "_atom_site_x")
    with pytest.raises(Refused, match="uncertain element"):
        one_structure(text.replace("Na1", "CA1"))
    assert one_structure(text.replace("Na1", "OW1")).atomic_numbers.tolist() == [8, 17]


def test_blocks_are_entries(tmp_path: Path) -> None:
    bad = TIDY.replace("Na+", "Qq").replace("data_x", "data_y")
    (tmp_path / "many.cif").write_text(TIDY + bad + CIF + TIDY)
    bundle = read(tmp_path / "many.cif")
    assert names(bundle) == ["many#x", "many#NaCl", "many#x#2"]
    assert [r.id for r in bundle.rejects] == ["many#y"]


# -- other texts ---------------------------------------------------------------------------------
def test_poscar_as_pymatgen_writes_it(tmp_path: Path) -> None:
    from pymatgen.io.vasp import Poscar

    for i, crystal in enumerate(ALL):
        Poscar(crystal.to_pymatgen()[0]).write_file(tmp_path / f"POSCAR_{i}")
        assert_close(read(tmp_path / f"POSCAR_{i}").crystals, crystal)


POSCAR = "NaCl\n2.0\n1 0 0\n0 2 0\n0 0 2\nNa_pv Cl/ab12\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"


@pytest.mark.parametrize(
    "text",
    [
        POSCAR,
        POSCAR.replace("\nNa_pv Cl/ab12", "").replace("NaCl", "Na Cl"),  # VASP 4
        POSCAR.replace("Direct\n0 0 0\n.5 .5 .5", "S\nCart\n0 0 0 T T F\n.5 1 1 F F F"),
        POSCAR.replace("2.0", "-32"),
        POSCAR.replace("2.0", "2 2 2"),
        POSCAR.replace("\n", "\r\n") + "\n0 0 0\n0 0 0\n",  # velocities
    ],
)
def test_poscar_variants(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.vasp").write_text(text, newline="")
    crystals = read(tmp_path / "x.vasp").crystals
    np.testing.assert_allclose(crystals.lattice[0], np.diag([2, 4, 4]), atol=1e-9)
    np.testing.assert_allclose(crystals.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]], atol=1e-9)
    assert crystals.atomic_numbers.tolist() == [11, 17]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\nb\n", "unreadable POSCAR: 2 lines"),
        (POSCAR.replace("Na_pv Cl/ab12", "Na"), "no elements: 1 symbols for 2 counts"),
        (POSCAR.replace("Na_pv Cl/ab12\n", ""), "unknown element|no elements"),
        (POSCAR.replace(".5 .5 .5\n", ""), "no coordinates"),
        (POSCAR.replace("1 1\n", "1 999999999\n"), "oversized: 1000000000 atoms"),
        (POSCAR.replace("0 2 0", "1 0 0"), "zero volume"),
        (POSCAR.replace("0 2 0", "x y z"), "unreadable POSCAR: cell"),
    ],
)
def test_poscar_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "POSCAR").write_text(text)
    (found,) = reasons(read(tmp_path / "POSCAR"))
    assert any(part in found for part in reason.split("|"))


def test_extxyz_as_ase_writes_it(tmp_path: Path) -> None:
    from ase.io import write

    frames = Crystals.concatenate(ALL).to_ase()
    for i, frame in enumerate(frames):
        frame.info.update(e_above_hull=0.1 * i, pretty_formula="NaN" if i == 1 else "Si O2")
        frame.info.update(stress=np.eye(3), flag=True)
        frame.arrays["forces"] = np.zeros((len(frame), 3))
    write(tmp_path / "a.extxyz", frames)
    bundle = read(tmp_path / "a.extxyz")
    assert_close(bundle.crystals, Crystals.concatenate(ALL))
    assert names(bundle) == [f"a-{i}" for i in range(4)]
    np.testing.assert_allclose(bundle.columns["e_above_hull"].values, [0, 0.1, 0.2, 0.3])
    assert bundle.columns["pretty_formula"].values.tolist() == ["Si O2", "NaN", "Si O2", "Si O2"]
    assert "stress" not in bundle.columns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1\nx\nH 0 0 0\n", "no cell"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T F"\nH 0 0 0\n', "not periodic"),
        ('2\nLattice="4 0 0 0 4 0 0 0 4"\nH 0 0 0\n', "no coordinates: 1 rows for 2"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4" Properties=x:R:3\nH 0 0 0\n', "no coordinates"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4" Properties=pos:R:999\nH 0 0 0\n', "no coordinates"),
        ('999\nLattice="4 0 0 0 4 0 0 0 4"\nH 0 0 0\n', "oversized: 999 atoms"),
        ("many\natoms\n", "no atom count; the rest was not read"),
        ("9" * 15 + "\nx\n", "oversized"),
    ],
)
def test_extxyz_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.extxyz").write_text(text)
    (found,) = reasons(read(tmp_path / "a.extxyz"))
    assert reason in found


def test_extxyz_elements_by_number(tmp_path: Path) -> None:
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=pos:R:3:Z:I:1 material_id=mp-1\n0 0 0 29\n'
    (tmp_path / "a.xyz").write_text(frame)
    bundle = read(tmp_path / "a.xyz")
    assert bundle.crystals.atomic_numbers.tolist() == [29]
    assert names(bundle) == ["mp-1"]


def test_json_as_pymatgen_writes_it(tmp_path: Path) -> None:
    structures = [s.as_dict() for s in Crystals.concatenate(ALL).to_pymatgen()]
    oxidised = Crystals.concatenate(ALL).to_pymatgen()[0].add_oxidation_state_by_guess()
    cases: dict[str, tuple[Any, list[str]]] = {
        "one": (structures[0], ["one"]),
        "oxidised": (oxidised.as_dict(), ["oxidised"]),
        "list": (structures, ["list#1", "list#2", "list#3", "list#4"]),
        "mapping": ({"a": structures[0], "b": structures[1]}, ["a", "b"]),
        "documents": ([{"material_id": "mp-1", "structure": structures[0]}], ["mp-1"]),
        "entry": ({"entry_id": "mp-2", "structure": structures[0], "energy": -1}, ["mp-2"]),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        bundle = read(tmp_path / f"{name}.json")
        assert names(bundle) == expected
        assert_close(bundle.crystals, Crystals.concatenate(ALL[: len(expected)]))


def test_json_refused(tmp_path: Path) -> None:
    good = NACL.to_pymatgen()[0].as_dict()
    half = json.loads(json.dumps(good))
    half["sites"][0]["species"][0]["occu"] = 0.5
    shared = json.loads(json.dumps(good))
    shared["sites"][0]["species"] *= 2
    flat = {**good, "lattice": {"matrix": [[1, 0, 0]] * 3}}
    content = [good, half, shared, flat, 3, {}, {"lattice": {}, "sites": []}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    bundle = read(tmp_path / "a.json")
    assert names(bundle) == ["a#1"]
    assert len(bundle.rejects) == 6
    assert count_rejects(bundle.rejects)["disordered"] == 2
    for text, reason in (("{", "unreadable json"), ("[" * 10**5, "unreadable json"), ("[]", "no")):
        (tmp_path / "b.json").write_text(text)
        (found,) = reasons(read(tmp_path / "b.json"))
        assert reason in found


# -- tables --------------------------------------------------------------------------------------
def test_csv_keeps_its_columns(tmp_path: Path) -> None:
    rows = [
        {
            "material_id": f"mp-{i}",
            "e_above_hull": ["", "0.5", " 1e-3 ", "nan"][i],
            "pretty_formula": ["NaN", "NaCl", "", "x/y"][i],
            "band_gap": "",
            "k": i,
            "a/b": f"{i}",
            "mixed": ["1", "2", "three", "4"][i],
            "cif": CIF,
        }
        for i in range(4)
    ]
    bundle = read(write_csv(tmp_path / "a.csv", rows))
    assert names(bundle) == ["mp-0", "mp-1", "mp-2", "mp-3"]
    values = {name: column.values.tolist() for name, column in bundle.columns.items()}
    np.testing.assert_array_equal(values.pop("e_above_hull"), [np.nan, 0.5, 1e-3, np.nan])
    np.testing.assert_array_equal(values.pop("band_gap"), [np.nan] * 4)
    assert values == {
        "pretty_formula": ["NaN", "NaCl", "", "x/y"],
        "imported_k": [0.0, 1.0, 2.0, 3.0],
        "a_b": [0.0, 1.0, 2.0, 3.0],
        "mixed": ["1", "2", "three", "4"],
    }
    assert bundle.columns["e_above_hull"].unit == "eV/atom"


def test_a_lone_nan_is_a_formula(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"pretty_formula": "NaN", "cif": CIF}])
    assert read(path).columns["pretty_formula"].values.tolist() == ["NaN"]


def test_kinds_do_not_depend_on_chunks(tmp_path: Path) -> None:
    rows = [{"x": "1.50" if i < 9 else "none", "cif": CIF} for i in range(10)]
    path = write_csv(tmp_path / "a.csv.gz", rows)
    for chunk_size in (1, 4, 100):
        bundle = Bundle.concatenate(list(read_chunks([path], chunk_size=chunk_size)))
        assert bundle.columns["x"].values.tolist() == ["1.50"] * 9 + ["none"]


def test_descriptor_names_are_those_of_the_registry() -> None:
    from pigen.descriptors.registry import column_specs, descriptor_names
    from pigen.io.tables import DESCRIPTOR_COLUMNS

    assert set(column_specs(descriptor_names())) <= DESCRIPTOR_COLUMNS


def test_ids_of_tables(tmp_path: Path) -> None:
    indexed = write_csv(tmp_path / "i.csv", [{"": 7, "cif": CIF}, {"": 9, "cif": CIF}])
    both = write_csv(tmp_path / "b.csv", [{"": 7, "material_id": "mp-7", "cif": CIF}])
    neither = write_csv(tmp_path / "n.csv", [{"structure": CIF}] * 2)
    twice = write_csv(tmp_path / "t.csv", [{"id": "a", "cif": CIF}] * 3 + [{"id": "", "cif": CIF}])
    chunks = list(read_chunks([indexed, both, neither, twice]))
    assert names(Bundle.concatenate(chunks)) == [
        *("i-7", "i-9", "mp-7", "n-0", "n-1"),
        *("a", "a#2", "a#3", "t-3"),
    ]
    assert all(list(chunk.columns) == [] for chunk in chunks)


def test_the_same_source_twice_gives_other_ids(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(CIF)
    bundle = Bundle.concatenate(list(read_chunks([tmp_path / "a.cif"] * 3)))
    assert names(bundle) == ["a", "a#2", "a#3"]


def test_csv_with_json_structures(tmp_path: Path) -> None:
    text = json.dumps(QUARTZ.to_pymatgen()[0].as_dict())
    path = write_csv(tmp_path / "a.csv", [{"id": "q", "Structure": text}])
    assert_close(read(path).crystals, QUARTZ)


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    good = io.StringIO()
    csv.writer(good).writerow(["a", CIF])
    text = "id,cif\n" + good.getvalue() + "b\nc,,\nd,\n\n" + good.getvalue() + 'e,"open quote'
    (tmp_path / "a.csv").write_text(text, newline="")
    bundle = read(tmp_path / "a.csv")
    assert names(bundle) == ["a", "a#2"]
    assert [r.id for r in bundle.rejects] == ["a-1", "a-2", "d", "e"]
    assert count_rejects(bundle.rejects) == {
        "unreadable row": 2,
        "no structure": 1,
        "unreadable CIF": 1,
    }


def test_csv_with_an_endless_field(tmp_path: Path) -> None:
    limits = Limits(max_entry_bytes=2**20)
    for filler in ("x" * 3_000_000, "line\n" * 500_000):
        path = write_csv(tmp_path / "a.csv", [{"id": "a", "cif": CIF}, {"id": "b", "cif": filler}])
        bundle = read(path, limits=limits)
        assert names(bundle) == ["a"]
        (reason,) = reasons(bundle)
        assert "over 1 MiB (--max-entry-mib" in reason
        assert reason.endswith("the rest of the file was not read")


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv.gz", [{"id": str(i), "cif": CIF + f"#{i}"} for i in range(9)]
    )
    path.write_bytes(path.read_bytes()[:-100])
    bundle = read(path)
    assert "the rest of the file was not read" in reasons(bundle)[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no column 'cif' or 'structure'; its columns: a, b"),
        (",".join(f"c{i}" for i in range(1001)), "MAX_COLUMNS"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_chunks([tmp_path / "a.csv"])


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, **options)
    return path


def test_parquet_in_the_layout_of_alex_mp_20(tmp_path: Path) -> None:
    n = 7
    columns = {
        "cif": [to_cif(ALL[i % 4], "x") for i in range(n)],
        "entropy_sum": [8.5, None, *range(n - 2)],
        "target_energy": np.linspace(0.4, 0.9, n, dtype=np.float32),
        "reduced_formula": ["NaN", None, *"abcde"],
    }
    path = write_parquet(tmp_path / "train.parquet", columns, row_group_size=3)
    bundle = Bundle.concatenate(list(read_chunks([path], chunk_size=2)))
    assert_close(bundle.crystals, Crystals.concatenate([ALL[i % 4] for i in range(n)]))
    assert names(bundle) == [f"train-{i}" for i in range(n)]
    np.testing.assert_array_equal(
        bundle.columns["entropy_sum"].values, [8.5, np.nan, 0, 1, 2, 3, 4]
    )
    assert bundle.columns["entropy_sum"].unit == "bits"
    np.testing.assert_allclose(bundle.columns["target_energy"].values, columns["target_energy"])
    assert bundle.columns["reduced_formula"].values.tolist() == ["NaN", "", *"abcde"]


def test_parquet_ids_and_bad_cells(tmp_path: Path) -> None:
    columns = {
        "material_id": ["a", None, "c"],
        "cif": [CIF, None, "x"],
        "flag": [True] * 3,
    }
    bundle = read(write_parquet(tmp_path / "a.parquet", columns))
    assert names(bundle) == ["a"]
    assert [r.id for r in bundle.rejects] == ["a-1", "c"]
    assert bundle.columns["flag"].values.tolist() == ["True"]


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1garbagePAR1")
    with pytest.raises(UsageError, match="not a parquet file"):
        read(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="holds int64, not text"):
        read(write_parquet(tmp_path / "b.parquet", {"cif": [1]}))
    path = write_parquet(tmp_path / "c.parquet", {"cif": [CIF * 50] * 100}, compression="none")
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    bundle = read(path)
    assert len(bundle) + len(bundle.rejects) >= 1


# -- folders and archives ------------------------------------------------------------------------
def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, text in {
        "gen_10.cif": CIF,
        "gen_2.cif": CIF,
        "sub/gen_2.cif": CIF,
        "sub/POSCAR": POSCAR,
        "sub/bad.cif": "data_",
        ".hidden/x.cif": CIF,
        "._gen_2.cif": "\0",
        "metrics.json": "{}",
        "README.md": "text",
        "packed.cif.gz": "",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "packed.cif.gz").write_bytes(gzip.compress(CIF.encode()))
    (tmp_path / "frames.extxyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4"\nH 0 0 0\n' * 2)
    bundle = read(tmp_path)
    assert names(bundle) == [
        *("frames-0", "frames-1", "gen_2", "gen_10", "packed"),
        *("POSCAR", "gen_2#2"),
    ]
    assert [r.id for r in bundle.rejects] == ["bad"]


def test_a_folder_without_structures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no structure file"):
        read(tmp_path)


def test_a_zip_flat_and_nested(tmp_path: Path) -> None:
    path = tmp_path / "generated_crystals_cif.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (
            "gen_0.cif",
            "a/gen_1.cif",
            "../../gen_2.cif",
            "/etc/gen_3.cif",
            "a\\gen_4.cif",
        ):
            archive.writestr(name, CIF)
        archive.writestr("a/", "")
        archive.writestr("__MACOSX/gen_0.cif", "\0\5")
        archive.writestr("a/._gen_1.cif", "\0\5")
        archive.writestr("notes.txt", "text")
        archive.writestr("b/gen_0.cif", CIF)
        archive.writestr("frames.extxyz", '1\nLattice="4 0 0 0 4 0 0 0 4"\nH 0 0 0\n' * 2)
        link = zipfile.ZipInfo("link.cif")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.parent.iterdir())
    bundle = read(path)
    assert bundle.rejects == ()
    assert [n.replace("a\\", "") for n in names(bundle)] == [
        *("gen_0", "gen_1", "gen_2", "gen_3", "gen_4", "gen_0#2", "frames-0", "frames-1"),
    ]
    assert sorted(tmp_path.parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == [path]


def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.cif", "0" * 50_000_000)
        archive.writestr("good.cif", CIF)
        archive.writestr("large.cif", np.random.default_rng(0).bytes(2**20 + 1))
    bundle = read(path, limits=Limits(max_entry_bytes=2**20))
    assert names(bundle) == ["good"]
    assert count_rejects(bundle.rejects) == {"oversized": 2}
    # A directory that understates a member's size does not get more of it read.
    content = path.read_bytes().replace((50_000_000).to_bytes(4, "little"), bytes([9, 0, 0, 0]))
    path.write_bytes(content)
    bundle = read(path)
    assert bundle.rejects[0].id == "bomb"


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\3\4 and so on")
    with pytest.raises(UsageError, match="not a zip archive"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(UsageError, match="no structure file"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.cif", CIF)
        archive.writestr("b.cif", CIF)
    path.write_bytes(path.read_bytes().replace(b"_cell_length_a", b"_cell_length_z", 1))
    bundle = read(path)
    assert names(bundle) == ["b"]
    assert "unreadable zip member" in reasons(bundle)[0]


# -- any source ----------------------------------------------------------------------------------
def test_a_bundle_is_a_source(tmp_path: Path) -> None:
    bundle = replace(bundle_of(25), provenance={})
    write_bundle(tmp_path / "b.h5", bundle)
    assert_same(read(tmp_path / "b.h5"), bundle)
    chunks = list(read_chunks([tmp_path / "b.h5"], chunk_size=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    (tmp_path / "a.cif").write_text(CIF)
    mixed = Bundle.concatenate(list(read_chunks([tmp_path / "a.cif", tmp_path / "b.h5"])))
    assert mixed.ids.tolist() == ["a", *bundle.ids]
    assert not mixed.verdicts
    passed = mixed.columns["verdict_low"].values[1:] == "passed"
    assert passed.tolist() == bundle.verdicts["low"].passed.tolist()


def test_recognised_by_content(tmp_path: Path) -> None:
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4"\nH 0 0 0\n'
    row = io.StringIO()
    csv.writer(row).writerows([["cif"], [CIF]])
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.cif", CIF)
    write_parquet(tmp_path / "parquet", {"cif": [CIF]})
    write_bundle(tmp_path / "bundle", bundle_of(1).select([0]))
    for name, text in {
        "cif": "# made by hand\n" + CIF,
        "poscar": POSCAR,
        "extxyz": frame,
        "json": json.dumps(NACL.to_pymatgen()[0].as_dict()),
        "csv": row.getvalue(),
    }.items():
        (tmp_path / name).write_text(text, newline="")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for path in tmp_path.iterdir():
        assert len(read(path)) == 1, path


def test_unknown_and_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_chunks([tmp_path / "no.cif"])
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match="Accepted: CIF, a folder, zip or tar"):
        read_chunks([tmp_path / "a.txt"])
    (tmp_path / "b.h5").write_text("hello")
    with pytest.raises(UsageError, match="not a PIGEN bundle"):
        read_chunks([tmp_path / "b.h5"])


def test_limits_are_named_and_can_be_raised(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(to_cif(QUARTZ, "q"))
    assert reasons(read(tmp_path / "a.cif", limits=Limits(max_atoms=8))) == [
        "oversized: 9 atoms, --max-atoms is 8"
    ]
    (reason,) = reasons(read(tmp_path / "a.cif", limits=Limits(max_file_bytes=10)))
    assert "oversized" in reason
    assert "--max-file-mib" in reason
    path = write_csv(tmp_path / "a.csv", [{"cif": CIF}] * 5)
    with pytest.raises(PigenError, match="more than 4 entries"):
        read(path, limits=Limits(max_entries=4))


def test_parallel_is_the_same(tmp_path: Path) -> None:
    crystals = [ALL[i % 4] for i in range(60)]
    rows = [{"id": "x", "y": i, "cif": to_cif(c, "x")} for i, c in enumerate(crystals)]
    rows[7]["cif"] = rows[33]["cif"] = "data_"
    path = write_csv(tmp_path / "a.csv", rows)
    (tmp_path / "b.cif").write_text(CIF)
    sources = [path, tmp_path / "b.cif", path]
    serial = list(read_chunks(sources, chunk_size=7))
    with open_executor(Where(2)) as executor:
        parallel = list(read_chunks(sources, chunk_size=7, executor=executor))
    assert len(serial) == len(parallel)
    for a, b in zip(serial, parallel, strict=True):
        assert_same(a, b)
    whole = Bundle.concatenate(serial)
    everyone = [*whole.ids, *(r.id for r in whole.rejects)]
    assert len(set(everyone)) == len(everyone) == 121


def test_reading_is_lazy(tmp_path: Path) -> None:
    """Only as many entries are taken as chunks are asked for."""
    from pigen.io.files import Record, Source
    from pigen.io.stream import stream

    taken = []

    def entries() -> Iterator[Record]:
        for i in range(1000):
            taken.append(i)
            yield Record(str(i), CIF, "cif")

    chunks = stream([Source((), entries(), None)], chunk_size=10)
    assert len(next(chunks)) == 10
    assert len(taken) <= 20


def test_a_large_file_of_many_structures_comes_in_chunks(tmp_path: Path) -> None:
    many = "".join(to_cif(COPPER, f"b{i}") for i in range(25)) + "data_bad\n_cell_length_a 1\n"
    (tmp_path / "a.cif").write_text(many)
    chunks = list(read_chunks([tmp_path / "a.cif"], chunk_size=10))
    assert [(len(c), len(c.rejects)) for c in chunks] == [(10, 1), (10, 0), (5, 0)]


def test_poscar_and_cif_of_one_crystal_agree(tmp_path: Path) -> None:
    (tmp_path / "a.vasp").write_text(to_poscar(PEROVSKITE, "x"))
    (tmp_path / "a.cif").write_text(to_cif(PEROVSKITE, "x"))
    assert_close(read(tmp_path / "a.vasp").crystals, read(tmp_path / "a.cif").crystals)


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("generated/cdvae", 2208),
        ("generated/llama2_7b", 3221),
        ("mp20/val", 1852),
        ("mp20/test", 1790),
        ("mp20/extra", 2672),
    ],
)
def test_every_row_is_accounted_for(shared_data: Path, table: str, rows: int) -> None:
    kept = rejected = 0
    for chunk in read_chunks([shared_data / f"{table}.csv.gz"]):
        kept += len(chunk)
        rejected += len(chunk.rejects)
    assert kept + rejected == rows
    assert rejected == 0


def test_missing_labels_of_extra_are_numbers(shared_data: Path) -> None:
    bundle = read(shared_data / "mp20" / "extra.csv.gz")
    assert bundle.columns["e_above_hull"].kind == "float64"
    assert np.isnan(bundle.columns["e_above_hull"].values).all()
