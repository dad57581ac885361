"""The estimate of DFT's energies: what the fit recovers, when errors widen, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tests.support.real_crystals import NACL, PEROVSKITE, QUARTZ

from pigen.bundle import Bundle, Column, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.energy.calibration import ESTIMATE_COLUMNS, load_calibration, with_estimate
from pigen.energy.calibration.estimate import calibration_of, expected_sums, share_of
from pigen.energy.calibration.features import (
    ERROR_FEATURES,
    MEAN_FEATURES,
    Features,
    KnownCompositions,
)
from pigen.energy.calibration.fit import average_precision, fit_to_groups
from pigen.energy.calibration.model import fit_model
from pigen.energy.hull import Hull, load_reference, with_energies_above_hull
from pigen.runtime.errors import UsageError


def synthetic(n: int, seed: int) -> tuple[Features, NDArray[np.float64]]:
    """e_hull + 0.15 and a term of manganese, with an error of 20 to 120 meV/atom."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, len(MEAN_FEATURES)))
    mean[:, 0] = rng.uniform(0.0, 0.5, n)
    error = np.zeros((n, len(ERROR_FEATURES)))
    error[:, 0] = mean[:, 0]
    elements = np.zeros((n, 104))
    for row in elements:
        row[rng.choice([8, 11, 25, 26], 2, replace=False)] = 0.5
    sd = 0.02 + 0.2 * mean[:, 0]
    target = mean[:, 0] + 0.15 + 0.2 * elements[:, 25] + sd * rng.normal(size=n)
    return Features(mean, error, elements), target


def test_fit_recovers_the_mean_and_the_size_of_its_error() -> None:
    model = fit_model(*synthetic(1500, 1))
    features, target = synthetic(1500, 2)
    predicted = model.predict(features)
    off = target - predicted.value
    assert abs(off.mean()) < 0.01
    assert abs(off[features.elements[:, 25] > 0].mean()) < 0.01
    low, high = predicted.interval(0.8)
    assert 0.75 < np.mean((target >= low) & (target <= high)) < 0.85
    near, far = features.mean[:, 0] < 0.1, features.mean[:, 0] > 0.4
    assert 2.0 < predicted.sd[far].mean() / predicted.sd[near].mean() < 4.0
    assert predicted.below(0.25).sum() == pytest.approx((target < 0.25).sum(), rel=0.1)


def test_error_widens_outside_the_data() -> None:
    model = fit_model(*synthetic(300, 1))
    features, _ = synthetic(50, 2)
    inside = model.predict(features).sd
    shifted = features.mean.copy()
    shifted[:, 13] += 30.0
    assert (model.predict(Features(shifted, features.error, features.elements)).sd > inside).all()
    other = np.zeros_like(features.elements)
    other[:, 79] = 1.0  # gold, which no structure of the data holds
    unknown = model.predict(Features(features.mean, features.error, other)).sd
    assert (unknown > inside).mean() > 0.8


def test_errors_are_those_of_kinds_left_out() -> None:
    features, target = synthetic(900, 1)
    kind = np.array(["a", "b", "c"], dtype=object)[np.arange(900) % 3]
    shift = {"a": 0.1, "b": 0.0, "c": -0.1}  # what no feature tells
    shifted = target + np.array([shift[name] for name in kind])
    alone, apart = fit_model(features, shifted), fit_to_groups(features, shifted, kind)
    np.testing.assert_array_equal(alone.weights, apart.weights)
    other, _ = synthetic(300, 2)
    assert (apart.predict(other).sd > 1.05 * alone.predict(other).sd).all()
    # Without such shifts both are the same but for chance.
    even = fit_to_groups(features, target, kind).predict(other).sd
    np.testing.assert_allclose(even, fit_model(features, target).predict(other).sd, rtol=0.1)


def test_a_missing_feature_counts_as_the_mean() -> None:
    model = fit_model(*synthetic(300, 1))
    features, _ = synthetic(5, 2)
    mean = features.mean.copy()
    mean[:, 14] = np.nan
    found = model.predict(Features(mean, features.error, features.elements)).value
    mean[:, 14] = model.centre[14]
    same = model.predict(Features(mean, features.error, features.elements)).value
    np.testing.assert_allclose(found, same)


