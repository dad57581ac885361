"""POSCAR and extended XYZ in the variants that programs write: read as they mean it, or refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pigen.crystal.elements import SYMBOLS
from pigen.io import Limits, formats
from pigen.io.entry import Parsed, Refused, Structure
from pigen.io.formats import parse, text_form


def found(text: str, form: str) -> Structure:
    ((_, one),) = parse(text, form, Limits())
    if isinstance(one, Refused):
        raise one
    return one


def amounts(structure: Structure) -> dict[str, int]:
    return dict(Counter(SYMBOLS[z] for z in structure.atomic_numbers))


def test_a_form_of_the_user_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text_form("x.cif") == "cif"
    monkeypatch.setattr(formats, "_FORMS", dict(formats._FORMS))

    @formats.reader("sides", ".sides", names="SIDES")
    def parse_sides(text: str, limits: Limits) -> Parsed:
        sides = np.diag([float(word) for word in text.split()])
        return [("", Structure(sides, np.zeros((1, 3)), np.array([29])))]

    assert [text_form(name) for name in ("a/b.Sides.gz", "SIDES", "SIDES2")] == ["sides"] * 2 + [
        None
    ]
    np.testing.assert_array_equal(found("2 3 4", "sides").lattice, np.diag([2.0, 3.0, 4.0]))
    ((_, refused),) = parse("2 3", "sides", Limits())
    assert isinstance(refused, Refused)
    ((_, unread),) = parse("two", "sides", Limits())
    assert "unreadable sides" in str(unread)


# -- POSCAR --------------------------------------------------------------------------------------
CELL = "1.0\n4 0 0\n0 4 0\n0 0 4\n"
ROWS = "Direct\n0 0 0\n.5 .5 .5\n"
NAMED = "Direct\n0 0 0 Na\n.5 .5 .5 Cl\n"


@pytest.mark.parametrize(
    "text",
    [
        f"x\n{CELL}Na Cl\n1 1\n{ROWS}",
        f"x\n{CELL}Na_pv Cl/0a12b\n1 1\n{ROWS}",
        f"x\n{CELL}  Na   Cl  ! symbols\n  1 1 ! counts 3 4\n{ROWS}",
        f"x\n{CELL}1 1 # Na Cl\n{NAMED}",  # VASP 4, symbols at the ends of rows
        f"Na Cl\n{CELL}1 1\n{ROWS}",
        f"# Na Cl\n{CELL}1 1\n{ROWS}",
        f"As_built\n{CELL}1 1\n{NAMED}",
        f"No Co\n{CELL}1 1\n{NAMED}",  # a sentence, and the rows know better
        f"x\n{CELL}Na Cl\n1 1\nSelective dynamics\nDirect\n0 0 0 T T F Na\n.5 .5 .5 T T T Cl\n",
        f"x\n{CELL}Na Cl\n1 1\ns\nKartesisch\n0 0 0 F F F\n2 2 2 F F F\n",
        f"x\n{CELL}Na Cl\n1 1\n{ROWS}\n0 0 0\n0 0 0\n",  # velocities
        f"x\n{CELL}Na Cl\n1 1\n{ROWS}Cartesian\n0 0 0\n0 0 0\n",
        f"x\n{CELL.replace('1.0', '-64')}Na Cl\n1 1\n{ROWS}",
        "x\n1 2 4 ! three factors\n4 0 0\n0 2 0\n0 0 1\nNa Cl\n1 1\nc\n0 0 0\n2 1 .5\n",
        f"x\n{CELL.replace('1.0', '1.0D+00 ! scale')}Na Cl\n1 1\n{ROWS.replace('.5', '5.0d-1')}",
        f"AB_cP2_221_b_a & a=4 & Pm-3m\n{CELL}1 1\nDirect(2) [A1B1]\n0 0 0 Na\n.5 .5 .5 Cl\n",
        f"x\n1.0\n4 4 4 90 90 90\n1 1\n{NAMED}",  # AFLOW: lengths and angles
        f"x\n{CELL}Na Cl\n1 1\nDirect\n0 0 0 Na1\n.5 .5 .5 Cl2\n",
        f"x\n{CELL}Na Cl\n1 1\nDirect\n0 0 0 site-a\n.5 .5 .5 site-b\n",
    ],
)
def test_poscar_is_read(text: str) -> None:
    for one in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r")):
        structure = found(one, "poscar")
        assert structure.atomic_numbers.tolist() == [11, 17]
        np.testing.assert_allclose(
            structure.lattice @ structure.lattice.T, 16 * np.eye(3), atol=1e-9
        )
        np.testing.assert_allclose(structure.frac_coords, [[0] * 3, [0.5] * 3], atol=1e-9)


def test_a_formula_in_the_comment_of_different_counts() -> None:
    rows = "Direct\n0 0 0\n.5 .5 .5\n.5 .5 0\n"
    for comment in ("Na1Cl2", "Na1 Cl2"):
        structure = found(f"{comment}\n{CELL}1 2\n{rows}", "poscar")
        assert structure.atomic_numbers.tolist() == [11, 17, 17]
    with pytest.raises(Refused, match="no elements"):  # in which order?
        found(f"Na1Cl1\n{CELL}1 1\n{ROWS}", "poscar")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"As_built\n{CELL}1 1\n{ROWS}", "no elements: no line of symbols, and the comment"),
        (f"As built\n{CELL}1 1\n{ROWS}", "no elements"),
        (f"NaCl\n{CELL}1 1\n{ROWS}", "no elements"),
        (f"Na Cl\n{CELL}2\n{ROWS}", "no elements"),
        (f"x\n{CELL}Na\n1 1\n{ROWS}", "no elements: 1 symbols for 2 counts"),
        (f"x\n{CELL}Cl Na\n1 1\n{NAMED}", "contradictory elements: row 1 ends in Na"),
        (f"x\n{CELL}Na Cl\n1 1\n{ROWS}.1 .1 .1\n", "contradictory counts"),
        (f"x\n{CELL}Na Cl\n1 1\nDirect\n0 0 0\n", "no coordinates: fewer than 2 rows"),
        (f"x\n{CELL}Na Cl\n1 one\n{ROWS}", "unreadable POSCAR: '1 one' where the counts"),
        (f"x\n{CELL}Na Cl\n\n{ROWS}", "where the counts of atoms belong"),
        (f"x\n{CELL}Wat Cl\n1 1\n{ROWS}", "unknown element"),
        (f"x\n{CELL}Na Cl0.5\n1 1\n{ROWS}", "disordered"),
        (f"x\n{CELL.replace('1.0', 'one')}Na Cl\n1 1\n{ROWS}", "unreadable POSCAR: scale 'one'"),
        (f"x\n{CELL.replace('1.0', '-1 1 1')}Na Cl\n1 1\n{ROWS}", "scale '-1 1 1'"),
        (f"x\n{CELL.replace('0 4 0', '0 4')}Na Cl\n1 1\n{ROWS}", "cell vector"),
    ],
)
def test_poscar_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason.replace("(", "[(]")):
        found(text, "poscar")


# -- extended XYZ --------------------------------------------------------------------------------
BOX = 'Lattice="4 0 0 0 4 0 0 0 4"'
ATOMS = "Na 0 0 0\nCl 2 2 2\n"
PROPERTIES = "Properties=species:S:1:pos:R:3"


@pytest.mark.parametrize(
    "comment",
    [
        BOX,
        f"{BOX} pbc=[T, T, T]",
        f'{BOX} pbc="T T T" {PROPERTIES}',
        f"{BOX} pbc={{T T T}}",
        f"{BOX} PBC=T",
        f'{BOX} pbc = "1 1 1"',
        f"{BOX} pbc=[true,True,TRUE] {PROPERTIES}",
        "lattice='4 0 0 0 4 0 0 0 4'",
        "Lattice=[[4, 0, 0], [0, 4, 0], [0, 0, 4]]",
        "Lattice=[4.0,0,0,0,4,0,0,0,4]",
        "Lattice={4 0 0 0 4 0 0 0 4} properties=species:S:1:pos:R:3",
        'Lattice="4 4 4"',
        f'{BOX} note="a = \\"b\\" [c" flag stress=[[1, 2], [3, 4]] {PROPERTIES}',
        f'"Lattice"="4d0 0 0 0 4.D+0 0 0 0 4" {PROPERTIES}',
    ],
)
def test_extxyz_is_read(comment: str) -> None:
    structure = found(f"2\n{comment}\n{ATOMS}", "extxyz")
    assert structure.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_allclose(structure.lattice, 4 * np.eye(3))
    np.testing.assert_allclose(structure.frac_coords, [[0] * 3, [0.5] * 3])


def test_values_of_a_comment_line() -> None:
    comment = (
        (
            f"{BOX} energy=-1.5 step=7 big=12345678901234567 bigger={'9' * 40} name=abc "
            'formula="NaN" bad=NaN text="two words" quoted="12" list="1 2 3" old={{1 2}} one={{5}} '
            "vector=[1, 2] flag=T bare 'odd key'=3 d=1.0D-3 mess='it''s'"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    )
    values = found(f"2\n{comment}\n{ATOMS}", "extxyz").values
    assert np.isnan(values.pop("bad"))  # type: ignore[arg-type]
    values.pop("mess")
    values.pop("s", None)
    assert values == {
        "energy": -1.5,
        "step": 7,
        "big": "12345678901234567",
        "bigger": "9" * 40,
        "name": "abc",
        "formula": "NaN",
        "text": "two words",
        "quoted": "12",
        "one": 5,
        "flag": "T",
        "odd key": 3,
        "d": 1e-3,
    }


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("a comment", "no cell: the comment line has no Lattice"),
        (f'{BOX} pbc="T T F"', "not periodic in three directions: pbc is T T F, a slab"),
        (f"{BOX} pbc=[F, F, F]", "pbc is F F F, a molecule"),
        (f"{BOX} pbc=F", "pbc is F F F, a molecule"),
        (f"{BOX} pbc=maybe", "no cell: pbc='maybe'"),
        ('Lattice="4 0 0 0"', "no cell: 4 numbers in Lattice"),
        ('Lattice="a b c"', "no cell: Lattice="),
        (f"{BOX} Properties=pos:R:3", "no coordinates: Properties"),
    ],
)
def test_extxyz_is_refused(comment: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        found(f"2\n{comment}\n{ATOMS}", "extxyz")


@pytest.mark.parametrize(
    ("properties", "rows"),
    [
        ("pos:R:3:species:S:1", "0 0 0 Na\n2 2 2 Cl\n"),
        ("Z:I:1:pos:R:3", "11 0 0 0\n17 2 2 2\n"),
        ("tags:I:1:numbers:I:1:pos:R:3:forces:R:3", "0 11 0 0 0 1 1 1\n0 17 2 2 2 1 1 1\n"),
        ("species:S:1:positions:R:3", ATOMS),
    ],
)
def test_columns_of_extxyz(properties: str, rows: str) -> None:
    assert amounts(found(f"2\n{BOX} Properties={properties}\n{rows}", "extxyz")) == {
        "Na": 1,
        "Cl": 1,
    }
