"""What is asked of the sampler is refused by name or planned as asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import models
import numpy as np
import pytest
from symmetric_crystals import farthest

from pigen.config import SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import space_group_number
from pigen.model.asked import composition
from pigen.model.checkpoint import Header, read_header
from pigen.model.drawn import can_fill, draw_template
from pigen.model.request import Plan, check_request, library_of, plan
from pigen.model.sample import sample
from pigen.model.template_prior import elements_of, relatives
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import find_checkpoint

PATH = find_checkpoint("pigen")
HEADER = read_header(PATH)
SYMMETRIC = SampleConfig(symmetry="training")


def asked(**settings: Any) -> SampleConfig:
    return replace(SYMMETRIC, **settings)


def check(config: SampleConfig) -> None:
    check_request(config, HEADER, "model", library_of(config, PATH))


def plans(config: SampleConfig, n: int = 20, header: Header = HEADER) -> list[Plan]:
    return [plan(i, 3, config, header, library_of(config, PATH)) for i in range(n)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symmetry": "free", "space_group": 225}, "need sample.symmetry"),
        ({"symmetry": "free", "crystal_system": "cubic"}, "need sample.symmetry"),
        ({"space_group": "Fm-4m"}, "'Fm-4m' is no space group"),
        ({"space_group": (225, "P1"), "crystal_system": "hexagonal"}, "is hexagonal"),
        ({"space_group": 48, "n_atoms": 1}, "no structure of the training set has 1 atoms, space"),
        ({"space_group": "Fm-3m", "n_atoms": 2, "elements_required": ("Na", "Cl", "O")}, "n_atoms"),
        ({"space_group": 225, "composition": "Na7Cl3"}, "has Na7Cl3, space group 225"),
        ({"composition": "LiXx"}, "'LiXx' is no formula|expected whole numbers"),
        ({"composition": "Li0.5O"}, "expected whole numbers"),
        ({"composition": ""  , "formula_units": 2}, "give sample.composition"),
        ({"composition": "LiHeCf"}, "the model doesn't know element 'Cf'"),
        ({"composition": "NaCl", "formula_units": 11}, "11 × NaCl has 22 atoms"),
        ({"composition": "NaCl", "n_atoms": 4}, "say the size"),
        ({"composition": "NaCl", "elements_required": ("Na",)}, "says the elements"),
        ({"composition": "NaCl", "charge_balanced": True}, "charge_balanced: .*says the elements"),
        ({"stoichiometry": "alkali:halogen = 1:1", "n_atoms": 3}, "multiples of it"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(asked(**settings))


def test_space_groups_and_systems_are_those_asked_for() -> None:
    for one in plans(asked(space_group=("Fm-3m", 139))):
        assert one.template is not None
        assert one.template.space_group in (225, 139)
    for one in plans(asked(crystal_system="hexagonal", n_atoms=(4, 6))):
        assert one.template is not None
        assert 168 <= one.template.space_group <= 194
        assert one.n_atoms in (4, 6)


def test_targets_choose_templates_whose_structures_had_them() -> None:
    library = library_of(SYMMETRIC, PATH)
    assert library is not None
    diverse = [p.n_atoms for p in plans(asked(targets=MappingProxyType({"mled": 10.0})), 60)]
    plain = [p.n_atoms for p in plans(asked(targets=MappingProxyType({"mled": 7.0})), 60)]
    assert np.mean(diverse) > np.mean(plain) + 3


def test_a_formula_type_of_no_crystal_takes_templates_that_can_be_divided() -> None:
    library = library_of(SYMMETRIC, PATH)
    assert library is not None
    found = relatives(library, {65: 13, 48: 1, 83: 4, 77: 2}, (1,))
    assert not len(found.row)
    assert len(found.others)
    assert (found.weights[found.others] > 0).all()
    for one in plans(asked(composition="Tb13CdBi4Ir2"), 5):
        assert sorted(Counter(one.elements.tolist()).values()) == [1, 2, 4, 13]


def test_one_orbit_has_an_element_of_the_templates_own_structure() -> None:
    targets = MappingProxyType({"mled": 9.0})
    for one in plans(asked(crystal_system="cubic", targets=targets), 40):
        assert one.template is not None
        orbits = one.elements[one.template.representative]
        assert np.count_nonzero(orbits) == 1
        assert (one.elements == orbits[one.template.orbit]).all()
    for other in (asked(), asked(targets=targets, elements_excluded=("O",))):
        assert all(not one.elements.any() for one in plans(other, 5))


def test_required_elements_fill_whole_orbits() -> None:
    for one in plans(asked(elements_required=("Na", "Cl"))):
        assert one.template is not None
        assert {11, 17} <= set(one.elements.tolist())
        for orbit in range(len(one.template.representative)):
            assert len(set(one.elements[one.template.orbit == orbit].tolist())) == 1


@pytest.mark.parametrize("symmetry", ["free", "training", "drawn"])
def test_what_must_be_there_is_placed(symmetry: str) -> None:
    """Repeated names are one element, and as many atoms as elements are enough."""
    config = asked(
        symmetry=symmetry,
        elements_required=("Na", "Na", "Cl"),
        elements_one_of=(("Cl", "Br"), ("O", "S")),
        n_atoms=(3, 4),
    )
    found = plans(config, 30)
    for one in found:
        assert {11, 17} < set(one.elements.tolist()) <= {0, 8, 11, 16, 17}
    last = Counter(z for one in found for z in {8, 16} & set(one.elements.tolist()))
    assert last.total() == len(found)
    assert min(last.values()) > 3  # one of each list, by chance


@pytest.mark.parametrize("symmetry", ["free", "training", "drawn"])
def test_a_stoichiometry_gives_every_atom_its_class(symmetry: str) -> None:
    config = asked(
        symmetry=symmetry,
        stoichiometry="alkaline_earth : transition_metal : O = 1:1:3",
        elements_required=("Ti",),
    )
    for one in plans(config, 12):
        units = one.n_atoms // 5
        assert np.bincount(one.slots).tolist() == [units, units, 3 * units]
        assert set(one.slots[one.elements == 22].tolist()) == {1}
        if one.template is not None:
            for orbit in range(len(one.template.representative)):
                assert len(set(one.slots[one.template.orbit == orbit].tolist())) == 1


@pytest.mark.parametrize("symmetry", ["free", "training"])
def test_a_composition_is_given_whole(symmetry: str) -> None:
    found = plans(asked(symmetry=symmetry, composition="LiFePO4", formula_units=(1, 2)), 40)
    assert {one.n_atoms for one in found} == {7, 14}
    for one in found:
        units = one.n_atoms // 7
        expected = {3: units, 26: units, 15: units, 8: 4 * units}
        assert dict(Counter(one.elements.tolist())) == expected
        if one.template is not None:
            for orbit in range(len(one.template.representative)):
                assert len(set(one.elements[one.template.orbit == orbit].tolist())) == 1


def test_metals_go_where_metals_were() -> None:
    """Perovskites alone have these counts in this order: Sr, then Ti, then O."""
    for one in plans(asked(composition="SrTiO3", formula_units=1, space_group=221), 10):
        assert one.template is not None
        assert sorted(one.template.multiplicities) == [1, 1, 3]
        assert list(composition("O3TiSr")) == [38, 22, 8]


def test_a_composition_gets_the_templates_of_its_relatives() -> None:
    """Most of a spinel's are those of spinels: 14 atoms, two metals on sites of their own."""
    found = [one.template for one in plans(asked(composition="MgGa2O4"), 40)]
    spinels = [t for t in found if t is not None and (t.space_group, t.n_atoms) == (227, 14)]
    assert len(spinels) > 20
    for one in plans(asked(composition="ZnGa2O4", space_group=227), 5):
        assert one.template is not None
        two = one.elements[one.template.representative[one.template.multiplicities == 2]]
        assert 30 in two.tolist()  # zinc is where the magnesium was, of which there are two


