"""Energies computed by workers: as here, but for what takes a worker away."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from pigen.crystals import Crystals
from pigen.energy.elsewhere import PotentialElsewhere
from pigen.energy.potential import load_potential
from pigen.errors import UsageError
from pigen.executor import LocalPool, SerialExecutor
from pigen.executor.pool import LEAST_MEMORY

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
MODEL = "test_elsewhere:calculator"
FATAL = 60.0
"""Å^3 above which the calculator of this module kills its process."""


def calculator() -> Any:
    from ase.calculators.emt import EMT

    class Fatal(EMT):  # type: ignore[misc]
        def calculate(self, atoms: Any = None, *args: Any, **options: Any) -> None:
            if atoms is not None and atoms.get_volume() > FATAL:
                os._exit(9)
            super().calculate(atoms, *args, **options)

    return Fatal()


def copper(*edges: float) -> Crystals:
    return Crystals.concatenate([Crystals.single(FCC * a, [[0, 0, 0]], [29]) for a in edges])


def test_a_crystal_that_kills_is_a_problem() -> None:
    edges = [*np.linspace(3.4, 3.9, 11), 7.0, *np.linspace(3.5, 3.8, 5)]
    pool = LocalPool(1)
    there = PotentialElsewhere(MODEL, "cpu", pool)
    found = there.evaluate(copper(*edges))
    assert there.name == MODEL
    assert [bool(p) for p in found.problems] == [a == 7.0 for a in edges]
    assert found.problems[11] == "ended its worker: exit code 9"
    keep = [a for a in edges if a != 7.0]
    here = load_potential(MODEL).evaluate(copper(*keep))
    np.testing.assert_array_equal(np.delete(found.energy, 11), here.energy)
    np.testing.assert_array_equal(np.delete(found.forces, 11, 0), here.forces)
    assert there.evaluate(Crystals.empty()).energy.shape == (0,)
    pool.shutdown()


def test_a_model_that_is_none() -> None:
    with pytest.raises(UsageError, match="no_such"):
        PotentialElsewhere("no_such:thing", "cpu", SerialExecutor())


@pytest.mark.slow
def test_chgnet_fits_the_least_memory_of_a_worker() -> None:
    pool = LocalPool(1, memory=LEAST_MEMORY)
    cells = [Crystals.single(np.eye(3) * 12.6, _grid(3), [11, 17, 8] * 9) for _ in range(4)]
    found = PotentialElsewhere("chgnet", "cpu", pool).evaluate(Crystals.concatenate(cells))
    pool.shutdown()
    assert found.problems == ("",) * 4
    assert np.isfinite(found.energy).all()


def _grid(n: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) / n] * 3), -1).reshape(-1, 3)
