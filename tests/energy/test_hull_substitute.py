"""Substituted crystals of a reference, with ASE's EMT in place of CHGNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import Bundle, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.energy.hull import Hull, Reference
from pigen.energy.hull.build import make_reference, relax_reference, relax_substitutes
from pigen.energy.hull.reference import Entry, load_reference
from pigen.energy.hull.substitute import SUBSTITUTED, substitutes
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor

SITES = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
EMT = RelaxConfig(potential="ase.calculators.emt:EMT")


def rock_salt(a: float, metal: str, other: str) -> Crystals:
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystals.single(cell, SITES, [Z_OF[metal], Z_OF[other]])


def caesium_chloride(a: float, metal: str, other: str) -> Crystals:
    return Crystals.single(a * np.eye(3), SITES, [Z_OF[metal], Z_OF[other]])


def reference_of(
    path: Path, energies: dict[str, float], compounds: dict[str, tuple[Crystals, float]]
) -> Reference:
    """A reference of elements with energies and compounds, and the bundle of the compounds."""
    crystals = [crystal for crystal, _ in compounds.values()]
    write_bundle(
        path,
        Bundle(
            crystals=Crystals.concatenate(crystals),
            ids=strings(f"{name}-relaxed" for name in compounds),
            parents=strings(compounds),
        ),
    )
    entries = [
        Entry(f"{symbol}1", energy, f"element-{symbol}") for symbol, energy in energies.items()
    ]
    for name, (crystal, energy) in compounds.items():
        entries.append(Entry(crystal.reduced_formulas()[0], energy, name))
    return Reference(tuple(entries), "", "")


def made(path: Path, reference: Reference, at_most: int = 1000) -> dict[str, str]:
    bundle = substitutes(path, reference, at_most)
    return dict(zip(bundle.ids.tolist(), bundle.crystals.reduced_formulas(), strict=True))


ELEMENTS = dict.fromkeys(["Li", "Na", "K", "Mg", "Cl", "Br", "Cu", "Au"], 0.0)


def test_elements_are_replaced_by_similar_ones(tmp_path: Path) -> None:
    path = tmp_path / "relaxed.h5"
    compounds = {
        "NaCl": (rock_salt(5.64, "Na", "Cl"), -2.0),
        "CuAu": (rock_salt(4, "Cu", "Au"), -1),
    }
    found = made(path, reference_of(path, ELEMENTS, compounds))
    # Elements of the groups, nearest first; no alloy, no element without an elemental crystal.
    assert list(found.items()) == [
        ("substituted-NaCl-Cl-Br", "Br1Na1"),
        ("substituted-NaCl-Na-K", "Cl1K1"),
        ("substituted-NaCl-Na-Li", "Cl1Li1"),
    ]
    assert list(made(path, reference_of(path, ELEMENTS, compounds), 2).values()) == [
        "Br1Na1",
        "Cl1K1",
    ]


def test_what_is_given_or_far_above_the_hull_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "relaxed.h5"
    compounds = {
        "NaCl": (rock_salt(5.64, "Na", "Cl"), -2.0),
        "KCl": (rock_salt(6.3, "K", "Cl"), 1.0),  # given, if unstable
        "high": (caesium_chloride(3.5, "Na", "Cl"), -1.99),
        "near": (caesium_chloride(4.1, "Li", "Br"), -1.0),
    }
    found = made(path, reference_of(path, ELEMENTS, compounds))
    assert not {"Cl1K1", "Cl1Na1", "Br1Li1"} & set(found.values())
    assert not any("KCl" in name or "high" in name for name in found)
    assert [name for name, formula in found.items() if formula == "Cl1Li1"] == [
        "substituted-NaCl-Na-Li",  # two frameworks, the likelier first
        "substituted-near-Br-Cl",
    ]


def test_one_framework_comes_from_the_most_similar_parent(tmp_path: Path) -> None:
    path = tmp_path / "relaxed.h5"
    compounds = {
        "LiCl": (rock_salt(5.1, "Li", "Cl"), -2.0),
        "NaCl": (rock_salt(5.64, "Na", "Cl"), -2.0),
    }
    found = made(path, reference_of(path, ELEMENTS, compounds))
    assert [name for name, formula in found.items() if formula == "Cl1K1"] == [
        "substituted-NaCl-Na-K"
    ]


def test_cells_scale_with_the_radii(tmp_path: Path) -> None:
    path = tmp_path / "relaxed.h5"
    reference = reference_of(path, ELEMENTS, {"NaCl": (rock_salt(5.64, "Na", "Cl"), -2.0)})
    bundle = substitutes(path, reference, 10)
    radii = {"Na": 1.66, "Cl": 1.02, "Br": 1.20, "K": 2.03, "Li": 1.28}  # Cordero et al. 2008
    for crystal in bundle.crystals:
        total = sum(radii[symbol] for symbol in radii if Z_OF[symbol] in crystal.atomic_numbers)
        a = (4 * crystal.volume[0]) ** (1 / 3)
        assert a == pytest.approx(5.64 * total / 2.68)


@pytest.fixture
def nitrides(tmp_path: Path) -> Path:
    """Nitrides with EMT's energies and status, and crystals of their elements."""
    path = tmp_path / "relaxed.h5"
    chunk = Bundle(
        crystals=Crystals.concatenate([rock_salt(4.1, "Ni", "N"), rock_salt(4.5, "Ag", "N")]),
        ids=strings(["NiN", "AgN"]),
    )
    relax_reference([chunk], path, EMT, SerialExecutor(), {})
    return path


