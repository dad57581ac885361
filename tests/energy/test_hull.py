"""Hulls: known answers, what must not change them, and references on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from pigen.bundle import Bundle, Column, bundle_info, iter_bundle, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF, canonical_formula, formula_amounts
from pigen.energy.hull import Hull, Reference, load_reference, with_e_hull
from pigen.energy.hull.elements import elemental_crystals
from pigen.energy.hull.fitted import FITTED
from pigen.energy.hull.imports import import_reference
from pigen.energy.hull.reference import Entry
from pigen.runtime.errors import UsageError

TERNARY = Reference(
    (
        Entry("Li1", -0.5, "li"),
        Entry("Fe1", -4.0, "fe"),
        Entry("O1", -1.0, "o"),
        Entry("O1", -0.9, "ozone"),
        Entry("Li2O1", -3.0, "li2o"),
        Entry("Fe1O1", -3.5, "feo"),
        Entry("Fe2O3", -2.0, "fe2o3"),
        Entry("Fe1Li5O4", -3.1, "li5feo4"),
    ),
    level="test level",
    note="all that there is",
)


def hull_of(*entries: Entry) -> Hull:
    return Hull(Reference(entries, "", ""))


def test_hand_checked_ternary() -> None:
    # Li5FeO4 lies on the line Li2O - Fe - O: 5/2 Li2O + FeO + 1/2 O = 10 atoms,
    # (7.5 (-3) + 2 (-3.5) + 0.5 (-1)) / 10 = -3.0, so at -3.1 it is stable, by 0.1.
    hull = Hull(TERNARY)
    assert hull.energy("Fe1Li5O4") == pytest.approx(-3.1, abs=1e-6)
    # LiFeO2 = Li5FeO4/5 + 4/5 FeO + 2/5 O: (2 (-3.1) + 1.6 (-3.5) + 0.4 (-1)) / 4 = -3.05
    formulas = ["Fe1Li1O2", "Fe1Li1O2", "Fe1Li1O2", "Fe2O3"]
    above, reasons = hull.above(formulas, np.array([-3.0, -3.05, -3.5, -2.0]))
    # Fe2O3 = 2 FeO + O: (4 (-3.5) + (-1)) / 5 = -3.0
    np.testing.assert_allclose(above, [0.05, 0.0, -0.45, 1.0], atol=1e-6)
    assert reasons.tolist() == [""] * 4
    assert [e.id for e in hull.stable("Fe1Li1O2")] == ["fe", "li5feo4", "feo", "li", "li2o", "o"]
    assert [e.id for e in hull.stable("O1")] == ["o"]


def test_compositions_of_one_and_two_elements() -> None:
    hull = Hull(TERNARY)
    assert hull.energy("O1") == -1.0
    assert hull.energy("Li1O1") == pytest.approx((1.5 * -3 + 0.5 * -1) / 2, abs=1e-9)
    assert hull.above(["O1"], np.array([-1.2]))[0] == pytest.approx([-0.2])


def test_missing_elemental_reference_is_a_reason() -> None:
    above, reasons = Hull(TERNARY).above(["Fe1Tc1", "Po2Tc1", "Fe1"], np.array([0.0, 0.0, -4.0]))
    assert reasons.tolist() == ["no hull: Tc", "no hull: Po, Tc", ""]
    assert np.isnan(above[:2]).all()
    assert above[2] == 0
    with pytest.raises(ValueError, match="no hull: Tc"):
        Hull(TERNARY).stable("Tc1")


def random_reference(seed: int, elements: str = "Li Na Fe O S") -> Reference:
    rng = np.random.default_rng(seed)
    symbols = elements.split()
    entries = [Entry(f"{symbol}1", rng.normal(), symbol) for symbol in symbols]
    for i in range(60):
        counts = rng.integers(0, 4, len(symbols))
        if np.count_nonzero(counts) > 1:
            numbers = np.repeat([Z_OF[s] for s in symbols], counts)
            crystal = Crystals.single(np.eye(3), np.zeros((len(numbers), 3)), numbers)
            entries.append(Entry(crystal.reduced_formulas()[0], rng.normal() - 0.5, f"e{i}"))
    return Reference(tuple(entries), "", "")


@pytest.mark.parametrize("seed", range(3))
def test_reference_compounds_are_on_the_hull_or_above(seed: int) -> None:
    reference = random_reference(seed)
    hull = Hull(reference)
    formulas = [entry.formula for entry in reference.entries]
    above, reasons = hull.above(formulas, np.array([e.energy for e in reference.entries]))
    assert not reasons.astype(bool).any()
    assert above.min() > -1e-9
    lowest = {e.id for f in formulas for e in hull.stable(f)}
    on_it = {e.id for e, value in zip(reference.entries, above, strict=True) if value < 1e-8}
    assert on_it == lowest


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")
@pytest.mark.parametrize("reference", [random_reference(11), load_reference()])
def test_energies_equal_those_of_pymatgen(reference: Reference) -> None:
    """Of compositions that no entry has, and of entries, where mixtures are degenerate."""
    hull, rng = Hull(reference), np.random.default_rng(0)
    elements = sorted({e.formula[:-1] for e in reference.entries} & set(SYMBOLS[1:]))
    formulas = [reference.entries[i].formula for i in rng.integers(0, len(reference.entries), 30)]
    for _ in range(30):
        chosen = rng.choice(elements, rng.integers(2, 6), replace=False)
        formulas.append("".join(f"{symbol}{rng.integers(1, 5)}" for symbol in chosen))
    for formula in {canonical_formula(formula) for formula in formulas}:
        present = formula_amounts(formula).keys()
        if len(present) > 1:
            inside = [e for e in reference.entries if formula_amounts(e.formula).keys() <= present]
            amounts = [(Composition(e.formula), e.energy) for e in inside]
            diagram = PhaseDiagram([PDEntry(c, energy * c.num_atoms) for c, energy in amounts])
            expected = diagram.get_hull_energy_per_atom(Composition(formula))
            assert hull.energy(formula) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_shifting_the_elements_changes_nothing(seed: int) -> None:
    reference = random_reference(seed)
    shifts = dict(zip("Li Na Fe O S".split(), (3.0, -20.0, 7.5, 100.0, -0.1), strict=True))

    def shift(formula: str) -> float:
        from pymatgen.core import Composition

        fractions = Composition(formula).fractional_composition
        return sum(shifts[str(e)] * float(x) for e, x in fractions.items())

    moved = replace(
        reference,
        entries=tuple(replace(e, energy=e.energy + shift(e.formula)) for e in reference.entries),
    )
    formulas = ["Fe1Li1O2", "Fe2Na1O3S1", "Li1Na1", "Fe1Li1Na1O1S1", "S1"]
    energies = np.array([-1.0, 0.3, -0.2, 0.0, 1.0])
    before, _ = Hull(reference).above(formulas, energies)
    after, _ = Hull(moved).above(formulas, energies + [shift(f) for f in formulas])
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_further_entry_lowers_the_hull_or_leaves_it() -> None:
    reference = random_reference(7)
    formulas = ["Fe1Li1O2", "Fe2Na1O3S1", "Li1Na1"]
    before = [Hull(reference).energy(f) for f in formulas]
    more = replace(reference, entries=(*reference.entries, Entry("Fe1Li1O2", -50.0, "deep")))
    after = [Hull(more).energy(f) for f in formulas]
    assert after[0] == pytest.approx(-50.0, abs=1e-12)
    assert all(a <= b + 1e-9 for a, b in zip(after, before, strict=True))


# -- the stage ------------------------------------------------------------------------------------
def relaxed(energies: list[float], source: str = "test level, fmax 0.05") -> Bundle:
    numbers = [Z_OF["Li"], Z_OF["Fe"], Z_OF["O"], Z_OF["O"]]
    one = Crystals.single(4 * np.eye(3), np.arange(12).reshape(4, 3) / 12, numbers)
    return Bundle(
        crystals=Crystals.concatenate([one] * len(energies)),
        ids=strings(f"x{i}" for i in range(len(energies))),
        columns={
            "e_relaxed": Column(np.array(energies), "eV/atom", source),
            "status": Column(
                strings("exploded" if e != e else "converged" for e in energies), "", source
            ),
        },
    )


def test_stage_adds_energy_above_hull_and_says_on_what_it_rests() -> None:
    bundle = with_e_hull(relaxed([-3.0, float("nan")]), TERNARY, Hull(TERNARY))
    column = bundle.columns["e_hull"]
    assert column.unit == "eV/atom"
    assert column.values[0] == pytest.approx(0.05)
    assert np.isnan(column.values[1])
    assert bundle.columns["e_hull_reason"].values.tolist() == ["", "not relaxed: exploded"]
    assert TERNARY.digest in column.source
    assert "test level" in column.source
    assert "all that there is" in column.source


def test_a_hole_of_the_potential_has_a_status_and_no_energy_above_the_hull() -> None:
    bundle = relaxed([-3.0, -5.6])
    converged = Column(np.ones(len(bundle), dtype=bool), "", "relax")
    status = Column(strings(["converged"] * len(bundle)), "", "relax")
    bundle = bundle.with_columns({"converged": converged, "status": status})
    found = with_e_hull(bundle, TERNARY, Hull(TERNARY)).columns
    assert found["e_hull"].values[0] == pytest.approx(0.05)
    assert np.isnan(found["e_hull"].values[1])
    said = ["converged", "implausible: 2.5 eV/atom below the hull is no crystal"]
    assert found["status"].values.tolist() == said
    assert found["converged"].values.tolist() == [True, False]
    assert found["e_hull_reason"].values.tolist() == ["", said[1]]
    assert bundle.columns["status"].values.tolist() == ["converged"] * 2


def test_stage_refuses_what_it_cannot_compare() -> None:
    hull = Hull(TERNARY)
    with pytest.raises(UsageError, match="run `pigen energy` first"):
        with_e_hull(replace(relaxed([0.0]), columns={}), TERNARY, hull)
    with pytest.raises(UsageError, match="do not mix"):
        with_e_hull(relaxed([0.0], "another level"), TERNARY, hull)


# -- references -----------------------------------------------------------------------------------
def test_reference_survives_its_folder(tmp_path: Path) -> None:
    made = replace(TERNARY, provenance={"made_by": "a test"})
    made.write(tmp_path / "ref")
    found = load_reference(tmp_path / "ref")
    assert found == made
    assert found.digest == made.digest
    before = [(tmp_path / "ref" / name).read_bytes() for name in ("entries.csv.gz",)]
    made.write(tmp_path / "ref")
    assert [(tmp_path / "ref" / name).read_bytes() for name in ("entries.csv.gz",)] == before


def test_broken_references_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reference of a hull"):
        load_reference(tmp_path)
    TERNARY.write(tmp_path)
    (tmp_path / "entries.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UsageError, match=r"entries\.csv\.gz cannot be read"):
        load_reference(tmp_path)
    meta = json.loads((tmp_path / "reference.json").read_text())
    (tmp_path / "reference.json").write_text(json.dumps({**meta, "format": "other"}))
    with pytest.raises(UsageError, match="format: 'other' is not allowed"):
        load_reference(tmp_path)
    (tmp_path / "reference.json").write_text("{}")
    with pytest.raises(UsageError, match=r"reference\.json: format: missing"):
        load_reference(tmp_path)


def test_import_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("formula,energy\nNaN,-1.5\nMg(InSe2)2,-3\nNa,-1.0\n", encoding="utf-8")
    found = import_reference(path)
    assert [(e.formula, e.energy) for e in found.entries] == [
        ("N1Na1", -1.5),
        ("In2Mg1Se4", -3.0),
        ("Na1", -1.0),
    ]
    assert "mine.csv" in found.note


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("formula,e\nNa,1\n", "no column energy"),
        ("formula,energy\nNa,-1\nXx2,1\n", "line 3: 'Xx2' is not a formula"),
        ("formula,energy\nNa,low\n", "line 2: 'low' is not an energy"),
        ("formula,energy\nNa,inf\n", "line 2: 'inf' is not an energy"),
        ("formula,energy\n", "no entries"),
        ("[{}]", "entry 0 is no compound with an energy"),
        ("[1]", "entry 0 is no compound with an energy"),
        ("[", "no JSON with energies"),
        ('[{"composition": {"Na": 1}, "energy": NaN}]', "entry 0 is no compound with an energy"),
        ("", "no column"),
    ],
)
def test_import_of_what_is_no_table_says_so(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        import_reference(path)


def test_import_of_computed_entries(tmp_path: Path) -> None:
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    salt = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    entries = [
        ComputedEntry("Na2", -2.6, correction=0.2, entry_id="mp-1"),
        ComputedStructureEntry(salt, -6.8),
    ]
    path = tmp_path / "entries.json"
    path.write_text(json.dumps([entry.as_dict() for entry in entries]), encoding="utf-8")
    found = import_reference(path, "PBE").entries
    assert [(e.formula, e.id) for e in found] == [("Na1", "mp-1"), ("Cl1Na1", "Cl1Na1")]
    assert [e.energy for e in found] == pytest.approx([-1.2, -3.4])


@pytest.mark.parametrize("layout", ["entries", "lines", "documents", "jarvis", "optimade"])
def test_import_of_what_databases_write(tmp_path: Path, layout: str) -> None:
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    salt = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    entry = ComputedStructureEntry(salt, -6.8, entry_id="mp-1").as_dict()
    atoms = {
        "lattice_mat": salt.lattice.matrix.tolist(),
        "coords": salt.frac_coords.tolist(),
        "elements": ["Na", "Cl"],
        "cartesian": False,
    }
    attributes = {
        "lattice_vectors": salt.lattice.matrix.tolist(),
        "cartesian_site_positions": salt.cart_coords.tolist(),
        "species_at_sites": ["Na", "Cl"],
        "energy": -6.8,
    }
    document = {"material_id": "mp-1", "energy_per_atom": -3.4, "formula_pretty": "NaCl"}
    content = {
        "entries": json.dumps({"entries": [entry, entry]}),
        "lines": f"{json.dumps(entry)}\n{json.dumps(entry)}\n",
        "documents": json.dumps([document, {**document, "structure": salt.as_dict()}]),
        "jarvis": json.dumps([{"jid": "mp-1", "optb88vdw_total_energy": -3.4, "atoms": atoms}] * 2),
        "optimade": json.dumps(
            {"data": [{"id": "mp-1", "attributes": attributes}] * 2, "meta": {}}
        ),
    }
    (tmp_path / "a.json").write_text(content[layout], encoding="utf-8")
    found = import_reference(tmp_path / "a.json").entries
    assert [(e.formula, e.id) for e in found] == [("Cl1Na1", "mp-1")] * 2
    assert [e.energy for e in found] == pytest.approx([-3.4, -3.4])


def test_import_of_structures_with_energies(tmp_path: Path) -> None:
    frame = '2\nLattice="4 0 0 0 4 0 0 0 4" energy=-6.8 id=x\nNa 0 0 0\nCl 2 2 2\n'
    (tmp_path / "a.extxyz").write_text(frame, encoding="utf-8")
    (entry,) = import_reference(tmp_path / "a.extxyz").entries
    assert (entry.formula, entry.id, entry.energy) == ("Cl1Na1", "x", pytest.approx(-3.4))
    (tmp_path / "b.extxyz").write_text(frame.replace("energy", "force"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"no column energy \(eV\) or energy_per_atom"):
        import_reference(tmp_path / "b.extxyz")


def test_elemental_crystals_are_what_they_say() -> None:
    bundle = elemental_crystals()
    named = {f"{id_.split('-')[1]}1" for id_ in bundle.ids}
    assert bundle.crystals.reduced_formulas() == [f"{id_.split('-')[1]}1" for id_ in bundle.ids]
    lacking = {s for s in SYMBOLS[1:95] if f"{s}1" not in named}
    assert lacking == {"Po", "At", "Rn", "Fr", "Ra"}
    volumes = bundle.crystals.volume / bundle.crystals.n_atoms
    assert 5 < volumes.min()
    assert volumes.max() < 120


# -- what is shipped ------------------------------------------------------------------------------
def test_shipped_reference_covers_the_elements_and_has_its_phases() -> None:
    reference = load_reference()
    hull = Hull(reference)
    assert hull.missing_elements("".join(f"{symbol}1" for symbol in SYMBOLS[1:95])) == sorted(
        ["Po", "At", "Rn", "Fr", "Ra"]
    )
    assert reference.level == "chgnet 0.3.0"
    assert "compounds of the Materials Project" in reference.note
    fitted = sum(entry.id.startswith(FITTED) for entry in reference.entries)
    assert fitted == 23_589
    # Of MgO it has no rock salt, only forms published as metastable: the fitted energy counts.
    own = [entry.energy for entry in reference.entries if entry.id in ("mp-1065577", "mp-549706")]
    assert hull.energy("Mg1O1") < min(own) - 0.02
    assert not any(entry.id.startswith("substituted-") for entry in reference.entries)
    assert reference.phases is not None
    assert bundle_info(reference.phases).provenance["reference"] == reference.digest
    chosen = np.random.default_rng(0).choice(len(reference.entries), 200, replace=False)
    entries = [reference.entries[i] for i in chosen]
    energies = np.array([entry.energy for entry in entries])
    above, reasons = hull.above([entry.formula for entry in entries], energies)
    assert set(reasons) == {""}
    assert above.min() > -1e-6
    stable = {entry.id for entry, value in zip(entries, above, strict=True) if value < 1e-6}
    ids = set(np.concatenate([chunk.ids for chunk in iter_bundle(reference.phases)]))
    relaxed = {id_ for id_ in stable if not id_.startswith(FITTED)}
    assert len(stable) > 100
    # `pigen dft-export --competing` names the others, and fitted ones, of which there are none.
    assert len(relaxed & ids) > 0.9 * len(relaxed)