def test_many_elements_alike_are_exchanged_in_order() -> None:
    library = library_of(SYMMETRIC, PATH)
    assert library is not None
    found = relatives(library, dict.fromkeys(range(21, 29), 1), ())
    assert len(found.others)  # no structure of eight metals is known
    counts = {3: 1, 11: 1, 19: 1, 9: 1}
    four = relatives(library, counts, (1, 2))
    assert len(four.row) == 24 * len(np.unique(four.row))
    chosen = four.row[np.argmin(four.unlikeliness)]
    numbers = elements_of(library, chosen, counts, four, np.random.default_rng(0))
    assert sorted(set(numbers.tolist())) == [3, 9, 11, 19]


def test_formula_units_are_those_of_the_training_set_unless_asked() -> None:
    sizes = Counter(one.n_atoms for one in plans(asked(composition="NaCl", symmetry="free"), 60))
    assert all(size % 2 == 0 for size in sizes)
    assert len(sizes) > 2


def test_a_composition_counts_as_it_is_written() -> None:
    assert dict(composition("Li2Fe2P2O8")) == {3: 2, 26: 2, 15: 2, 8: 8}
    assert dict(composition("Ca(OH)2")) == {20: 1, 8: 2, 1: 2}


def test_templates_beside_a_model_come_first(tmp_path: Path) -> None:
    beside = tmp_path / "templates.npz"
    beside.write_bytes(b"no library")
    with pytest.raises(UsageError, match=str(beside)):
        library_of(SYMMETRIC, tmp_path / "model.safetensors")
    assert library_of(SampleConfig(), tmp_path / "model.safetensors") is None


