"""What the paper prints of its models, how far a share is from it; what other models publish."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import tomli

from pigen.paper.columns import column_of
from pigen.runtime import resources

PUBLISHED_BATCH = 10_000
"""Structures behind each published percentage."""
MATTERGEN_NOTE = (
    "The source disagrees with itself on MatterGen: its Table 1 prints 17.8 % for the sequence A–D "
    "(which Extended Data Table 2 gives to DiffCSP+PI loss), its Extended Data Table 2 16.4 %; and "
    "so in columns E and F."
)

HULL_NOTE = (
    "Measured E and S.U.N. are upper bounds, not to be held against the published E: that rests on "
    "VASP energies and on a hull of 607,684 structures, this on the potential and the reference "
    "named under hull: the potential's energies of generated structures are too low."
)
EXPECTED_NOTE = (
    "Expected figures take each structure's probability to be below the threshold by the estimate "
    "of DFT's energy above the hull that is named under estimate (F: structures that are more "
    "likely below than not). ± holds the sampling error and what all estimates have in common."
)
FOOTNOTE = (
    f"Yardsticks figures rest on {PUBLISHED_BATCH} structures a row, another training set "
    "(Alex-MP-20) and potentials from ICSD; a difference is in standard errors of two proportions."
)


@lru_cache(maxsize=1)
def published_tables() -> dict[str, Any]:
    """The figures printed in the paper, as the package carries them."""
    return tomli.loads(resources.PUBLISHED_TABLES.read_text(encoding="utf-8"))


def published_rows() -> list[str]:
    """Models of Extended Data Table 1, in its order."""
    return [row["model"] for row in published_tables()["extended_data_table_1"]["rows"]]


def published_figures(row: str, key: str) -> tuple[float, ...]:
    """The distinct figures printed for a model in a column: none, one, or (MatterGen) two."""
    column = column_of(key)
    names: tuple[str, ...] = ("extended_data_table_2", "table_1")
    if "ed1" in column.tables:
        names = ("extended_data_table_1",)
    printed = [
        model[column.entry]
        for name in names
        for model in published_tables()[name]["rows"]
        if model["model"] == row and column.entry in model
    ]
    if column.place is not None:
        printed = [figures[column.place] for figures in printed]
    return tuple(dict.fromkeys(float(figure) for figure in printed))


def published(row: str, key: str) -> float | None:
    """The published percentage to compare with, None if there is none.

    Where the paper prints two, that of the Extended Data, which has all rows.
    """
    return next(iter(published_figures(row, key)), None)


def difference(share: float, n: int, published_percent: float | None) -> float | None:
    """Measured minus published in standard errors of the difference (two-proportion z).

    Both samples share the pooled proportion; None without a published figure, 0 if both are
    exactly 0 or 100 %.

    Args:
        share: of ``n`` structures.
        n: how many there are.
        published_percent: the same share in the paper.
    """
    if published_percent is None or not n:
        return None
    expected = published_percent / 100
    pooled = (share * n + expected * PUBLISHED_BATCH) / (n + PUBLISHED_BATCH)
    error = sqrt(max(pooled * (1 - pooled), 0.0) * (1 / n + 1 / PUBLISHED_BATCH))
    return (share - expected) / error if error else 0.0


@dataclass(frozen=True)
class Yardsticks:
    """One model trained on MP-20, unguided; None where its figure is not known to us.

    Attributes:
        model: its name.
        no_symmetry: %, space group P1 at 0.1 Å.
        smact: %, valid compositions.
        density: g/cm³, Wasserstein distance.
        n_elements: Wasserstein distance of the number of elements.
        moved: Å, RMSD to the structure relaxed by DFT, median.
        source: of the figures.
    """

    model: str
    no_symmetry: float | None
    smact: float | None
    density: float | None
    n_elements: float | None
    moved: float | None
    source: str


_WYFORMER = "P1: Kazeev et al., arXiv:2503.02407"
_MATTERGEN = "RMSD: Zeni et al., Nature 2025"
YARDSTICKS = (
    Yardsticks("CDVAE", None, 86.70, 0.688, 1.432, None, "Xie et al., ICLR 2022"),
    Yardsticks(
        *("DiffCSP", 36.6, 83.25, 0.350, 0.340, 0.232),
        f"Jiao et al., NeurIPS 2023; {_WYFORMER}; {_MATTERGEN}",
    ),
    Yardsticks(
        *("FlowMM", 44.3, 83.19, 0.239, 0.083, None),
        f"Miller et al., ICML 2024; {_WYFORMER}",
    ),
    Yardsticks("MatterGen (MP-20)", None, None, None, None, 0.110, _MATTERGEN),
)
YARDSTICKS_NOTE = (
    "Published distances are to the test set of MP-20, ours to the reference named: compare them "
    "where the reference is MP-20 too. Published shares are of 10,000 samples or fewer. Published "
    "RMSD is to what DFT relaxes, ours to what was relaxed with."
)
