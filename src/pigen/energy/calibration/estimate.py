"""The estimate in a bundle, and the file that a calibration lives in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pigen import __version__
from pigen.bundle import Bundle, Column
from pigen.energy.calibration.features import (
    ERROR_FEATURES,
    MEAN_FEATURES,
    Array,
    KnownCompositions,
    features_of,
)
from pigen.energy.calibration.model import Model
from pigen.energy.hull.reference import Reference
from pigen.runtime import resources
from pigen.runtime.bounded import parse_json, read_text
from pigen.runtime.errors import UsageError
from pigen.runtime.files import write_atomically

FORMAT = "pigen-calibration-1"
E_HULL_EST, E_HULL_EST_SD = "e_hull_est", "e_hull_est_sd"
P_HULL = {"p_hull_050": 0.050, "p_hull_100": 0.100}
"""Columns of probabilities → threshold, eV/atom."""
ESTIMATE_COLUMNS = (E_HULL_EST, E_HULL_EST_SD, *P_HULL)
_DIGITS = 6
_ARRAYS = (
    *("centre", "spread", "weights"),
    *("error_centre", "error_spread", "error_weights", "residuals"),
)


@dataclass(frozen=True)
class Calibration:
    """A model, what it was fitted to, and how well it did there.

    Attributes:
        level: of theory of the energies above the hull that it takes, e.g. "chgnet 0.3.0".
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

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        covariance = self.model.covariance
        upper = covariance[np.triu_indices(len(covariance))]
        written = {
            "format": FORMAT,
            "level": self.level,
            "reference": self.reference,
            "source": self.source,
            "systematic": round(self.systematic, 4),
            "features": {"mean": list(MEAN_FEATURES), "error": list(ERROR_FEATURES)},
            "groups": {name: dict(values) for name, values in self.groups.items()},
            "centre": _rounded(self.model.centre),
            "spread": _rounded(self.model.spread),
            "weights": _rounded(self.model.weights),
            "covariance, upper triangle": _rounded(upper, 4),
            "error_centre": _rounded(self.model.error_centre),
            "error_spread": _rounded(self.model.error_spread),
            "error_weights": _rounded(self.model.error_weights),
            "residuals": _rounded(self.model.residuals),
        }
        lines = (f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in written.items())
        write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")


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
        named = read["features"]
        if named != {"mean": list(MEAN_FEATURES), "error": list(ERROR_FEATURES)}:
            raise UsageError(
                f"{path} was fitted with other features; fit it again with `pigen hull calibrate`"
            )
        return Calibration(
            str(read["level"]),
            str(read["reference"]),
            str(read["source"]),
            float(read["systematic"]),
            _model(read),
            read["groups"],
        )
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error!r:.200}") from None


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
    have = np.isfinite(e_hull)
    found: dict[str, Array] = {name: np.full(len(bundle), np.nan) for name in ESTIMATE_COLUMNS}
    if have.any():
        chosen = bundle.select(have)
        features = features_of(chosen, e_hull[have], known_compositions(reference))
        predicted = calibration.model.predict(features)
        found[E_HULL_EST][have] = predicted.value
        found[E_HULL_EST_SD][have] = predicted.sd
        for name, threshold in P_HULL.items():
            found[name][have] = predicted.below(threshold)
    source = (
        f"pigen {__version__} calibration of {calibration.level} on {calibration.source}, "
        f"systematic error {1000 * calibration.systematic:.0f} meV/atom"
    )
    units = {name: "" if name in P_HULL else "eV/atom" for name in ESTIMATE_COLUMNS}
    return bundle.with_columns(
        {name: Column(values, units[name], source) for name, values in found.items()}
    )


def share_of(chunks: Iterable[Bundle]) -> dict[str, float | str] | None:
    """How many structures DFT is expected to put below each threshold, with the error.

    Args:
        chunks: of a bundle with the columns of `with_estimate`.

    Returns:
        Numbers by threshold, ``error_…`` beside each, and ``text`` that says so; None where no
        structure has an estimate.
    """
    parts = [chunk for chunk in chunks if len(chunk) and E_HULL_EST in chunk.columns]
    if not parts:
        return None
    found: dict[str, float | str] = {}
    said, n = [], 0
    for name, threshold in P_HULL.items():
        p = np.concatenate([chunk.columns[name].values for chunk in parts])
        p = p[np.isfinite(p)]
        n = len(p)
        found[name], error = float(p.sum()), expected_error(p, name, parts)
        found[f"error_{name}"] = error
        said.append(f"{p.sum():.1f} ± {error:.1f} below {1000 * threshold:.0f} meV/atom")
    source = parts[0].columns[E_HULL_EST].source
    found["text"] = f"DFT is expected to put {' and '.join(said)} of {n} (estimate: {source})"
    return found


def expected_error(p: Array, name: str, parts: Sequence[Bundle]) -> float:
    """Standard error of Σ p: chance, and what all structures of a kind have in common.

    The latter is the calibration's systematic error: p of each structure moves with it.
    """
    value, sd = (
        np.concatenate([chunk.columns[column].values for chunk in parts])
        for column in (E_HULL_EST, E_HULL_EST_SD)
    )
    have = np.isfinite(value)
    at = (P_HULL[name] - value[have]) / sd[have]
    slope = np.exp(-0.5 * at**2) / (np.sqrt(2 * np.pi) * sd[have])
    shift = systematic_error(parts[0].columns[E_HULL_EST].source) * slope.sum()
    return float(np.sqrt((p * (1.0 - p)).sum() + shift**2))


def systematic_error(source: str) -> float:
    """eV/atom, by which all estimates of a column may be off together, from its ``source``."""
    found = re.search(r"systematic error (\d+) meV/atom", source)
    return float(found[1]) / 1000 if found else 0.0


def known_compositions(reference: Reference) -> KnownCompositions:
    """Compositions of a reference."""
    return _known(tuple(sorted({entry.formula for entry in reference.entries})))


@lru_cache(maxsize=2)
def _known(formulas: tuple[str, ...]) -> KnownCompositions:
    return KnownCompositions(formulas)


@lru_cache(maxsize=1)
def _shipped() -> Calibration:
    return load_calibration()


def _model(read: Mapping[str, Any]) -> Model:
    arrays = {name: np.array(read[name], dtype=np.float64) for name in _ARRAYS}
    n = len(arrays["weights"])
    covariance = np.zeros((n, n))
    covariance[np.triu_indices(n)] = read["covariance, upper triangle"]
    covariance = covariance + covariance.T - np.diag(np.diag(covariance))
    sizes = (len(arrays["centre"]), len(arrays["error_centre"]), len(arrays["error_weights"]) - 1)
    if sizes != (len(MEAN_FEATURES), len(ERROR_FEATURES), len(ERROR_FEATURES)):
        raise ValueError(f"{sizes} coefficients")
    if not all(np.isfinite(values).all() for values in (covariance, *arrays.values())):
        raise ValueError("a coefficient is not finite")
    return Model(covariance=covariance, **arrays)


def _rounded(values: Array, digits: int = _DIGITS) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values.tolist()]
