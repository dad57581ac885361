"""Compositions: balanced charges as SMACT has them, classes of elements, stoichiometry."""

from __future__ import annotations

import csv
import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

from pigen.config import ChemistryConfig
from pigen.crystal.charges import charge_rules, published_rules
from pigen.crystal.chemistry import Stoichiometry, is_balanced
from pigen.crystal.elements import SYMBOLS, Z_OF, canonical_formula, formula_amounts


def counts_of(formula: str) -> dict[int, int]:
    amounts = formula_amounts(canonical_formula(formula))
    return {Z_OF[symbol]: n for symbol, n in amounts.items()}


@pytest.fixture(scope="module")
def real_formulas(shared_data: Path) -> list[str]:
    """Distinct compositions of the test split, and as many with elements shuffled among them."""
    with gzip.open(shared_data / "mp20" / "test.csv.gz", "rt", encoding="utf-8") as file:
        found = sorted({row["pretty_formula"] for row in csv.DictReader(file)})
    amounts = [formula_amounts(canonical_formula(formula)) for formula in found]
    rng = np.random.default_rng(0)
    pool = np.array([symbol for one in amounts for symbol in one])
    shuffled = [
        "".join(f"{s}{n}" for s, n in zip(rng.choice(pool, len(one)), one.values(), strict=True))
        for one in amounts
    ]
    return [canonical_formula(one) for one in (*found, *shuffled)]


@pytest.mark.parametrize("published", [True, False])
def test_charges_balance_where_smact_says_so(real_formulas: list[str], published: bool) -> None:
    from smact.screening import smact_validity

    rules = published_rules() if published else charge_rules()
    chosen = {"oxidation_states_set": "smact14"} if published else {"mixed_valence": True}
    judged = 0
    for formula in real_formulas[:: 1 if published else 15]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            expected = smact_validity(formula, include_alloys=False, **chosen)
        if any("too many combinations" in str(one.message) for one in said):
            continue  # the library gives up
        counts = counts_of(formula)
        assert rules.balances(counts) == expected, formula
        assert (rules.balances(counts) or rules.is_alloy(counts)) == (
            expected or smact_validity(formula, **chosen)
        ), formula
        judged += 1
    assert judged > (3000 if published else 180)


def test_charges_of_well_known_compounds() -> None:
    balanced = ("NaCl", "Fe3O4", "LiMn2O4", "LiFePO4", "Li2O2", "Mg3Sb2", "O2", "Cu")
    for formula in balanced:
        assert charge_rules().balances(counts_of(formula)), formula
        assert charge_rules().balances({z: 2 * n for z, n in counts_of(formula).items()}), formula
    for formula in ("Na2Cl", "Li2O3", "MgF3", "HeO"):
        assert not charge_rules().balances(counts_of(formula)), formula
    assert not published_rules().balances(counts_of("Fe3O4"))  # one state an element
    assert charge_rules().is_alloy(counts_of("Mg3Sb2"))
    assert not is_balanced(counts_of("Mg3Sb2"))
    assert is_balanced(counts_of("Cu"))  # no alloy: it is alone


@pytest.mark.parametrize(
    ("text", "fit", "misfit"),
    [
        (
            "Ca,Sr:Ti:O = 1:1:3",
            ["CaTiO3", "CaSrTi2O6", "Ca3Ti3O9"],
            ["CaTiO2", "BaTiO3", "CaTi2O6"],
        ),
        ("metal:metal:nonmetal=1:1:3", ["SrTiO3", "CsPbI3", "KMgF3"], ["Sr2O3", "SrTiSiO3"]),
        ("alkali:chalcogen = 2:1", ["Li2O", "NaKS", "Li4OS"], ["LiO", "Li2OF"]),
        ("rare_earth : halogen = 1 : 3", ["YCl3", "LaF3"], ["TiCl3"]),
    ],
)
def test_stoichiometry(text: str, fit: list[str], misfit: list[str]) -> None:
    wanted = Stoichiometry.parse(text)
    assert [one for one in (*fit, *misfit) if wanted.fits(counts_of(one))] == fit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ca:Ti:O", "expected classes = amounts"),
        ("Ca:Ti = 1:1:3", "expected classes = amounts"),
        ("Ca:Ti = 1:0", "expected classes = amounts"),
        ("A:B:X = 1:1:3", "'A' is no element and no class .*halogen"),
    ],
)
def test_a_stoichiometry_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stoichiometry.parse(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"elements_allowed": ("O",), "elements_required": ("Na",)}, "Na is not among"),
        ({"elements_excluded": ("Na",), "elements_required": ("Na",)}, "Na is not among"),
        ({"elements_excluded": ("O", "S"), "elements_one_of": (("O", "S"),)}, "none of O, S"),
        ({"n_elements": (1, 2), "elements_required": ("Li", "Fe", "O")}, "3 elements are required"),
        ({"stoichiometry": "Na:Cl = 1:1", "elements_excluded": ("Cl",)}, "no element is allowed"),
        ({"stoichiometry": "Na:Cl = 1:1", "elements_required": ("O",)}, "in none of its classes"),
    ],
)
def test_chemistry_that_no_composition_has(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChemistryConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "formula", "failure"),
    [
        ({}, "NaCl", ""),
        ({"elements_allowed": ("Na", "O")}, "NaCl", "elements"),
        ({"elements_required": ("Li",), "elements_one_of": (("O", "S"),)}, "LiPS3", ""),
        ({"elements_required": ("Li",), "elements_one_of": (("O", "S"),)}, "LiF", "elements"),
        ({"n_elements": (3, 4)}, "LiFePO4", ""),
        ({"n_elements": (3, 4)}, "NaCl", "n_elements"),
        ({"n_elements": 2}, "LiFePO4", "n_elements"),
        ({"charge_balanced": True}, "MgCu2", "charge_balanced"),
        ({"stoichiometry": "Sr:Ti:O=1:1:3"}, "SrTiO2", "stoichiometry"),
    ],
)
def test_a_failure_names_its_setting(
    settings: dict[str, object], formula: str, failure: str
) -> None:
    chemistry = ChemistryConfig(**settings).chemistry()  # type: ignore[arg-type]
    assert chemistry.failure(counts_of(formula)) == failure
    assert ChemistryConfig(**settings).restrictions() == [*settings]  # type: ignore[arg-type]


def test_every_element_is_allowed_by_default() -> None:
    assert ChemistryConfig().chemistry().allowed == frozenset(range(1, len(SYMBOLS)))
