"""The estimate in a bundle, and the file that a calibration lives in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen import __version__
from pigen.bundle import Bundle, Column
from pigen.energy.calibration.features import (
    ERROR_FEATURES,
    JUDGE_ERROR_FEATURES,
    JUDGE_MEAN_FEATURES,
    MEAN_FEATURES,
    Array,
    Features,
    KnownCompositions,
    features_of,
)
from pigen.energy.calibration.model import Model
from pigen.energy.hull.reference import Reference
from pigen.energy.judge import E_HULL_JUDGE, level_of_judge
from pigen.runtime import resources
from pigen.runtime.errors import UsageError
from pigen.runtime.files import parse_json, read_text, write_atomically

FORMAT = "pigen-calibration-1"
E_HULL_EST, E_HULL_EST_SD = "e_hull_est", "e_hull_est_sd"
E_HULL_EST_COMMON = "e_hull_est_common"
"""Column of the part of the error that all estimates of a kind of structures have in common."""
P_HULL = {"p_hull_050": 0.050, "p_hull_100": 0.100}
"""Columns of probabilities → threshold, eV/atom."""
ESTIMATE_COLUMNS = (E_HULL_EST, E_HULL_EST_SD, E_HULL_EST_COMMON, *P_HULL)
_FEATURES = {"mean": list(MEAN_FEATURES), "error": list(ERROR_FEATURES)}
_JUDGE_FEATURES = {
    "mean": [*MEAN_FEATURES, *JUDGE_MEAN_FEATURES],
    "error": [*ERROR_FEATURES, *JUDGE_ERROR_FEATURES],
}
_N, _VARIANCE, _SHIFT = "n", "variance of ", "shift of "
_DIGITS = 6
_ARRAYS = (
    *("centre", "spread", "weights"),
    *("error_centre", "error_spread", "error_weights", "residuals"),
)


@dataclass(frozen=True)
class Fitted:
    """A model, what it was fitted to, and how well it did there.

    Attributes:
        level: of theory of the energies above the hull that it takes, e.g. "chgnet 0.3.0"; of a
            judge's, as of `level_of_judge`.
        reference: digest of the hull's reference.
        source: the DFT data that it was fitted to.
        systematic: eV/atom by which the mean error of a group of structures that it was not fitted
            to is off: what all structures of one kind have in common.
        model: coefficients.
        groups: left-out figures by group of structures.
    """

    level: str
    reference: str
    source: str
    systematic: float
    model: Model
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What stands as the source of the columns of `with_estimate`."""
        return (
            f"pigen {__version__} calibration of {self.level} on {self.source}, systematic error "
            f"{1000 * self.systematic:.0f} meV/atom"
        )

    def as_data(self, features: Mapping[str, list[str]]) -> dict[str, Any]:
        """What is written of it; ``features`` names those of its model."""
        model, covariance = self.model, self.model.covariance
        upper = covariance[np.triu_indices(len(covariance))]
        arrays = {name: _rounded(getattr(model, name)) for name in _ARRAYS}
        return {
            "level": self.level,
            "reference": self.reference,
            "source": self.source,
            "systematic": round(self.systematic, 4),
            "features": features,
            "groups": {name: dict(values) for name, values in self.groups.items()},
            **arrays,
            "covariance, upper triangle": _rounded(upper, 4),
        }


@dataclass(frozen=True)
class Calibration(Fitted):
    """A fit to energies above the hull of the potential that relaxes, and perhaps another.

    Attributes:
        judged: fitted to the same with ``e_hull_judge`` beside, for structures that have it.
    """

    judged: Fitted | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        written = {"format": FORMAT, **self.as_data(_FEATURES)}
        if self.judged:
            written["judged"] = self.judged.as_data(_JUDGE_FEATURES)
        lines = (f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in written.items())
        write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")

    def with_judge(self, bundle: Bundle) -> Fitted | None:
        """What is fitted to the judge's energies of a bundle; None if there is nothing."""
        column, judged = bundle.columns.get(E_HULL_JUDGE), self.judged
        if column is None or judged is None:
            return None
        ours = level_of_judge(column.source) == judged.level
        return judged if ours and judged.reference in column.source else None


