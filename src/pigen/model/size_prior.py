"""How many atoms a cell has: the training distribution p(N), and p(N | targets) by Bayes' rule.

Labels given N are modelled as one Gaussian per N, its moments shrunk towards those of all sizes, so
p(N | q) ∝ p(N) · N(q; μ_N, Σ_N) over whichever labels have a target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHRINK = 30.0  # pooled pseudo-observations added to each size


@dataclass(frozen=True)
class SizePrior:
    """Sizes 1 … M with their frequencies and label moments (standardised labels).

    Attributes:
        frequency: (M,), sums to 1; index 0 is a one-atom cell.
        mean: (M, labels). covariance: (M, labels, labels).
    """

    frequency: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def fit(cls, n_atoms: NDArray[np.int64], labels: NDArray[np.float64]) -> SizePrior:
        """From sizes (B,) and standardised labels (B, n_labels), NaN where missing."""
        counts = np.bincount(n_atoms)[1:].astype(np.float64)
        known = ~np.isnan(labels)
        filled = np.where(known, labels, 0.0)  # standardised: the overall mean is 0
        mean = np.zeros((len(counts), labels.shape[1]))
        covariance = np.zeros((len(counts), labels.shape[1], labels.shape[1]))
        overall = _second_moment(filled, known)
        for size in range(1, len(counts) + 1):
            rows = n_atoms == size
            mean[size - 1] = filled[rows].sum(0) / (known[rows].sum(0) + _SHRINK)
            centred = np.where(known[rows], filled[rows] - mean[size - 1], 0.0)
            pairs = known[rows].astype(float).T @ known[rows].astype(float)
            covariance[size - 1] = (centred.T @ centred + _SHRINK * overall) / (pairs + _SHRINK)
        return cls(counts / counts.sum(), mean, covariance)

    def given(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """p(N | targets), (M,); targets (n_labels,) standardised, NaN where there is none."""
        use = ~np.isnan(targets)
        log_p = np.log(np.maximum(self.frequency, 1e-300))
        for index in range(len(log_p)):
            cov = self.covariance[index][np.ix_(use, use)]
            # pairwise moments with labels missing need not be positive definite
            values, vectors = np.linalg.eigh(cov)
            values = np.maximum(values, 0.05)
            z = vectors.T @ (targets[use] - self.mean[index, use])
            log_p[index] -= 0.5 * (np.sum(z**2 / values) + np.log(values).sum())
        p = np.where(self.frequency > 0, np.exp(log_p - log_p.max()), 0.0)
        return np.asarray(p / p.sum())


def _second_moment(filled: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    pairs = known.astype(float).T @ known.astype(float)
    return np.asarray((filled.T @ filled) / np.maximum(pairs, 1.0))
