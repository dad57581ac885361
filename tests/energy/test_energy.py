"""CHGNet as we compute it, against chgnet; relaxation, against ASE's criterion."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
import warnings
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from known_structures import displaced, known_structures

from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy import (
    AsePotential,
    CHGNetPotential,
    Evaluation,
    Relaxer,
    load_potential,
    relax,
)
from pigen.energy.hull import load_reference
from pigen.energy.hull.stage import check_level
from pigen.energy.potentials import NAMED
from pigen.runtime.errors import PigenError, UsageError

GPA = 160.21766208  # GPa in one eV/Å^3, as chgnet has it


@pytest.fixture(scope="module")
def potential() -> CHGNetPotential:
    return CHGNetPotential("cpu")


@pytest.fixture(scope="module")
def chgnet() -> Any:
    from chgnet.model.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNet.load(use_device="cpu", verbose=False)


def real(*names: str) -> Crystals:
    """Known structures, off their equilibrium, in cells whose angles are not 90°."""
    known = known_structures()
    parts = []
    for seed, name in enumerate(names):
        one = displaced(known[name].crystals, 0.08, seed)
        shear = np.eye(3) + np.random.default_rng(seed).normal(0, 0.03, (3, 3))
        parts.append(Crystals.single(one.lattice[0] @ shear, one.frac_coords, one.atomic_numbers))
    return Crystals.concatenate(parts)


def rotated(crystals: Crystals, turn: np.ndarray) -> Crystals:
    return Crystals(
        lattice=crystals.lattice @ turn,
        frac_coords=crystals.frac_coords,
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def doubled(crystal: Crystals) -> Crystals:
    """The cell and its neighbour along a + b, as one cell."""
    corner = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    double = np.diag([2.0, 1.0, 1.0]) @ corner
    places = np.concatenate([crystal.frac_coords, np.add(crystal.frac_coords, [1.0, 1.0, 0.0])])
    return Crystals.single(
        double @ crystal.lattice[0],
        places @ np.linalg.inv(double),
        np.tile(crystal.atomic_numbers, 2),
    )


# -- the potential --------------------------------------------------------------------------------
def test_equals_chgnet(potential: CHGNetPotential, chgnet: Any) -> None:
    crystals = real("TiO2", "LiCoO2", "CaF2", "Cu")
    found = potential.evaluate(crystals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about chgnet
        expected = chgnet.predict_structure(crystals.to_pymatgen(), task="efs")
    forces = np.concatenate([one["f"] for one in expected])
    np.testing.assert_allclose(found.energy, [one["e"] for one in expected], atol=5e-6)
    np.testing.assert_allclose(found.forces, forces, atol=2e-4)
    np.testing.assert_allclose(found.stress * GPA, [one["s"] for one in expected], atol=2e-3)
    assert np.abs(forces).max() > 0.5
    assert found.problems == ("",) * 4


def test_out_of_memory_makes_passes_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals, potential = real("SrTiO3", "Si", "MgO"), CHGNetPotential("cpu")
    whole, whole_pass = potential.evaluate(crystals), potential._pass

    def small(some: Crystals) -> Any:
        if len(some) > 1 or some.n_atoms[0] == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole_pass(some)

    monkeypatch.setattr(potential, "_pass", small)
    found = potential.evaluate(crystals)
    assert found.problems == ("out of memory", "", "")
    np.testing.assert_allclose(found.energy[1:], whole.energy[1:], atol=2e-6)


def test_batch_equals_single_and_input_stays(potential: CHGNetPotential) -> None:
    crystals = real("SrTiO3", "Si", "MgO")
    before = crystals.frac_coords.copy()
    together = potential.evaluate(crystals)
    small = CHGNetPotential("cpu", max_edges=1).evaluate(crystals)
    np.testing.assert_allclose(small.energy, together.energy, atol=2e-6)
    np.testing.assert_allclose(small.forces, together.forces, atol=5e-5)
    np.testing.assert_array_equal(crystals.frac_coords, before)


def test_invariance_and_derivatives_in_double_precision() -> None:
    potential = CHGNetPotential("cpu", dtype=torch.float64)
    crystal = real("CaF2")[0]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = Crystals.single(
        crystal.lattice[0], np.add(crystal.frac_coords, [0.3, 0.7, 0.1]), crystal.atomic_numbers
    )
    h = 1e-5
    strain = np.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.1]])
    step = np.random.default_rng(1).normal(size=crystal.frac_coords.shape)
    inverse = np.linalg.inv(crystal.lattice[0])
    varied = [
        Crystals.single(
            crystal.lattice[0] @ (np.eye(3) + a * strain),
            crystal.frac_coords + b * step @ inverse,
            crystal.atomic_numbers,
        )
        for a, b in ((h, 0), (-h, 0), (0, h), (0, -h))
    ]
    found = potential.evaluate(
        Crystals.concatenate([crystal, rotated(crystal, turn), moved, doubled(crystal), *varied])
    )
    e, n = found.energy, len(crystal.atomic_numbers)
    np.testing.assert_allclose(e[1:4], e[0], atol=1e-10)
    np.testing.assert_allclose(found.forces[n : 2 * n], found.forces[:n] @ turn, atol=1e-8)
    by_strain = n * (e[4] - e[5]) / (2 * h)
    by_step = n * (e[6] - e[7]) / (2 * h)
    np.testing.assert_allclose(
        crystal.volume[0] * np.sum(found.stress[0] * strain), by_strain, atol=1e-6
    )
    np.testing.assert_allclose(-np.sum(found.forces[:n] * step), by_step, atol=1e-6)


def test_what_cannot_be_evaluated_is_a_problem(potential: CHGNetPotential) -> None:
    cell = np.eye(3)
    odd = [
        Crystals.single(20 * cell, np.zeros((1, 3)), [3]),
        Crystals.single(0.8 * cell, np.zeros((1, 3)), [3]),
        Crystals.single(4 * cell, np.zeros((1, 3)), [96]),
        Crystals.single([[1, 0, 0], [2, 0, 0], [0, 0, 3]], np.zeros((1, 3)), [3]),
        Crystals.single(3 * cell, np.zeros((1, 3)), [3]),
    ]
    found = potential.evaluate(Crystals.concatenate(odd))
    assert found.problems == (
        "isolated atom",
        "too many neighbours",
        "element unknown to CHGNet",
        "degenerate cell",
        "",
    )
    assert np.isnan(found.energy[:4]).all()
    assert np.isfinite(found.energy[4])


# -- relaxation -----------------------------------------------------------------------------------
def test_relaxed_satisfies_the_criterion_of_ase(potential: CHGNetPotential, chgnet: Any) -> None:
    from chgnet.model.dynamics import CHGNetCalculator

    start = real("TiO2", "Si", "CsCl")
    found = relax(start, potential, max_atoms=9)
    with contextlib.redirect_stdout(io.StringIO()):
        calculator = CHGNetCalculator(chgnet, use_device="cpu")
    before = potential.evaluate(start).energy
    for i, one in enumerate(found):
        assert (one.key, one.status, one.converged) == (i, "converged", True)
        atoms = one.crystal.to_ase()[0]
        atoms.calc = calculator
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = FrechetCellFilter(atoms).get_forces()
            energy = atoms.get_potential_energy() / len(atoms)
        longest = np.sqrt((rows**2).sum(axis=1).max())
        assert longest < 0.05 + 1e-3
        np.testing.assert_allclose(one.max_force, longest, atol=1e-3)
        np.testing.assert_allclose(one.energy, energy, atol=1e-5)
        assert one.energy < before[i]
        assert one.crystal.reduced_formulas() == start[i].reduced_formulas()


def test_ways_to_end(potential: CHGNetPotential) -> None:
    relaxer = Relaxer(potential, max_steps=2)
    relaxer.add("far", real("TiO2")[0])
    relaxer.add("alone", Crystals.single(20 * np.eye(3), np.zeros((1, 3)), [3]))
    done = {}
    for _ in range(2):
        done.update((one.key, one) for one in relaxer.step())
    assert len(relaxer) == 0
    assert relaxer.step() == []
    assert (done["far"].status, done["far"].n_steps) == ("max_steps", 2)
    assert not done["far"].converged
    assert np.isfinite(done["far"].energy)
    assert done["alone"].status == "isolated atom"
    assert np.isnan(done["alone"].energy)
    with pytest.raises(ValueError, match="expected one crystal"):
        relaxer.add("two", real("Si", "Cu"))
    with pytest.raises(UsageError, match="fmax must be positive"):
        Relaxer(potential, fmax=0)


class Pressure:
    """A potential of pressure alone: the energy is ``slope`` (eV/Å^3) times the volume."""

    name = "pressure"

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def evaluate(self, crystals: Crystals) -> Evaluation:
        stress = np.tile(self.slope * np.eye(3), (len(crystals), 1, 1))
        energy = self.slope * crystals.volume / crystals.n_atoms
        forces = np.zeros((len(crystals.atomic_numbers), 3))
        return Evaluation(energy, forces, stress, ("",) * len(crystals))


@pytest.mark.parametrize(("slope", "status"), [(-1.0, "exploded"), (1.0, "collapsed")])
def test_volumes_that_run_away(slope: float, status: str) -> None:
    (found,) = relax(real("Cu"), Pressure(slope))
    assert (found.status, found.converged) == (status, False)
    assert np.isnan(found.energy)


def test_atoms_on_top_of_each_other_have_not_converged() -> None:
    pair = Crystals.single(5 * np.eye(3), [[0, 0, 0], [0.2, 0, 0]], [11, 17])
    (found,) = relax(pair, Pressure(0.0))
    assert (found.status, found.converged) == ("collapsed", False)
    assert found.max_force == 0.0
    assert np.isnan(found.energy)


# -- other calculators ----------------------------------------------------------------------------
def test_any_ase_calculator() -> None:
    potential = load_potential("ase.calculators.emt:EMT")
    assert isinstance(potential, AsePotential)
    copper = real("Cu")
    found = potential.evaluate(Crystals.concatenate([copper, real("Si")]))
    atoms: Any = copper.to_ase()[0]
    atoms.calc = importlib.import_module("ase.calculators.emt").EMT()
    np.testing.assert_allclose(found.energy[0], atoms.get_potential_energy() / len(atoms))
    np.testing.assert_allclose(found.stress[0], atoms.get_stress(voigt=False))
    assert found.problems[0] == ""
    assert found.problems[1].startswith("potential failed: No EMT-potential for Si")
    (one,) = relax(copper, potential, fmax=0.01)
    assert one.converged
    np.testing.assert_allclose(one.crystal.volume / len(atoms), 3.59**3 / 4, rtol=0.01)


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        ("nosuch", UsageError, "expected chgnet, mace, .* or MODULE:CALLABLE"),
        ("no_such_module:Calc", UsageError, "no_such_module"),
        ("math:nothing", UsageError, "nothing"),
        ("builtins:dict", UsageError, "made dict, no ASE calculator"),
        ("math:sqrt", PigenError, "TypeError"),
    ],
)
def test_models_that_are_none(model: str, error: type[PigenError], text: str) -> None:
    with pytest.raises(error, match=text):
        load_potential(model)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_potential_by_name_asks_for_its_package(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = NAMED[name]
    monkeypatch.setitem(sys.modules, named.module.split(".")[0], None)  # as if not installed
    with pytest.raises(UsageError, match=re.escape(f"`pip install {named.package}` brings it")):
        load_potential(name)


def test_a_potential_by_name_may_be_named_in_settings() -> None:
    (field,) = (field for field in fields(RelaxConfig) if field.name == "potential")
    named = field.metadata["note"].doc.replace(";", ",").split(", ")
    assert {"chgnet", *NAMED} <= set(named)


@pytest.mark.skipif(find_spec("sevenn") is None, reason="sevenn is not installed")
@pytest.mark.filterwarnings("ignore")  # the package's own
def test_sevennet_by_name() -> None:
    potential = load_potential("sevennet", "cpu")
    assert potential.name == "sevennet 7net-0"
    (one,) = relax(real("Cu"), potential)
    assert one.converged
    np.testing.assert_allclose(one.crystal.volume / 4, 12.0, rtol=0.02)  # PBE
    with pytest.raises(UsageError, match=r"'sevennet 7net-0' and a hull from 'chgnet 0\.3\.0'"):
        check_level(potential.name, load_reference())