def load_calibration(path: Path | None = None) -> Calibration:
    """The calibration in a file; the shipped one by default.

    Raises:
        UsageError: there is none, or it is damaged or of another version.
    """
    path = path or resources.CALIBRATION
    try:
        read: Any = parse_json(read_text(path))
        if read.get("format") != FORMAT:
            said = str(read.get("format"))[:40]
            raise UsageError(f"{path} has format {said!r}; this PIGEN reads {FORMAT}")
        own = _fitted(read, _FEATURES, path)
        judged = read.get("judged")
        return Calibration(
            **vars(own), judged=_fitted(judged, _JUDGE_FEATURES, path) if judged else None
        )
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error!r:.200}") from None


def _fitted(read: Mapping[str, Any], features: Mapping[str, list[str]], path: Path) -> Fitted:
    if read["features"] != features:
        raise UsageError(
            f"{path} was fitted with other features; fit it again with `pigen hull calibrate`"
        )
    return Fitted(
        str(read["level"]),
        str(read["reference"]),
        str(read["source"]),
        float(read["systematic"]),
        _model(read, features),
        read["groups"],
    )


def calibration_of(reference: Reference, path: Path | None = None) -> Calibration | None:
    """The calibration that goes with a reference.

    Args:
        reference: of the energies above the hull.
        path: of a calibration; None for the shipped one, if it is of this reference.

    Raises:
        UsageError: the calibration given is of another potential, or of another reference.
    """
    found = load_calibration(path) if path else _shipped()
    if found.level == reference.level and found.reference == reference.digest:
        return found
    if path is None:
        return None
    if found.level != reference.level:
        raise UsageError(
            f"{path} is a calibration of {found.level!r}, the energies are of "
            f"{reference.level or 'an unnamed potential'!r}; fit one with `pigen hull calibrate`"
        )
    raise UsageError(
        f"{path} is a calibration for the hull of reference {found.reference}, this one is "
        f"{reference.digest}; fit one for it with `pigen hull calibrate`"
    )


def with_estimate(bundle: Bundle, reference: Reference, calibration: Calibration) -> Bundle:
    """The bundle with the columns `ESTIMATE_COLUMNS`, NaN where it has no ``e_hull``.

    Structures with ``e_hull_judge`` are estimated from both, if the calibration knows the judge.

    Args:
        bundle: relaxed structures with the column ``e_hull`` (eV/atom).
        reference: of the hull.
        calibration: for that reference.

    Raises:
        UsageError: no column ``e_hull``.
    """
    if "e_hull" not in bundle.columns:
        raise UsageError("no column e_hull; run `pigen energy` first")
    e_hull = bundle.columns["e_hull"].values.astype(np.float64)
    found: dict[str, Array] = {name: np.full(len(bundle), np.nan) for name in ESTIMATE_COLUMNS}
    known = known_compositions(reference)
    judged, source = calibration.with_judge(bundle), calibration.said
    alone = np.isfinite(e_hull)
    if judged is not None:
        judge = bundle.columns[E_HULL_JUDGE].values.astype(np.float64)
        both = alone & np.isfinite(judge)
        alone &= ~both
        source = f"{judged.said}, where there is no {E_HULL_JUDGE} {source}"
        if both.any():
            features = features_of(bundle.select(both), e_hull[both], known, judge[both])
            _fill(found, both, judged, features)
    if alone.any():
        _fill(found, alone, calibration, features_of(bundle.select(alone), e_hull[alone], known))
    units = {name: "" if name in P_HULL else "eV/atom" for name in ESTIMATE_COLUMNS}
    return bundle.with_columns(
        {name: Column(values, units[name], source) for name, values in found.items()}
    )


