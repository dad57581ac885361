"""Fitting a calibration to structures with DFT energies, and how it does on those left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle
from pigen.energy.calibration.estimate import Calibration, Fitted, known_compositions
from pigen.energy.calibration.features import Array, Features, features_of
from pigen.energy.calibration.model import QUANTILES, Model, Prediction, fit_model
from pigen.energy.hull import E_HULL
from pigen.energy.hull.reference import Reference
from pigen.energy.judge import E_HULL_JUDGE, judge_hull, level_of_judge
from pigen.runtime.errors import UsageError

MIN_STRUCTURES = 100
"""With fewer there are more coefficients than data."""
_Fit = Callable[[Features, Array, NDArray[np.object_]], Model]
_THRESHOLD = 0.050
_FIRST = 50


@dataclass(frozen=True)
class Data:
    """Relaxed structures with DFT energies above the hull.

    Attributes:
        bundle: with column ``e_hull``, perhaps ``e_hull_judge``.
        dft: (B,) eV/atom.
        group: (B,) what is left out together: the generator, or the source.
    """

    bundle: Bundle
    dft: Array
    group: NDArray[np.object_]


@dataclass(frozen=True)
class Scores:
    """How an estimate compares with DFT, meV/atom and counts.

    Attributes:
        n: structures.
        mean_error, mae: of the estimate; ``raw_mean_error``, ``raw_mae``: of ``e_hull`` itself, or
            where the judge takes part of ``e_hull_judge``; so are the other raw ones.
        expected: Σ P(E < 50 meV/atom); ``found``: how many DFT puts there; ``raw``: ``e_hull``.
        coverage: share of DFT values in the 80 % interval.
        precision: average precision for DFT < 50 meV/atom, ``raw_precision`` by ``e_hull``.
        first: how many of the first 50 DFT puts below 50, ``raw_first`` by ``e_hull``.
    """

    n: int
    mean_error: float
    mae: float
    raw_mean_error: float
    raw_mae: float
    expected: float
    found: int
    raw: int
    coverage: float
    precision: float
    raw_precision: float
    first: int
    raw_first: int


def calibrate(
    data: Data, reference: Reference, source: str
) -> tuple[Calibration, dict[str, Scores], dict[str, Scores]]:
    """Fit a calibration, and a second one with the judge where the data have its energies.

    Args:
        data: what to fit to.
        reference: of the hull that ``e_hull`` is above.
        source: of the DFT energies, for the note beside every figure.

    Returns:
        The calibration, fitted to all, and scores by group, each estimated by a fit without it;
        "all together" where there is more than one group. Then such scores with the judge, empty
        without one.

    Raises:
        UsageError: fewer than `MIN_STRUCTURES` structures.
    """
    own, scores = _fitted(data, reference, reference, source, judged=False)
    if E_HULL_JUDGE not in data.bundle.columns:
        return Calibration(**vars(own)), scores, {}
    judged, with_judge = _fitted(data, reference, judge_hull()[0], source, judged=True)
    return Calibration(**vars(own), judged=judged), scores, with_judge


def _fitted(
    data: Data, reference: Reference, above: Reference, source: str, *, judged: bool
) -> tuple[Fitted, dict[str, Scores]]:
    """A fit and its scores, with the judge's energies or without; ``above`` is their hull's."""
    name = E_HULL_JUDGE if judged else E_HULL
    columns, level = data.bundle.columns, reference.level
    use = np.isfinite(data.dft) & np.isfinite(columns[E_HULL].values)
    if judged:
        use &= np.isfinite(columns[E_HULL_JUDGE].values)
        level = level_of_judge(columns[E_HULL_JUDGE].source)
    if use.sum() < MIN_STRUCTURES:
        raise UsageError(
            f"{use.sum()} structures have both {name} and a DFT energy; a calibration needs "
            f"{MIN_STRUCTURES}"
        )
    bundle, dft, group = data.bundle.select(use), data.dft[use], data.group[use]
    e_hull = bundle.columns[E_HULL].values.astype(np.float64)
    judge = bundle.columns[E_HULL_JUDGE].values.astype(np.float64) if judged else None
    features = features_of(bundle, e_hull, known_compositions(reference), judge)
    raw = e_hull if judge is None else judge
    parts = _left_out(features, dft, group, fit_to_groups)
    scores = {
        name: _scores(predicted, dft[rows], raw[rows]) for name, (rows, predicted) in parts.items()
    }
    off = [one.mean_error for one in scores.values()]
    if len(parts) > 1:
        scores["all together"] = _together(list(parts.values()), dft, raw)
    fitted = Fitted(
        level=level,
        reference=above.digest,
        source=source,
        systematic=float(np.sqrt(np.mean(np.square(off)))) / 1000,
        model=fit_to_groups(features, dft, group),
        groups={name: _shown(one) for name, one in scores.items()},
    )
    return fitted, scores


def fit_to_groups(features: Features, dft: Array, group: NDArray[np.object_]) -> Model:
    """Fit to structures of several kinds; its errors are those found for kinds left out.

    What is estimated later is of yet another kind, so errors of structures of the same kinds, which
    the fit knows, would be too small. Each kind counts alike.

    Args:
        features: of B structures.
        dft: (B,) energies above the hull by DFT, eV/atom.
        group: (B,) their kinds.
    """
    parts = _left_out(features, dft, group, lambda f, y, _: fit_model(f, y))
    levels = np.linspace(0.0, 1.0, 2 * QUANTILES - 1)
    apart = [(dft[rows] - found.value) / found.scale for rows, found in parts.values()]
    pooled = np.concatenate([np.quantile(one, levels) for one in apart])
    residuals = np.quantile(pooled, np.linspace(0.0, 1.0, QUANTILES))
    return replace(fit_model(features, dft), residuals=residuals)


def _left_out(
    features: Features, dft: Array, group: NDArray[np.object_], fit: _Fit
) -> dict[str, tuple[NDArray[np.bool_], Prediction]]:
    """By group, its rows and what a fit to the other groups says of them.

    A single group is divided at random into five, and estimated by the other four.
    """
    names = sorted(set(group))
    if len(names) == 1:
        fold = np.random.default_rng(0).integers(0, 5, len(dft))
        group = np.array([f"fifth {k + 1}" for k in fold], dtype=object)
        names = sorted(set(group))
    found = {}
    for name in names:
        rows = group == name
        model = fit(features[~rows], dft[~rows], group[~rows])
        found[name] = (rows, model.predict(features[rows]))
    return found


def _scores(predicted: Prediction, dft: Array, e_hull: Array) -> Scores:
    low, high = predicted.interval(0.8)
    inside = (dft >= low) & (dft <= high)
    return _scored(predicted.value, predicted.below(_THRESHOLD), inside, dft, e_hull)


def _together(
    parts: list[tuple[NDArray[np.bool_], Prediction]], dft: Array, e_hull: Array
) -> Scores:
    value, chance = np.zeros(len(dft)), np.zeros(len(dft))
    inside = np.zeros(len(dft), dtype=bool)
    for rows, predicted in parts:
        value[rows], chance[rows] = predicted.value, predicted.below(_THRESHOLD)
        low, high = predicted.interval(0.8)
        inside[rows] = (dft[rows] >= low) & (dft[rows] <= high)
    return _scored(value, chance, inside, dft, e_hull)


def _scored(
    value: Array, chance: Array, inside: NDArray[np.bool_], dft: Array, e_hull: Array
) -> Scores:
    hit = dft < _THRESHOLD
    error, raw = 1000 * (value - dft), 1000 * (e_hull - dft)
    return Scores(
        n=len(dft),
        mean_error=float(error.mean()),
        mae=float(np.abs(error).mean()),
        raw_mean_error=float(raw.mean()),
        raw_mae=float(np.abs(raw).mean()),
        expected=float(chance.sum()),
        found=int(hit.sum()),
        raw=int((e_hull < _THRESHOLD).sum()),
        coverage=float(inside.mean()),
        precision=average_precision(hit, chance),
        raw_precision=average_precision(hit, -e_hull),
        first=int(hit[np.argsort(-chance, kind="stable")[:_FIRST]].sum()),
        raw_first=int(hit[np.argsort(e_hull, kind="stable")[:_FIRST]].sum()),
    )


def average_precision(hit: NDArray[np.bool_], score: Array) -> float:
    """Mean, over the hits (B,), of the share of hits among all with at least that score (B,).

    NaN if there is no hit.
    """
    order = np.argsort(-score, kind="stable")
    ranked = hit[order]
    share = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(share[ranked].mean()) if ranked.any() else float("nan")


def _shown(scores: Scores) -> Mapping[str, float]:
    return {
        "n": scores.n,
        "mean_error": round(scores.mean_error, 1),
        "mae": round(scores.mae, 1),
        "expected": round(scores.expected, 1),
        "found": scores.found,
        "coverage": round(scores.coverage, 3),
        "average_precision": round(scores.precision, 3),
    }
