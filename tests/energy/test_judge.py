"""A second opinion: corrections, the hull of published energies, the estimate, what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from known_structures import displaced, known_structures

from pigen.bundle import Bundle, Column, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy import load_potential
from pigen.energy.calibration import load_calibration
from pigen.energy.corrections import mp2020_corrections
from pigen.energy.hull import Hull, load_reference
from pigen.energy.hull.stage import with_energies_above_hull
from pigen.energy.judge import judge_hull, with_judgement
from pigen.energy.stage import RelaxStage
from pigen.runtime import resources
from pigen.runtime.errors import UsageError

EMT = "ase.calculators.emt:EMT"
NAMES = ("Cu", "Si", "MgO", "SrTiO3", "CaF2", "ZnS")


def known(*names: str) -> Crystals:
    return Crystals.concatenate([known_structures()[name].crystals for name in names])


def relaxed(crystals: Crystals, above: float = 0.02) -> Bundle:
    """As `pigen energy` leaves them, this far above CHGNet's hull (eV/atom)."""
    reference = load_reference()
    hull, formulas = Hull(reference), crystals.reduced_formulas()
    energies = np.array([hull.energy(formula) for formula in formulas]) + above
    source = f"pigen relax(model={reference.level}, fmax=0.05)"
    return Bundle(
        crystals=crystals,
        ids=strings(f"{formula}-{i}" for i, formula in enumerate(formulas)),
        columns={
            "e_relaxed": Column(energies, "eV/atom", source),
            "status": Column(strings(["converged"] * len(crystals)), "", source),
        },
    )


def test_corrections_are_those_that_were_published() -> None:
    """Per atom of the anion, and of iron with U: table 2 of A. Wang et al. (2021)."""
    oxide, fluoride, sulphide, iron = -0.687, -0.462, -0.503, -2.256
    values, reasons = mp2020_corrections(known(*NAMES))
    expected = [0.0, 0.0, oxide / 2, 3 * oxide / 5, 2 * fluoride / 3, sulphide / 2]
    np.testing.assert_allclose(values, expected, atol=1e-9)
    assert not any(reasons)
    rock_salt = known("MgO")
    numbers = rock_salt.atomic_numbers
    feo = replace(rock_salt, atomic_numbers=np.where(numbers == 12, np.uint8(26), numbers))
    fes = replace(feo, atomic_numbers=np.where(numbers == 8, np.uint8(16), feo.atomic_numbers))
    values, _ = mp2020_corrections(Crystals.concatenate([feo, fes]))
    # Sulphides are calculated without U.
    np.testing.assert_allclose(values, [(oxide + iron) / 2, sulphide / 2], atol=1e-9)


def test_hull_of_published_energies() -> None:
    """Formation energies are those measured: -601.6 and -411.1 kJ/mol."""
    _, hull = judge_hull()
    for formula, symbols, measured in (
        ("Mg1O1", ("Mg", "O"), -601.6),
        ("Cl1Na1", ("Cl", "Na"), -411.1),
    ):
        elements = [hull.energy(f"{symbol}1") for symbol in symbols]
        found = hull.energy(formula) - sum(elements) / 2
        assert found == pytest.approx(measured / 96.485 / 2, abs=0.1)  # eV/atom


