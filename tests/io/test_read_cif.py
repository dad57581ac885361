"""CIF: what the file says is what is read, and what contradicts itself is refused by name."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pigen.crystal.elements import SYMBOLS
from pigen.io import Limits
from pigen.io.cif_symmetry import find_by_name
from pigen.io.entry import NOTE, Refused, Structure, checked
from pigen.io.forms.cif import parse_cif
from pigen.io.species import atomic_number, label_number

CELL = """data_x
_cell_length_a 5\n_cell_length_b 5\n_cell_length_c 5
_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90
"""
INVERSION = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n"


def sites(rows: str, *tags: str) -> str:
    head = "".join(f"_atom_site_{tag}\n" for tag in (*tags, "fract_x", "fract_y", "fract_z"))
    return f"loop_\n{head}{rows}\n"


def found(text: str, limits: Limits | None = None) -> Structure:
    ((_, one),) = parse_cif(text, limits or Limits())
    if isinstance(one, Refused):
        raise one
    return checked(one, limits or Limits())


def amounts(structure: Structure) -> dict[str, int]:
    return dict(Counter(SYMBOLS[z] for z in structure.atomic_numbers))


# -- elements ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("symbol", "z"),
    [
        *(("Fe", 26), ("Fe3+", 26), ("Fe+3", 26), ("O2-", 8), ("O-2", 8), ("FE", 26), ("fe", 26)),
        *(("Na1+", 11), ("Fe(III)", 26), ("FeIII", 26), ("Cval", 6), ("Siva", 14), ("Fe2.5+", 26)),
        *(("D", 1), ("T", 1), ("2H", 1), ("7Li", 3), ("B11", 5), ("H(sds)", 1), (" Cl ", 17)),
        *(("Fe1.0", 26), ("Ag0+", 47), ("O0-", 8), ("Sn+4.00", 50), ("O(2-)", 8), ("CO", 27)),
    ],
)
def test_type_symbols(symbol: str, z: int) -> None:
    assert atomic_number(symbol) == z


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        *((mixed, "disordered") for mixed in ("Nb,Zr", "Al/Si", "0.8Nb + 0.2Zr", "Fe0.5Mn0.5")),
        *((mixed, "disordered") for mixed in ("(Fe,Mn)", "Fe:Mn", "Si+Al", "FeMn", "Fe3+,Mn3+")),
        *((part, "disordered") for part in ("Nb0.8", "Fe.5", "Na|K", "Mg Fe", "K&Na")),
        *((group, "missing hydrogen") for group in ("OH", "NH4", "H2O", "CH3", "OH2", "CH")),
        *(
            (other, "unknown element")
            for other in ("Wat", "X", "Va", "Du", "M", "Qq", "", "?", "1")
        ),
    ],
)
def test_type_symbols_that_name_no_one_element(symbol: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        atomic_number(symbol)


@pytest.mark.parametrize(
    ("label", "formula", "z"),
    [
        *(("Ca1", "", 20), ("C1A", "", 6), ("O1W", "", 8), ("OW1", "", 8), ("Fe", "", 26)),
        *(("Cd1", "", 48), ("H12B", "", 1), ("O(1)", "", 8), ("Na_1", "", 11), ("MG1", "", 12)),
        *(("C1'", "", 6), ("fe1", "", 26), ("O1_a", "", 8), ("Cl1", "", 17), ("ZR2", "", 40)),
        *(("CA1", "Ca O", 20), ("CA1", "C H", 6), ("HO1", "Ho Fe", 67), ("CO1", "Co O", 27)),
        *(("CL1", "Na Cl", 17), ("NA1", "Na Cl", 11), ("W1", "Ca W O", 74), ("D1", "H O", 1)),
        *(("HO1", "H O", 1), ("OS1", "Os O", 76)),
    ],
)
def test_labels_of_a_certain_element(label: str, formula: str, z: int) -> None:
    stated = frozenset(atomic_number(word) for word in formula.split())
    if label == "OS1":  # oxygen or osmium: both are in the formula
        with pytest.raises(Refused, match="Os or O"):
            label_number(label, stated)
        return
    assert label_number(label, stated) == z


@pytest.mark.parametrize(
    "label", "Wat1 W1 Dum1 Vac1 OH1 NH4 D1 T1 M1 X1 HO1 CA1 Ow1 Ob CO1".split()
)
def test_labels_of_an_uncertain_element(label: str) -> None:
    with pytest.raises(Refused, match=f"uncertain element: label '{label}' without a type symbol"):
        label_number(label)


@pytest.mark.parametrize(
    ("label", "formula"),
    [
        *(
            ("Wat1", "Ca C O H"),
            ("W1", "Ca C O H"),
            ("Vac1", "V O"),
            ("OH1", "H O"),
            ("D1", "Na O"),
        ),
        *(("Al1Si1", "Al Si O"), ("Fe1/Mn1", "Fe Mn O"), ("Cm1", "C H O"), ("V1", "Na Cl")),
        *(("Du1", "Na Cl"), ("HO1", "H Ho"), ("X1", "Na Cl")),
    ],
)
def test_a_formula_does_not_make_a_label_certain(label: str, formula: str) -> None:
    with pytest.raises(Refused, match="uncertain element"):
        label_number(label, frozenset(atomic_number(word) for word in formula.split()))


# -- formula and hydrogen ------------------------------------------------------------------------
PAIR = sites("Na1 Na 0 0 0\nCl1 Cl .5 .5 .5", "label", "type_symbol")


@pytest.mark.parametrize(
    "tags",
    [
        "_chemical_formula_sum 'Na Cl'",
        "_chemical_formula_sum 'Na1 Cl1'\n_cell_formula_units_Z 1",
        "_chemical_formula_sum NaCl",
        "_chemical_formula_sum 'NA1 CL1'",
        "_chemical_formula_sum 'Cl4 Na4'",
        "_chemical_formula_sum ?\n_chemical_formula_moiety 'Na 1+, Cl 1-'",
        "_chemical_formula_moiety '2(Na), Cl2'",
        "_chemical_formula_sum 'sodium chloride'",
        "_chemical_formula_sum 'Na0.995 Cl'\n_cell_formula_units_Z ?",
    ],
)
def test_a_formula_that_agrees(tags: str) -> None:
    assert amounts(found(CELL + tags + "\n" + PAIR)) == {"Na": 1, "Cl": 1}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (
            "_chemical_formula_sum 'K Cl'",
            "contradicted by its formula: 'K Cl' stated, Na1 Cl1 read",
        ),
        ("_chemical_formula_sum 'Na2 Cl'", "'Na2 Cl' stated, Na1 Cl1 read"),
        ("_chemical_formula_sum 'Na Cl O3'", "'Na Cl O3' stated, Na1 Cl1 read"),
        ("_chemical_formula_moiety 'K 1+, Cl 1-'", "'K 1[+], Cl 1-' stated, Na1 Cl1 read"),
        (
            "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 4",
            "contradictory symmetry: Z is 4",
        ),
        ("_chemical_formula_sum 'Na Cl H2'", "missing hydrogen: formula 'Na Cl H2' and no H site"),
        ("_chemical_formula_sum 'Na Cl (H2 O)'", "contradicted by its formula"),
    ],
)
def test_a_formula_that_contradicts(tags: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        found(CELL + tags + "\n" + PAIR)


def test_formula_and_z_as_pymatgen_writes_them() -> None:
    """It writes the formula of the cell beside the number of reduced units in it."""
    rows = "Na1 Na 0 0 0\nNa2 Na 0 .5 .5\nCl1 Cl .5 .5 .5\nCl2 Cl .5 0 0"
    text = CELL + "_chemical_formula_sum 'Na2 Cl2'\n_cell_formula_units_Z 2\n"
    assert amounts(found(text + sites(rows, "label", "type_symbol"))) == {"Na": 2, "Cl": 2}


WATER = sites("O1 O 0 0 0 2", "label", "type_symbol").replace("0 0 0 2", "0 0 0")


def test_hydrogen_that_is_missing() -> None:
    formula = "_chemical_formula_sum 'H2 O'\n"
    attached = sites("O1 O 2 0 0 0", "label", "type_symbol", "attached_hydrogens")
    partly = sites("O1 O 0 0 0\nH1 H .1 .1 .1", "label", "type_symbol")
    for text in (CELL + formula + WATER, CELL + attached, CELL + formula + partly):
        with pytest.raises(Refused, match=r"missing hydrogen.*--ignore-hydrogen"):
            found(text)
        skeleton = found(text, Limits(ignore_hydrogen=True))
        assert amounts(skeleton)["O"] == 1
    assert "hydrogen" in found(CELL + attached, Limits(ignore_hydrogen=True)).values[NOTE]
    deuterium = sites("O1 O 0 0 0\nD1 D .1 .1 .1\nD2 D .1 .9 .1", "label", "type_symbol")
    for text in ("H2 O", "D2 O"):
        assert amounts(found(CELL + f"_chemical_formula_sum '{text}'\n" + deuterium))["H"] == 2


# -- sites ---------------------------------------------------------------------------------------
def test_close_sites_stay_two() -> None:
    rows = "Na1 2 .20 .2 .2\nNa2 2 .23 .2 .2\nCl1 1 .5 .5 .5"
    text = CELL + "_chemical_formula_sum 'Na4 Cl'\n" + INVERSION
    text += sites(rows, "label", "symmetry_multiplicity")
    assert amounts(found(text)) == {"Na": 4, "Cl": 1}


@pytest.mark.parametrize(
    ("place", "multiplicity", "n", "noted"),
    [
        ("0 0 0", "?", 1, False),
        ("0.5001 0 0", "?", 1, True),  # within the last digit
        ("0.5004 0 0", "?", 2, False),  # 0.004 Å apart, if its digits are right: refused
        ("0.52 0 0", "?", 2, False),  # 0.2 Å apart
        ("0.505 0 0", "1", 1, True),
        ("0.505 0 0", "2", 2, False),
        ("0.48 .5 .5", "2", 2, False),
        ("0.333 0.2 0.2", ".", 2, False),
    ],
)
def test_images_of_a_site(place: str, multiplicity: str, n: int, noted: bool) -> None:
    text = CELL + INVERSION + sites(f"Na1 {multiplicity} {place}", "label", "symmetry_multiplicity")
    if place.startswith("0.5004"):
        with pytest.raises(Refused, match="overlapping"):
            found(text)
        return
    structure = found(text)
    assert amounts(structure) == {"Na": n}
    assert (NOTE in structure.values) == noted
    if n == 1:
        doubled = 2 * structure.frac_coords
        np.testing.assert_allclose(doubled - np.round(doubled), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("place", "multiplicity"), [("0 0 0", "2"), ("0.2 0 0", "1"), ("0.2 0 0", "3"), ("0 0 0", "99")]
)
def test_multiplicities_that_contradict(place: str, multiplicity: str) -> None:
    rows = f"Na1 {multiplicity} {place}\nCl1 2 .3 .3 .3"
    with pytest.raises(
        Refused, match=f"contradictory symmetry: multiplicity {multiplicity} at Na1"
    ):
        found(CELL + INVERSION + sites(rows, "label", "symmetry_multiplicity"))


def test_orders_in_place_of_multiplicities() -> None:
    """SHELXL-97 writes 1 for a general position."""
    text = CELL + INVERSION
    text += sites("Na1 1 .2 .2 .2\nCl1 2 .5 .5 .5", "label", "symmetry_multiplicity")
    assert amounts(found(text)) == {"Na": 2, "Cl": 1}


@pytest.mark.parametrize("occupancy", ["1", "1.", "1.0", "1.000(3)", "?", "."])
def test_full_sites(occupancy: str) -> None:
    text = sites(f"Na1 {occupancy} 0 0 0", "label", "occupancy")
    assert amounts(found(CELL + text)) == {"Na": 1}


@pytest.mark.parametrize(
    ("rows", "tags", "reason"),
    [
        ("Na1 0.99(2) 0 0 0", ("label", "occupancy"), "disordered: occupancy 0.99"),
        ("Na1 half 0 0 0", ("label", "occupancy"), "disordered: occupancy 'half'"),
        ("Na1 1 0 0 0\nNa2 2 .1 .1 .1", ("label", "disorder_group"), "disordered: Na2"),
        ("Na1 -1 0 0 0", ("label", "disorder_group"), "disordered: Na1"),
        ("Na1 dum 0 0 0", ("label", "calc_flag"), "dummy site: Na1"),
        ("M1 'Nb,Zr' 0 0 0", ("label", "type_symbol"), "disordered: type symbol 'Nb,Zr'"),
    ],
)
def test_sites_that_are_no_atoms(rows: str, tags: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        found(CELL + sites(rows, *tags))


def test_assemblies_and_a_lone_group_are_read() -> None:
    rows = "Na1 . . 0 0 0\nNa2 A 1 .5 .5 .5"
    text = CELL + sites(rows, "label", "disorder_assembly", "disorder_group")
    assert amounts(found(text)) == {"Na": 2}


# -- symmetry ------------------------------------------------------------------------------------
ONE = sites("Na1 0.1 0.2 0.3", "label")


@pytest.mark.parametrize(
    ("symmetry", "n"),
    [
        ("_symmetry_space_group_name_H-M 'P -1'\n_symmetry_Int_Tables_number 2\n" + INVERSION, 2),
        ("_symmetry_space_group_name_H-M P-1\n_symmetry_Int_Tables_number ?\n" + INVERSION, 2),
        ("loop_\n_space_group_symop_operation_xyz\nx,y,z\n1/2-x,1/2-y,1/2-z\n", 2),
        ("_space_group_name_H-M_alt 'P 21/c'\n", 4),
        ("_space_group_name_H-M_alt 'P 1 21/n 1'\n_space_group_IT_number 14\n", 4),
        ("_space_group_name_H-M_alt 'P b n m'\n_space_group_IT_number 62\n", 8),
        ("_space_group_name_H-M_alt 'P 42/n m c Z'\n", 16),
        ("_space_group_name_H-M_alt 'P 21/n 21/m 21/a'\n", 8),
        ("_space_group_name_Hall '-P 2yn'\n_space_group_IT_number 14\n", 4),
    ],
)
def test_symmetry_that_agrees(symmetry: str, n: int) -> None:
    assert amounts(found(CELL + symmetry + ONE)) == {"Na": n}


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'P -1'\n_symmetry_Int_Tables_number 1\n",
        "_symmetry_space_group_name_H-M 'P 1'\n" + INVERSION,
        "_symmetry_space_group_name_H-M 'P -1'\n_symmetry_equiv_pos_as_xyz x,y,z\n",
        "_symmetry_Int_Tables_number 225\n_symmetry_equiv_pos_as_xyz x,y,z\n",
        "_symmetry_space_group_name_H-M 'P m'\n" + INVERSION,
        "_space_group_name_Hall 'P 2y'\n_space_group_IT_number 14\n",
        "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\ny,z,x\n",
        "loop_\n_symmetry_equiv_pos_as_xyz\n-x,-y,-z\n",
    ],
)
def test_symmetry_that_contradicts_itself(symmetry: str) -> None:
    with pytest.raises(Refused, match="contradictory symmetry"):
        found(CELL + symmetry + ONE)


def test_an_unknown_name_is_of_an_unknown_setting() -> None:
    text = "_symmetry_space_group_name_H-M 'P n m a (b)'\n_symmetry_Int_Tables_number {}\n"
    with pytest.raises(Refused, match="unknown space group: 'P n m a"):
        found(CELL + text.format(62) + ONE)
    assert amounts(found(CELL + text.format(221) + ONE)) == {"Na": 48}


def test_tungsten_where_there_can_be_no_water() -> None:
    assert amounts(found(CELL + sites("W1 0 0 0\nO1 .5 .5 .5", "label"))) == {"W": 1, "O": 1}
    with pytest.raises(Refused, match="uncertain element"):
        found(CELL + sites("W1 0 0 0\nO1 .5 .5 .5\nCa1 .5 0 0", "label"))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("F 4/m -3 2/m", 225), ("F d -3 m S", 227), ("F d -3 m Z", 227), ("R -3 m H", 166)),
        *(("P 2_1/c", 14), ("F 41/d -3 2/m", 227), ("P 63/m 2/m 2/c", 194), ("nonsense", 0)),
    ],
)
def test_names_of_groups(name: str, number: int) -> None:
    group = find_by_name(name)
    assert (group.number if group else 0) == number


def test_every_setting_that_gemmi_knows_makes_its_atoms() -> None:
    """By name and by its operations, the number of atoms is that of its operations."""
    import gemmi

    from pigen.io.cif_symmetry import Stated, find_group

    for group in gemmi.spacegroup_table():
        triplets = tuple(op.triplet() for op in group.operations())
        cell = gemmi.UnitCell(5, 5, 5, 90, 90, 90)
        if group.crystal_system_str() in ("trigonal", "hexagonal") and group.ext != "R":
            cell = gemmi.UnitCell(5, 5, 5, 90, 90, 120)
        lattice = np.array(cell.orth.mat.tolist()).T
        stated = Stated(triplets, group.hall, group.xhm(), str(group.number))
        assert len(find_group(stated, lattice)) == len(triplets)


# -- text ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("_cell_", "_cell.").replace("_atom_site_", "_atom_site."),
        lambda text: text.replace("0.25", "\u22120.75"),
    ],
)
def test_line_ends_and_tags(change: object) -> None:
    text = CELL + sites("Na1 0 0 0\nCl1 0.25 .5 .5", "label")
    structure = found(change(text))  # type: ignore[operator]
    np.testing.assert_allclose(structure.frac_coords, [[0, 0, 0], [0.25, 0.5, 0.5]])