def test_average_precision_by_hand() -> None:
    hit = np.array([True, False, True, False])
    # Ranked 1st and 3rd: (1/1 + 2/3) / 2.
    assert average_precision(hit, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx(5 / 6)


def test_distance_of_compositions() -> None:
    known = KnownCompositions(["Na1Cl1", "Fe2O3"])
    same, near, far = known.distances(["Cl1Na1", "K1Cl1", "O1W3"])
    assert same == pytest.approx(0.0, abs=1e-6)
    assert same < near < far


# -- what is shipped ------------------------------------------------------------------------------
def relaxed() -> Bundle:
    reference = load_reference()
    crystals = Crystals.concatenate([NACL, PEROVSKITE, QUARTZ])
    formulas = crystals.reduced_formulas()
    energies = np.array([Hull(reference).energy(formula) for formula in formulas]) + 0.02
    source = f"pigen relax(model={reference.level}, fmax=0.05)"
    columns = {
        "e_relaxed": Column(energies, "eV/atom", source),
        "status": Column(strings(["converged"] * len(crystals)), "", source),
    }
    return Bundle(crystals=crystals, ids=strings(formulas), columns=columns)


def test_shipped_calibration_goes_with_the_shipped_hull() -> None:
    reference, bundle = load_reference(), relaxed()
    found = with_energies_above_hull(bundle, reference, Hull(reference))
    assert set(ESTIMATE_COLUMNS) <= found.columns.keys()
    value, sd, common, p050, p100 = (found.columns[name].values for name in ESTIMATE_COLUMNS)
    assert ((p050 >= 0) & (p050 <= p100) & (p100 <= 1)).all()
    assert (sd > 0.02).all()
    assert (common == load_calibration().systematic).all()
    assert (value > found.columns["e_hull"].values).all()  # CHGNet's are biased low
    said = share_of(found)
    assert said is not None
    assert said["p_hull_050"] == pytest.approx(p050.sum())
    parts = Counter(expected_sums(found.select(slice(0, 1))))
    parts.update(expected_sums(found.select(slice(1, None))))
    assert parts == pytest.approx(expected_sums(found))  # chunk by chunk
    assert float(said["error_p_hull_050"]) > np.sqrt((p050 * (1 - p050)).sum())


def test_no_estimate_without_e_hull_or_with_another_reference() -> None:
    reference, bundle = load_reference(), relaxed()
    failed = np.array(["max_steps", *["converged"] * (len(bundle) - 1)], dtype=object)
    columns = {**bundle.columns, "status": Column(failed, "", "")}
    found = with_energies_above_hull(replace(bundle, columns=columns), reference, Hull(reference))
    assert np.isnan(found.columns["p_hull_050"].values).tolist()[:2] == [True, False]
    fewer = replace(reference, entries=reference.entries[:-1])
    found = with_energies_above_hull(bundle, fewer, Hull(fewer))
    assert not set(ESTIMATE_COLUMNS) & found.columns.keys()
    with pytest.raises(UsageError, match="no column e_hull"):
        with_estimate(bundle, reference, load_calibration())


def test_a_calibration_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    reference, shipped = load_reference(), load_calibration()
    path = tmp_path / "mine.json"
    replace(shipped, level="mace 1").write(path)
    with pytest.raises(UsageError, match=r"mine\.json is a calibration of 'mace 1', the energies"):
        calibration_of(reference, path)
    replace(shipped, reference="0123").write(path)
    with pytest.raises(UsageError, match="for the hull of reference 0123, this one is"):
        calibration_of(reference, path)
    path.write_text("{}")
    with pytest.raises(UsageError, match="has format 'None'"):
        load_calibration(path)
    written = tmp_path / "same.json"
    shipped.write(written)
    assert load_calibration(written).model.predict is not None
    np.testing.assert_array_equal(load_calibration(written).model.weights, shipped.model.weights)
    broken = json.loads(written.read_text())
    broken["weights"][0] = "x"
    written.write_text(json.dumps(broken))
    with pytest.raises(UsageError, match="is damaged"):
        load_calibration(written)


def test_calibrate_from_a_bundle_to_a_filter(tmp_path: Path) -> None:
    bundle = relaxed()
    many = Bundle.concatenate([bundle] * (240 // len(bundle) + 1))
    many = replace(many, ids=strings(f"s{i}" for i in range(len(many))))
    rng = np.random.default_rng(3)
    energies = many.columns["e_relaxed"].values + rng.uniform(-0.02, 0.2, len(many))
    e_hull = energies - many.columns["e_relaxed"].values + 0.02
    dft = e_hull + 0.1 + 0.03 * rng.normal(size=len(many))
    source = many.columns["e_relaxed"].source
    data = many.with_columns(
        {
            "e_relaxed": Column(energies, "eV/atom", source),
            "e_hull_dft": Column(dft, "eV/atom", "VASP"),
            "generator": Column(strings("ab"[i % 2] for i in range(len(many))), "", ""),
        }
    )
    write_bundle(tmp_path / "dft.h5", data)
    run = CliRunner().invoke
    out = tmp_path / "mine.json"
    result = run(main, ["hull", "calibrate", str(tmp_path / "dft.h5"), "-o", str(out), "--json"])
    assert result.exit_code == 0, result.output
    groups = json.loads(result.stdout)["groups"]
    assert groups.keys() == {"a", "b", "all together"}
    assert abs(groups["all together"]["mean_error"]) < 15
    assert groups["all together"]["raw_mean_error"] == pytest.approx(-100, abs=15)
    scored = tmp_path / "scored.h5"
    args = ["hull", "evaluate", tmp_path / "dft.h5", "--calibration", out, "-o", scored]
    assert run(main, [str(arg) for arg in args]).exit_code == 0
    kept = tmp_path / "kept.h5"
    args = ["filter", scored, "--p-hull-100", "0.3", "-o", kept]
    result = run(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    columns = read_bundle(kept).columns
    assert 0 < len(columns["p_hull_100"].values) < len(many)
    assert columns["p_hull_100"].values.min() > 0.3
    few = tmp_path / "few.h5"
    write_bundle(few, data.select(slice(0, 20)))
    result = run(main, ["hull", "calibrate", str(few), "-o", str(tmp_path / "x.json")])
    assert result.exit_code == 2
    assert "a calibration needs 100" in result.stderr