def test_substitutes_are_marked_and_lower_the_hull(nitrides: Path, tmp_path: Path) -> None:
    more, serial = tmp_path / "substitutes.h5", SerialExecutor()
    relax_substitutes(nitrides, more, 8, EMT, serial, {})
    before, _ = make_reference([nitrides], tmp_path / "before", "", "tests", {})
    after, _ = make_reference([nitrides, more], tmp_path / "after", "", "tests", {})
    n = sum(entry.id.startswith(SUBSTITUTED) for entry in after.entries)
    assert n >= 1
    assert after.entries[: len(before.entries)] == before.entries
    assert {e.formula for e in after.entries[-n:]}.isdisjoint(e.formula for e in before.entries)
    assert f", with {n} guessed by replacing an element in binaries among them: " in after.note
    assert "guessed" not in before.note
    assert load_reference(tmp_path / "after").entries[-1].id.startswith(SUBSTITUTED)

    formulas = sorted({entry.formula for entry in after.entries})
    old, new = (
        np.array([Hull(reference).energy(formula) for formula in formulas])
        for reference in (before, after)
    )
    assert (new <= old + 1e-9).all()

    content = more.read_bytes()
    relax_substitutes(nitrides, more, 8, EMT, serial, {}, resume=True)
    assert more.read_bytes() == content
    with pytest.raises(UsageError, match="substitutes"):
        relax_substitutes(nitrides, more, 9, EMT, serial, {}, resume=True)


@pytest.mark.slow
def test_the_verb_adds_them(nitrides: Path, tmp_path: Path) -> None:
    given = read_bundle(nitrides)
    given = given.select(np.isin(given.parents, ["NiN", "AgN"]))
    write_bundle(tmp_path / "given.h5", Bundle(crystals=given.crystals, ids=given.parents))
    args = ["hull", "build", "given.h5", "--model", EMT.potential, "--substitute", "8", "-o", "ref"]
    args = [str(tmp_path / arg) if arg in ("given.h5", "ref") else arg for arg in args]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    assert "guessed by replacing an element" in result.output
    made = read_bundle(tmp_path / "ref" / "substitutes.h5").parents.tolist()
    assert made
    assert all(name.startswith(SUBSTITUTED) for name in made)
    result = CliRunner().invoke(main, [*args, "--resume"])
    assert result.exit_code == 0, result.output
