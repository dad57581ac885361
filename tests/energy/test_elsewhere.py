"""Energies computed by workers: as here, but for what takes a worker away."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest

from pigen.crystal.crystals import Crystals
from pigen.energy.elsewhere import PotentialElsewhere, Relaxing
from pigen.energy.potential import load_potential
from pigen.energy.relax import relax
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import LocalPool, SerialExecutor
from pigen.runtime.executor.pool import LEAST_MEMORY

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


@pytest.mark.slow
def test_a_crystal_that_kills_has_failed() -> None:
    edges = [*np.linspace(3.4, 3.9, 5), 7.0, *np.linspace(3.5, 3.8, 2)]
    pool = LocalPool(1)
    there = PotentialElsewhere.of(MODEL, "cpu", pool)
    found = pool.submit(Relaxing(there, 0.05, 20), copper(*edges)).result()
    assert there.name == MODEL
    assert [one.key for one in found] == list(range(8))
    assert [math.isnan(one.energy) for one in found] == [a == 7.0 for a in edges]
    assert found[5].status == "ended its worker: exit code 9"
    np.testing.assert_array_equal(found[5].crystal.lattice, copper(7.0).lattice)
    keep = copper(*(a for a in edges if a != 7.0))
    here = relax(keep, load_potential(MODEL), fmax=0.05, max_steps=20)
    assert [one.energy for one in found if one.status[0] != "e"] == [one.energy for one in here]
    pool.shutdown()


def test_a_model_that_is_none() -> None:
    with pytest.raises(UsageError, match="no_such"):
        PotentialElsewhere.of("no_such:thing", "cpu", SerialExecutor())


@pytest.mark.slow
def test_chgnet_fits_the_least_memory_of_a_worker() -> None:
    pool = LocalPool(1, memory=LEAST_MEMORY)
    cells = [Crystals.single(np.eye(3) * 12.6, _grid(3), [11, 17, 8] * 9) for _ in range(4)]
    relaxing = Relaxing(PotentialElsewhere.of("chgnet", "cpu", pool), 0.05, 1)
    found = pool.submit(relaxing, Crystals.concatenate(cells)).result()
    pool.shutdown()
    assert [one.n_steps for one in found] == [1] * 4
    assert not {"out of memory"} & {one.status for one in found}


def _grid(n: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) / n] * 3), -1).reshape(-1, 3)
