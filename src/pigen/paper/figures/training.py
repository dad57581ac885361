"""Distributions in the training set of the shipped model: counts, made and read.

    python -m pigen.paper.figures.training train.h5 src/pigen/data/training_histograms.json

counts a labelled bundle (`pigen label`) anew. The package carries the counts, not the structures.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import bundle_info, read_bundle
from pigen.runtime.resources import TRAINING_HISTOGRAMS

_EDGES = {
    "mled": (5.0, 12.0, 28),
    "k": (0.0, 4.4, 22),
    "c": (0.0, 1.5, 60),
    "e_hull": (0.0, 0.1, 40),
}
"""Label → lowest and highest edge, and bins."""
_PLOTTED = (("mled",), ("k",), ("mled", "k"), ("c", "e_hull"))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts over one label or two.

    Attributes:
        edges: of the bins, for each label; bits, bits/atom, dimensionless (c), eV/atom.
        counts: one axis for each label.
    """

    edges: tuple[NDArray[np.float64], ...]
    counts: NDArray[np.int64]


@lru_cache(maxsize=1)
def _shipped() -> dict[str, object]:
    content: dict[str, object] = json.loads(TRAINING_HISTOGRAMS.read_text(encoding="utf-8"))
    return content


def histogram(*labels: str) -> Histogram:
    """The shipped counts of a label, or of a pair: one of `_PLOTTED`."""
    stored: dict[str, dict[str, object]] = _shipped()["histograms"]  # type: ignore[assignment]
    counts = np.array(stored[",".join(labels)]["counts"], dtype=np.int64)
    return Histogram(tuple(edges(label) for label in labels), counts)


def edges(label: str) -> NDArray[np.float64]:
    """Edges (bins + 1,) of the bins of a label, in its unit."""
    low, high, n = _EDGES[label]
    return np.linspace(low, high, n + 1)


def count(path: Path) -> str:
    """The text of `TRAINING_HISTOGRAMS` for a labelled bundle."""
    bundle, info = read_bundle(path), bundle_info(path)
    histograms = {}
    for labels in _PLOTTED:
        values = np.stack([bundle.columns[label].values for label in labels], axis=1)
        values = values[~np.isnan(values).any(axis=1)]
        counts, _ = np.histogramdd(values, bins=[edges(label) for label in labels])
        histograms[",".join(labels)] = {
            "counts": counts.astype(int).tolist(),
            "outside": len(bundle) - int(counts.sum()),
        }
    made = ", ".join(info.columns[label].source for label in ("c", "mled", "k"))
    content = {
        "source": f"{len(bundle)} structures of the training set; {made}; e_hull as published "
        "with the structures",
        "histograms": histograms,
    }
    return json.dumps(content, indent=None, separators=(",", ":"), ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(count(Path(sys.argv[1])), encoding="utf-8")
