"""What the paper prints: its tables' columns, titles and figures, and how ours differ from them."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import Any

import tomli

from pigen.bundle import Rate
from pigen.run.table import table_key
from pigen.runtime import resources
from pigen.screening.stability import STABLE, SUN

PUBLISHED_BATCH = 10_000
"""Structures behind each published percentage."""

LETTERS: dict[str, str] = {
    table_key(name): name for name in ("min_distance", "spp", "novel", "c", "mled", "k")
}
"""Columns of Extended Data Table 1 → the verdict each one counts."""

SEQUENCE = ("A", "B", "C", "D")
"""The filters of Table 1, in the order they are applied."""

MATTERGEN_NOTE = (
    "The source disagrees with itself on MatterGen: its Table 1 prints 17.8 % for the sequence A–D "
    "(which Extended Data Table 2 gives to DiffCSP+PI loss), its Extended Data Table 2 16.4 %; and "
    "so in columns E and F."
)

HULL_NOTE = (
    "Measured E and S.U.N. are upper bounds, not to be held against the published E: that rests on "
    "VASP energies and on a hull of 607,684 structures, this on the potential and the reference "
    "named under hull, whose missing phases make structures look too stable."
)

LARGEST_MLED = "F"
"""Column of Table 1: the largest M_LED among structures counted in E50."""
OPTIMA = "G"
"""Column of Extended Data Table 2: compositions whose generated structure no search goes below."""
PUBLISHED_SEARCHED = 40
"""Compositions behind each published figure of column G."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "1": ("sequence", *STABLE, LARGEST_MLED, SUN),
    "ed1": tuple(LETTERS),
    "ed2": ("sequence", *STABLE, LARGEST_MLED, OPTIMA),
}
"""Table → its columns."""
TITLES = {
    "1": "Table 1: what passes the filters A–D, and how much of it is near the hull",
    "ed1": "Extended Data Table 1: % passing each criterion on its own",
    "ed2": "Extended Data Table 2: filters A–D in sequence, energies, and structure prediction",
}
MEANING = {
    "sequence": "D: % passing the filters A–D in sequence",
    "E100": "E: % of all generated that pass A–D and, relaxed, stay below so many meV/atom above "
    "the hull",
    LARGEST_MLED: "F: largest M_LED, as generated, of those below 50 meV/atom",
    SUN: "S.U.N.: % of all generated that pass A–D and, relaxed, are stable (below 100 meV/atom), "
    "unique, and of a structure not among the known ones",
    OPTIMA: "G: compositions whose generated structure stays lowest against two searches of "
    f"structure prediction; published of {PUBLISHED_SEARCHED}",
}
TABLES = tuple(COLUMNS)
"""Tables made of runs."""


@lru_cache(maxsize=1)
def published_tables() -> dict[str, Any]:
    """The figures printed in the paper, as the package carries them."""
    return tomli.loads(resources.PUBLISHED_TABLES.read_text(encoding="utf-8"))


def published_rows() -> list[str]:
    """Models of Extended Data Table 1, in its order."""
    return [row["model"] for row in published_tables()["extended_data_table_1"]["rows"]]


def published_figures(row: str, column: str) -> tuple[float, ...]:
    """The distinct figures printed for a model: none, one, or (MatterGen) two."""
    tables, entry = ["extended_data_table_1"], column
    if column in (*COLUMNS["1"], *COLUMNS["ed2"]):
        tables = ["extended_data_table_2", "table_1"]
        entry = "D" if column == "sequence" else "E" if column in STABLE else column
    printed = [
        model[entry]
        for table in tables
        for model in published_tables()[table]["rows"]
        if model["model"] == row and entry in model
    ]
    if column in STABLE:
        printed = [figures[list(STABLE).index(column)] for figures in printed]
    return tuple(dict.fromkeys(float(figure) for figure in printed))


def published(row: str, column: str) -> float | None:
    """The published percentage to compare with, None if there is none.

    Where the paper prints two, that of the Extended Data, which has all rows.
    """
    return next(iter(published_figures(row, column)), None)


def difference(rate: Rate, published_percent: float | None) -> float | None:
    """Measured minus published in standard errors of the difference (two-proportion z).

    Both samples share the pooled proportion; None without a published figure, 0 if both are
    exactly 0 or 100 %.
    """
    if published_percent is None or not rate.total:
        return None
    expected = published_percent / 100
    pooled = (rate.passed + expected * PUBLISHED_BATCH) / (rate.total + PUBLISHED_BATCH)
    error = sqrt(max(pooled * (1 - pooled), 0.0) * (1 / rate.total + 1 / PUBLISHED_BATCH))
    return (rate.fraction - expected) / error if error else 0.0
