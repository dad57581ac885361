"""The calibration's model: a ridge regression whose error depends on the structure.

y = w·x + b·(element fractions) + ε. The weights have a Gaussian prior (the ridge), so the part of
the error that comes of them is known and grows outside the data, also for an element that the data
lack; the size of ε is log-linear in features of its own. What ε / size looks like is taken from
the data, quantile by quantile: it is skewed and has a long tail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pigen.energy.calibration.features import Array, Features

_ELEMENT_SCALE = 3.0
_RIDGE, _RIDGE_ELEMENT = 3.0, 30.0
_UNIT = 0.1
"""eV/atom: the error to which the ridge belongs."""
_LEAST_ERROR = 0.01
_PASSES, _INNER = 8, 4
QUANTILES = 201
"""Of the residuals."""
_FREE = 8.0
"""Standard deviations that a feature may lie off before the error is widened."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of B structures, eV/atom.

    Attributes:
        value: (B,) expected energy above the hull.
        scale: (B,) what residuals are measured in.
        model: of which it is.
    """

    value: Array
    scale: Array
    model: Model

    @property
    def sd(self) -> Array:
        """(B,) half the width of the central 68 % of the error."""
        low, high = np.interp([0.16, 0.84], self.model.levels, self.model.residuals)
        return self.scale * 0.5 * (high - low)

    def below(self, threshold: float) -> Array:
        """(B,) probability to lie below a threshold, eV/atom."""
        at = (threshold - self.value) / self.scale
        return np.interp(at, self.model.residuals, self.model.levels, left=0.0, right=1.0)

    def interval(self, coverage: float) -> tuple[Array, Array]:
        """(B,) ends of the central interval that holds this share."""
        tail = 0.5 * (1.0 - coverage)
        low, high = np.interp([tail, 1.0 - tail], self.model.levels, self.model.residuals)
        return self.value + low * self.scale, self.value + high * self.scale


@dataclass(frozen=True)
class Model:
    """Coefficients.

    Attributes:
        centre, spread: (p,) of the features of the mean.
        weights: (1 + p + 104,).
        covariance: (1 + p + 104, 1 + p + 104) of the weights, eV².
        error_centre, error_spread: (q,) of the features of the error.
        error_weights: (1 + q,), of the logarithm of the error.
        residuals: quantiles of residual / scale, ascending.
    """

    centre: Array
    spread: Array
    weights: Array
    covariance: Array
    error_centre: Array
    error_spread: Array
    error_weights: Array
    residuals: Array

    @property
    def levels(self) -> Array:
        """Levels of the quantiles ``residuals``."""
        return np.linspace(0.0, 1.0, len(self.residuals))

    def predict(self, features: Features) -> Prediction:
        """Expected values and errors; a missing feature counts as the mean of the data."""
        z = _standard(features.mean, self.centre, self.spread)
        beyond = np.maximum(np.abs(z) - _FREE, 0.0).max(axis=1, initial=0.0)
        rows = _rows(np.clip(z, -_FREE, _FREE), features.elements)
        of_error = _error_rows(features.error, self.error_centre, self.error_spread)
        own = np.exp(of_error @ self.error_weights)
        from_weights = np.einsum("bi,ij,bj->b", rows, self.covariance, rows)
        scale = np.sqrt(own**2 + from_weights) * (1.0 + beyond / _FREE)
        return Prediction(rows @ self.weights, scale, self)


def fit_model(features: Features, target: Array) -> Model:
    """Fit to energies above the hull (B,) by DFT, eV/atom.

    Weights by Huber's loss with each residual over its expected size, which is fitted to the
    residuals in turn.
    """
    centre, spread = _centre_spread(features.mean)
    e_centre, e_spread = _centre_spread(features.error)
    z = _standard(features.mean, centre, spread)
    rows = _rows(np.clip(z, -_FREE, _FREE), features.elements)
    of_error = _error_rows(features.error, e_centre, e_spread)
    ridge = np.full(rows.shape[1], _RIDGE)
    ridge[0], ridge[1 + z.shape[1] :] = 1e-6, _RIDGE_ELEMENT
    size = np.full(len(target), 0.12)
    weights = np.zeros(rows.shape[1])
    error_weights = np.zeros(of_error.shape[1])
    for k in range(_PASSES):
        for j in range(_INNER):
            off = np.abs(target - rows @ weights) / size if k or j else np.ones(len(target))
            trust = (_UNIT / size) ** 2 / np.maximum(off, 1.0)
            inverse = np.linalg.inv((rows * trust[:, None]).T @ rows + np.diag(ridge))
            weights = inverse @ ((rows * trust[:, None]).T @ target)
        # A row pulls the fit towards itself: its residual is divided by what that leaves.
        pull = trust * np.einsum("bi,ij,bj->b", rows, inverse, rows)
        residual = (target - rows @ weights) / (1.0 - np.clip(pull, 0.0, 0.9))
        logs = np.log(np.maximum(np.abs(residual), _LEAST_ERROR))
        normal = of_error.T @ of_error + np.eye(of_error.shape[1])
        error_weights = np.linalg.solve(normal, of_error.T @ logs)
        size = np.exp(of_error @ error_weights)
        factor = np.quantile(np.abs(residual) / size, 0.683)
        error_weights[0] += np.log(factor)
        size = np.maximum(size * factor, _LEAST_ERROR)
    covariance: Array = np.asarray(inverse * _UNIT**2, dtype=np.float64)
    scale = np.sqrt(size**2 + np.einsum("bi,ij,bj->b", rows, covariance, rows))
    residuals = np.quantile(residual / scale, np.linspace(0.0, 1.0, QUANTILES))
    return Model(centre, spread, weights, covariance, e_centre, e_spread, error_weights, residuals)


def _centre_spread(values: Array) -> tuple[Array, Array]:
    centre, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return centre, np.where(spread > 1e-9, spread, 1.0)


def _standard(values: Array, centre: Array, spread: Array) -> Array:
    return np.nan_to_num((values - centre) / spread, nan=0.0)


def _error_rows(values: Array, centre: Array, spread: Array) -> Array:
    return _with_one(np.clip(_standard(values, centre, spread), -3.0, 3.0))


def _with_one(values: Array) -> Array:
    return np.concatenate([np.ones((len(values), 1)), values], axis=1)


def _rows(z: Array, elements: NDArray[np.float64]) -> Array:
    return np.concatenate([_with_one(z), _ELEMENT_SCALE * elements], axis=1)
