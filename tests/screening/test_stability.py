"""Columns E and F of Table 1, and S.U.N., from relaxed structures."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from known_structures import displaced, known_structures

from pigen.bundle import Bundle, Column, strings
from pigen.crystal.crystals import Crystals
from pigen.runtime.executor import SerialExecutor
from pigen.screening.stability import STABLE, SUN, new_and_unique, stability

NAMES = ["MgO", "CsCl", "ZnS", "SrTiO3", "CaF2"]


def crystals(*names: str) -> Crystals:
    return Crystals.concatenate([known_structures()[name].crystals for name in names])


def bundle(*names: str) -> Bundle:
    ids = strings(f"{name}-{i}" for i, name in enumerate(names))
    return Bundle(crystals=crystals(*names), ids=ids)


def relaxed(names: list[str], energies: list[float]) -> Bundle:
    return Bundle(
        crystals=crystals(*names),
        ids=strings(f"s{i}-relaxed" for i in range(len(names))),
        parents=strings(f"s{i}" for i in range(len(names))),
        columns={"e_hull": Column(np.array(energies), "eV/atom", "a hull")},
    )


def test_rates_are_of_all_that_was_generated() -> None:
    survivors = relaxed([*NAMES, "MgO"], [-0.2, 0.03, 0.049, 0.0999, np.nan, 0.02])
    mled = {f"s{i}": 9.0 + 0.1 * i for i in range(6)}
    found = stability(survivors, mled, 200, frozenset(), [], SerialExecutor())
    counts = {name: (rate.passed, rate.total) for name, rate in found.rates.items()}
    # CaF2 has no energy; the last is a duplicate of the first.
    assert counts == {
        "E100": (5, 200),
        "E50": (4, 200),
        "E35": (3, 200),
        "E25": (2, 200),
        SUN: (4, 200),
    }
    assert found.largest_mled == pytest.approx(9.5)
    assert found.hull == "a hull"
    assert list(STABLE.values()) == sorted(STABLE.values(), reverse=True)


def test_expected_shares_are_means_of_probabilities() -> None:
    names = ["MgO", "CsCl", "MgO", "SrTiO3"]
    estimate = Column(np.array([0.05, 0.2, 0.0, np.nan]), "eV/atom", "a calibration")
    error = Column(np.array([0.05, 0.05, 0.1, 0.1]), "eV/atom", "a calibration")
    survivors = relaxed(names, [-0.1, 0.0, -0.2, 0.3])
    columns = {**survivors.columns, "e_hull_est": estimate, "e_hull_est_sd": error}
    survivors = replace(survivors, columns=columns)
    mled = {f"s{i}": 9.0 + 0.1 * i for i in range(4)}
    found = stability(survivors, mled, 10, frozenset(), [], SerialExecutor())
    below = [NormalDist(m, s).cdf(0.1) for m, s in ((0.05, 0.05), (0.2, 0.05), (0.0, 0.1))]
    assert found.expected["E100"] == pytest.approx(sum(below) / 10)
    assert found.expected["SUN"] == pytest.approx((below[0] + below[1]) / 10)  # MgO once
    assert found.expected["F"] == pytest.approx(9.2)  # s2; s0 is as likely above as below
    assert found.estimate == "a calibration"
    assert found.rates["E100"].passed == 3  # by the potential alone
    assert set(found.systematic.values()) == {0.0}
    common = Column(np.full(4, 0.03), "eV/atom", "a calibration")
    shifted = replace(survivors, columns={**columns, "e_hull_est_common": common})
    off = stability(shifted, mled, 10, frozenset(), [], SerialExecutor())
    moved = sum(
        NormalDist(m, s).cdf(0.13) - NormalDist(m, s).cdf(0.07)
        for m, s in ((0.05, 0.05), (0.2, 0.05), (0.0, 0.1))
    )
    assert off.systematic["E100"] == pytest.approx(moved / 20)
    given = Column(np.array([0.9, 0.1, 0.2, np.nan]), "", "a calibration")
    survivors = replace(survivors, columns={**columns, "p_hull_050": given})
    found = stability(survivors, mled, 10, frozenset(), [], SerialExecutor())
    assert found.expected["E50"] == pytest.approx(0.12)
    assert found.expected["F"] == pytest.approx(9.0)


def test_nothing_stable() -> None:
    found = stability(relaxed(["MgO"], [0.5]), {"s0": 9.1}, 10, frozenset(), [], SerialExecutor())
    assert found.largest_mled is None
    assert {rate.passed for rate in found.rates.values()} == {0}
    empty = relaxed([], [])
    none = stability(empty, {}, 10, frozenset(), [], SerialExecutor())
    assert {rate.passed for rate in none.rates.values()} == {0}


def test_known_compositions_are_compared_by_structure() -> None:
    """ZnS is known as zincblende: that structure is no news, rock salt of the same elements is."""
    zincblende = known_structures()["ZnS"].crystals
    rock_salt = Crystals.single(
        4.9 / 4.21 * known_structures()["MgO"].crystals.lattice[0],
        known_structures()["MgO"].crystals.frac_coords,
        known_structures()["ZnS"].crystals.atomic_numbers,
    )
    parts = [displaced(zincblende, 0.01, 1), rock_salt, rock_salt, crystals("CsCl")]
    candidates = Bundle(crystals=Crystals.concatenate(parts), ids=strings("abcd"))
    known = frozenset(zincblende.reduced_formulas())
    serial = SerialExecutor()
    at_hand = [bundle("MgO", "ZnS")]
    assert new_and_unique(candidates, known, at_hand, serial).tolist() == [False, True, False, True]
    # Without the known structures nothing of that composition can be called new.
    assert new_and_unique(candidates, known, [], serial).tolist() == [False, False, False, True]
    assert new_and_unique(candidates, frozenset(), [], serial).sum() == 3
