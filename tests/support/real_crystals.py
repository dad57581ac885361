"""A few small real structures, and bundles of them."""

from __future__ import annotations

import numpy as np

from pigen.bundle import Bundle, Column, Criterion, Reject, Verdict, strings
from pigen.crystal.crystals import Crystals

NACL = Crystals.single(
    lattice=2.82 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    frac_coords=[[0, 0, 0], [0.5, 0.5, 0.5]],
    atomic_numbers=[11, 17],
)
COPPER = Crystals.single(
    lattice=1.805 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    frac_coords=[[0, 0, 0]],
    atomic_numbers=[29],
)
PEROVSKITE = Crystals.single(
    lattice=3.905 * np.eye(3),
    frac_coords=[[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    atomic_numbers=[38, 22, 8, 8, 8],
)
QUARTZ = Crystals.single(  # chiral: P3_1 21
    lattice=[[4.916, 0, 0], [-2.458, 4.2573811, 0], [0, 0, 5.4054]],
    frac_coords=[
        [0.4697, 0, 1 / 3],
        [0, 0.4697, 2 / 3],
        [0.5303, 0.5303, 0],
        [0.4135, 0.2669, 0.4524],
        [0.7331, 0.1466, 0.7857],
        [0.8534, 0.5865, 0.1191],
        [0.2669, 0.4135, 0.5476],
        [0.1466, 0.7331, 0.2143],
        [0.5865, 0.8534, 0.8809],
    ],
    atomic_numbers=[14] * 3 + [8] * 6,
)
ALL = (NACL, COPPER, PEROVSKITE, QUARTZ)


def bundle_of(n: int, seed: int = 0, prefix: str = "s") -> Bundle:
    """n crystals with a column of every kind, one per atom, a verdict and a reject."""
    rng = np.random.default_rng(seed)
    crystals = Crystals.concatenate([ALL[i] for i in rng.integers(0, len(ALL), n)])
    energy = rng.normal(size=n)
    energy[rng.random(n) < 0.2] = np.nan
    passed = rng.random(n) < 0.5
    return Bundle(
        crystals=crystals,
        ids=strings(f"{prefix}{i}" for i in range(n)),
        parents=strings("" if i % 2 else f"parent{i}" for i in range(n)),
        columns={
            "energy": Column(energy, "eV/atom", "a test"),
            "count": Column(rng.integers(0, 9, n), "", "a test"),
            "known": Column(rng.random(n) < 0.5, "", "a test"),
            "formula": Column(strings(["NaN", "", "Å"][i % 3] for i in range(n)), "", "a test"),
            "motif": Column(
                rng.integers(0, 37, len(crystals.atomic_numbers)), "", "a test", per_atom=True
            ),
        },
        verdicts={
            "low": Verdict(
                passed,
                strings("" if p else "too high" for p in passed),
                Criterion("low", wording="energy < 0"),
            )
        },
        rejects=(Reject(f"{prefix}x", "unreadable CIF: line 3"),),
        provenance={"seed": str(seed), "experiment": "a = 1\nb = 2\n"},
    )


def assert_same(a: Bundle, b: Bundle) -> None:
    """Equal in all data, exactly."""
    for name in ("lattice", "frac_coords", "atomic_numbers", "ptr"):
        np.testing.assert_array_equal(getattr(a.crystals, name), getattr(b.crystals, name))
    assert a.ids.tolist() == b.ids.tolist()
    assert a.parents.tolist() == b.parents.tolist()
    assert list(a.columns) == list(b.columns)
    for name, column in a.columns.items():
        other = b.columns[name]
        assert (column.kind, column.unit, column.source, column.per_atom) == (
            other.kind,
            other.unit,
            other.source,
            other.per_atom,
        )
        np.testing.assert_array_equal(column.values, other.values)
    assert list(a.criteria.items()) == list(b.criteria.items())
    for name, verdict in a.verdicts.items():
        np.testing.assert_array_equal(verdict.passed, b.verdicts[name].passed)
        assert verdict.reasons.tolist() == b.verdicts[name].reasons.tolist()
    assert a.rejects == b.rejects