def _fill(
    found: dict[str, Array], rows: NDArray[np.bool_], fitted: Fitted, features: Features
) -> None:
    predicted = fitted.model.predict(features)
    found[E_HULL_EST][rows] = predicted.value
    found[E_HULL_EST_SD][rows] = predicted.sd
    found[E_HULL_EST_COMMON][rows] = fitted.systematic
    for name, threshold in P_HULL.items():
        found[name][rows] = predicted.below(threshold)


def expected_sums(bundle: Bundle) -> dict[str, float]:
    """What `expected_share` is made of; the sums of chunks add up to those of all.

    Args:
        bundle: with the columns of `with_estimate`; without them there is nothing to sum.
    """
    if not set(ESTIMATE_COLUMNS) <= bundle.columns.keys():
        return {}
    have = np.isfinite(bundle.columns[E_HULL_EST].values)
    columns = {name: bundle.columns[name].values[have] for name in ESTIMATE_COLUMNS}
    value, sd, common = (columns[c] for c in (E_HULL_EST, E_HULL_EST_SD, E_HULL_EST_COMMON))
    sums = {_N: float(have.sum())}
    for name, threshold in P_HULL.items():
        p = columns[name]
        slope = np.exp(-0.5 * ((threshold - value) / sd) ** 2) / (np.sqrt(2 * np.pi) * sd)
        sums[name] = float(p.sum())
        sums[_VARIANCE + name] = float((p * (1.0 - p)).sum())
        sums[_SHIFT + name] = float((common * slope).sum())
    return sums


def expected_share(sums: Mapping[str, float], source: str) -> dict[str, float | str] | None:
    """How many structures DFT is expected to put below each threshold, with the error.

    The error is of chance, and of what all structures have in common (`E_HULL_EST_COMMON`): the
    probability of each moves with that.

    Args:
        sums: of `expected_sums`.
        source: of the estimate.

    Returns:
        Numbers by name of the probability, ``error_…`` beside each, and ``text`` that says so; None
        where no structure has an estimate.
    """
    if not sums.get(_N):
        return None
    found: dict[str, float | str] = {}
    said = []
    for name, threshold in P_HULL.items():
        number, error = (
            sums[name],
            float(np.sqrt(sums[_VARIANCE + name] + sums[_SHIFT + name] ** 2)),
        )
        found[name], found[f"error_{name}"] = number, error
        said.append(f"{number:.1f} ± {error:.1f} below {1000 * threshold:.0f} meV/atom")
    whole = f"{' and '.join(said)} of {sums[_N]:.0f}"
    found["text"] = f"DFT is expected to put {whole} (estimate: {source})"
    return found


def share_of(bundle: Bundle) -> dict[str, float | str] | None:
    """`expected_share` of a bundle with the columns of `with_estimate`; None without them."""
    sums = expected_sums(bundle)
    return expected_share(sums, bundle.columns[E_HULL_EST].source) if sums else None


def known_compositions(reference: Reference) -> KnownCompositions:
    """Compositions of a reference."""
    return _known(tuple(sorted({entry.formula for entry in reference.entries})))


@lru_cache(maxsize=2)
def _known(formulas: tuple[str, ...]) -> KnownCompositions:
    return KnownCompositions(formulas)


@lru_cache(maxsize=1)
def _shipped() -> Calibration:
    return load_calibration()


def _model(read: Mapping[str, Any], features: Mapping[str, list[str]]) -> Model:
    arrays = {name: np.array(read[name], dtype=np.float64) for name in _ARRAYS}
    n = len(arrays["weights"])
    covariance = np.zeros((n, n))
    covariance[np.triu_indices(n)] = read["covariance, upper triangle"]
    covariance = covariance + covariance.T - np.diag(np.diag(covariance))
    sizes = (len(arrays["centre"]), len(arrays["error_centre"]), len(arrays["error_weights"]) - 1)
    if sizes != tuple(len(features[name]) for name in ("mean", "error", "error")):
        raise ValueError(f"{sizes} coefficients")
    if not all(np.isfinite(values).all() for values in (covariance, *arrays.values())):
        raise ValueError("a coefficient is not finite")
    return Model(covariance=covariance, **arrays)


def _rounded(values: Array, digits: int = _DIGITS) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values.tolist()]