def test_judged_by_any_calculator(tmp_path: Path) -> None:
    """EMT stands for a judge: its energy, no correction for a metal, its reason for silicon."""
    bundle = relaxed(known("Cu", "Si", "Cu"))
    status = bundle.columns["status"]
    failed = replace(status, values=strings(["converged", "converged", "max_steps"]))
    bundle = bundle.with_columns({"status": failed})
    write_bundle(tmp_path / "relaxed.h5", bundle)
    out = tmp_path / "judged.h5"
    args = ["hull", "evaluate", str(tmp_path / "relaxed.h5"), "--judge", EMT, "-o", str(out)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    columns = read_bundle(out).columns
    copper: Any = known("Cu").to_ase()[0]
    copper.calc = import_module("ase.calculators.emt").EMT()
    energy = copper.get_potential_energy() / len(copper)
    _, hull = judge_hull()
    assert columns["e_judge"].values[0] == pytest.approx(energy)
    assert columns["e_hull_judge"].values[0] == pytest.approx(energy - hull.energy("Cu1"))
    assert columns["e_hull_judge"].unit == "eV/atom"
    assert f"{EMT} with MP2020 corrections" in columns["e_hull_judge"].source
    reasons = columns["e_hull_judge_reason"].values
    assert reasons[0] == ""
    assert reasons[1].startswith("potential failed: No EMT-potential for Si")
    assert reasons[2] == "not relaxed: max_steps"
    assert np.isnan(columns["e_hull_judge"].values[1:]).all()
    # The shipped calibration does not know this judge: the estimate is that of CHGNet alone.
    alone = with_energies_above_hull(bundle, load_reference(), Hull(load_reference()))
    for name in ("e_hull_est", "p_hull_050"):
        np.testing.assert_array_equal(columns[name].values, alone.columns[name].values)


def test_energy_relaxes_and_judges(tmp_path: Path) -> None:
    bundle = Bundle(crystals=displaced(known("Cu"), 0.05, 1), ids=strings(["a"]))
    write_bundle(tmp_path / "a.h5", bundle)
    out = tmp_path / "relaxed.h5"
    args = ["energy", str(tmp_path / "a.h5"), "--judge", EMT, "-o", str(out)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    found = read_bundle(out)
    assert found.provenance["judged_by"].startswith(f"{EMT} with MP2020 corrections")
    again = with_judgement(found, RelaxConfig(judge=EMT))
    np.testing.assert_array_equal(found.columns["e_judge"].values, again.columns["e_judge"].values)


def test_a_judge_needs_no_hull_of_the_potential_that_relaxed() -> None:
    settings = RelaxConfig(potential=EMT, judge="ase.calculators.lj:LennardJones", rattle=False)
    start = Bundle(crystals=displaced(known("Cu"), 0.05, 1), ids=strings(["a"]))
    (found,) = RelaxStage(settings).over([start])
    assert "e_hull" not in found.columns
    level = judge_hull()[1].energy("Cu1")
    e_judge, above = (found.columns[name].values[0] for name in ("e_judge", "e_hull_judge"))
    assert above == pytest.approx(e_judge - level)


@pytest.mark.parametrize("judge", ["chgnet", EMT])
def test_a_judge_is_another_potential(judge: str) -> None:
    settings = RelaxConfig(potential=judge, judge=judge)
    with pytest.raises(UsageError, match=f"--judge {judge}: a second opinion comes of another"):
        with_judgement(relaxed(known("Cu")), settings)


def test_a_judge_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sevenn", None)  # as if not installed
    with pytest.raises(UsageError) as caught:
        with_judgement(relaxed(known("Cu")), RelaxConfig(judge="sevennet-l3i5", device="cpu"))
    said = str(caught.value)
    assert said.startswith("--judge sevennet-l3i5 needs a package that is not installed")
    assert "`pip install 'pigen[judge]'`" in said
    assert "\n" not in said


def with_dft(n: int) -> Bundle:
    """Structures whose judge is off DFT by 20 meV/atom, where CHGNet is off by 60."""
    crystals = known(*NAMES)
    bundle = relaxed(Crystals.concatenate([crystals] * (n // len(crystals))))
    rng = np.random.default_rng(3)
    dft = rng.uniform(0.0, 0.4, len(bundle))
    energies = bundle.columns["e_relaxed"]
    e_hull = dft - 0.1 + 0.06 * rng.normal(size=len(bundle))
    _, hull = judge_hull()
    level = [hull.energy(formula) for formula in bundle.crystals.reduced_formulas()]
    judge = np.array(level) + dft - 0.05 + 0.02 * rng.normal(size=len(bundle))
    judge[:3] = np.nan
    said = "fake with MP2020 corrections, judged by pigen 0"
    reasons = strings(["no energy"] * 3 + [""] * (len(bundle) - 3))
    return bundle.with_columns(
        {
            "e_relaxed": replace(energies, values=energies.values - 0.02 + e_hull),
            "e_hull_dft": Column(dft, "eV/atom", "VASP"),
            "generator": Column(strings("ab"[i % 2] for i in range(len(bundle))), "", ""),
            "e_judge": Column(judge, "eV/atom", said),
            "e_hull_judge_reason": Column(reasons, "", said),
        }
    )


def test_a_second_opinion_enters_the_estimate(tmp_path: Path) -> None:
    data, out, scored = with_dft(210), tmp_path / "mine.json", tmp_path / "scored.h5"
    write_bundle(tmp_path / "dft.h5", data)
    run = CliRunner().invoke
    args = ["hull", "calibrate", str(tmp_path / "dft.h5"), "-o", str(out), "--json"]
    result = run(main, args)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    alone, both = said["groups"]["all together"], said["with_judge"]["all together"]
    assert (alone["n"], both["n"]) == (len(data), len(data) - 3)
    assert both["mae"] < 0.5 * alone["mae"]
    assert json.loads(out.read_text())["judged"]["level"] == "fake with MP2020 corrections"
    args = ["hull", "evaluate", tmp_path / "dft.h5", "--calibration", out, "-o", scored]
    result = run(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    columns = read_bundle(scored).columns
    value, sd = columns["e_hull_est"].values, columns["e_hull_est_sd"].values
    off = np.abs(value - columns["e_hull_dft"].values)
    assert off[3:].mean() < 0.03
    assert sd[3:].mean() < 0.5 * sd[:3].mean()  # three have CHGNet's alone
    assert np.isfinite(value).all()
    assert "calibration of fake with MP2020 corrections" in columns["e_hull_est"].source
    # Of another judge the estimate makes no use.
    other = replace(
        data.columns["e_judge"], source="other with MP2020 corrections, judged by pigen 0"
    )
    write_bundle(tmp_path / "other.h5", data.with_columns({"e_judge": other}))
    args = [*args[:2], tmp_path / "other.h5", *args[3:], "--force"]
    assert run(main, [str(arg) for arg in args]).exit_code == 0
    found = read_bundle(scored).columns
    assert "fake" not in found["e_hull_est"].source
    np.testing.assert_allclose(found["e_hull_est"].values[:3], value[:3], rtol=1e-12)
    assert (found["e_hull_est"].values[3:] != value[3:]).all()


def test_shipped_calibration_knows_the_judge() -> None:
    judged = load_calibration().judged
    assert judged is not None
    assert judged.level == "sevennet 7net-l3i5 with MP2020 corrections"
    assert judged.reference == judge_hull()[0].digest


def test_shipped_hull_of_the_judge_is_small() -> None:
    assert sum(path.stat().st_size for path in resources.HULL_DFT.iterdir()) < 300_000


@pytest.mark.skipif(find_spec("sevenn") is None, reason="sevenn is not installed: pigen[judge]")
@pytest.mark.filterwarnings("ignore")  # the package's own
def test_sevennet_equals_its_own_calculator() -> None:
    potential = load_potential("sevennet-l3i5", "cpu")
    crystals = displaced(known("MgO", "SrTiO3"), 0.05, 2)
    found = potential.evaluate(crystals)
    single = [potential.evaluate(crystals[i]) for i in range(2)]
    np.testing.assert_allclose([one.energy[0] for one in single], found.energy, atol=1e-6)
    calculator = import_module("sevenn.calculator").SevenNetCalculator("7net-l3i5", device="cpu")
    atoms: Any
    for i, atoms in enumerate(crystals.to_ase()):
        atoms.calc = calculator
        energy = atoms.get_potential_energy() / len(atoms)
        assert found.energy[i] == pytest.approx(energy, abs=1e-5)
        rows = slice(*crystals.ptr[i : i + 2])
        np.testing.assert_allclose(found.forces[rows], atoms.get_forces(), atol=2e-4)
        np.testing.assert_allclose(found.stress[i], atoms.get_stress(voigt=False), atol=2e-5)


@pytest.mark.skipif(find_spec("sevenn") is None, reason="sevenn is not installed: pigen[judge]")
@pytest.mark.filterwarnings("ignore")  # the package's own
def test_sevennet_puts_known_crystals_near_the_hull() -> None:
    """Stable crystals: MgO and CaF2 come out 52 and 84 meV/atom below the published hull."""
    judged = with_judgement(relaxed(known("MgO", "Si", "CaF2")), RelaxConfig(judge="sevennet-l3i5"))
    reference = load_reference()
    found = with_energies_above_hull(judged, reference, Hull(reference)).columns
    assert np.abs(found["e_hull_judge"].values).max() < 0.1