def test_samples_have_the_symmetry_asked_for() -> None:
    """An untrained network, too: symmetry is kept by construction."""
    header = replace(models.header(), spec=HEADER.spec)
    model = models.model(header).float()
    config = asked(space_group=("Fm-3m", "R-3m", "P6_3/mmc", "C2/m"), steps=4, n_atoms=(4, 6, 8))
    chosen = plans(config, 12, header)
    crystals = sample(model, header, config, chosen)
    assert all_symmetric(crystals, chosen)


def all_symmetric(crystals: Crystals, chosen: list[Plan]) -> bool:
    """Whether spglib finds at least the operations of the template, at 1e-5 Å."""
    for i, one in enumerate(chosen):
        atoms = slice(crystals.ptr[i], crystals.ptr[i + 1])
        assert one.template is not None
        found = space_group_number(
            crystals.lattice[i], crystals.frac_coords[atoms], crystals.atomic_numbers[atoms], 1e-5
        )
        if found < one.template.space_group:
            return False
    return True


@pytest.mark.parametrize("group", [2, 15, 33, 62, 70, 129, 166, 194, 220, 221, 227])
def test_drawn_templates_have_the_group_and_fill_the_cell(group: int) -> None:
    rng = np.random.default_rng(group)
    drawn = 0
    for n_atoms in (6, 8, 12, 14):
        if not can_fill(group, [n_atoms]):
            continue
        found = draw_template(group, [n_atoms], rng)
        if found is None:
            continue
        drawn += 1
        template, owner = found
        assert template.space_group == group
        assert template.n_atoms == n_atoms
        assert not owner.any()
        frac = template.place(rng.random((n_atoms, 3)))
        assert farthest(template, frac, template.orbit.astype(np.uint8)) < 1e-9
    assert drawn >= 2


def test_what_sites_can_fill_is_known_before() -> None:
    assert can_fill(225, [1, 1])  # a and b
    assert not can_fill(225, [1, 1, 1])  # a third atom alone in the cell has no site
    assert can_fill(225, [2, 1, 1])
    assert not can_fill(2, [1] * 9)  # eight centres of inversion
    assert can_fill(2, [1] * 8)
    assert can_fill(1, [1] * 9)


def test_drawn_samples_are_of_the_group_and_composition() -> None:
    config = asked(symmetry="drawn", space_group=(139, 166), composition="SrTiO3")
    for one in plans(config, 8):
        assert one.template is not None
        assert one.template.space_group in (139, 166)
        units = one.n_atoms // 5
        assert dict(Counter(one.elements.tolist())) == {38: units, 22: units, 8: 3 * units}


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UsageError, match="no sites of a group can be filled with 7 atoms, space"):
        check(asked(symmetry="drawn", space_group=220, n_atoms=7))
    with pytest.raises(UsageError, match="had a larger group than 1, in a cell of 1 atoms"):
        plans(asked(symmetry="drawn", space_group=1, n_atoms=1), 1)
