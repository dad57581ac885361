"""The paper's tables: what a run measured beside what was published.

A run's rates are kept as counts in its ``table.json``; every percentage, standard error and
difference is computed from them when a table is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

import tomli

from pigen import resources
from pigen.bounded import parse_json, read_text
from pigen.errors import PigenError, UsageError

PUBLISHED_BATCH = 10_000
"""Structures behind each published percentage."""

LETTERS: dict[str, str] = {
    "A_prime": "min_distance",
    "A": "spp",
    "B": "novel",
    "C": "c",
    "D": "mled",
    "K": "k",
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

STABLE: dict[str, float] = {"E100": 0.100, "E50": 0.050, "E35": 0.035, "E25": 0.025}
"""Columns of Table 1 under E → eV/atom above the hull that structures must stay below."""
LARGEST_MLED = "F"
"""Column of Table 1: the largest M_LED among structures counted in E50."""
SUN = "SUN"
"""Column beside Table 1: stable (as E100), unique, of novel structure."""
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
_MEANING = {
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
"""Tables that `join` can write."""


@dataclass(frozen=True)
class Rate:
    """How many of a number of structures passed."""

    passed: int
    total: int

    @property
    def fraction(self) -> float:
        """Share that passed, NaN of none."""
        return self.passed / self.total if self.total else float("nan")

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the fraction."""
        return sqrt(self.fraction * (1 - self.fraction) / self.total) if self.total else 0.0

    def __str__(self) -> str:
        """``n / N (x.x ± s.e. %)``, with – for the share of none."""
        if not self.total:
            return f"{self.passed} / 0 (–)"
        percent, error = 100 * self.fraction, 100 * self.standard_error
        return f"{self.passed} / {self.total} ({percent:.1f} ± {error:.1f} %)"


@dataclass(frozen=True)
class RunTable:
    """What a run measured.

    Attributes:
        name: of the experiment.
        row: its row in the published tables, "" if none.
        rates: column (of `LETTERS`, ``sequence`` and, where energies were computed, of `STABLE`
            and `SUN`) → rate, always of all structures generated.
        funnel: letter of `SEQUENCE` → what is left after that filter and those before it.
        criteria: column → the criterion as text, e.g. ``spp < 0.362``.
        provenance: what the figures rest on: training set, checkpoint, SPP table, seed, versions,
            and under ``hull`` the reference of the energies above it.
        largest_mled: bits, for column F; None without energies or if nothing is below 50 meV/atom.
    """

    name: str
    row: str
    rates: Mapping[str, Rate]
    funnel: Mapping[str, Rate]
    criteria: Mapping[str, str]
    provenance: Mapping[str, str]
    largest_mled: float | None = None

    def to_json(self) -> str:
        """As JSON text, with the derived figures beside the counts for other programs to read."""
        content = asdict(self)
        for key, rate in self.rates.items():
            content["rates"][key] |= {
                "percent": 100 * rate.fraction,
                "standard_error": 100 * rate.standard_error,
                "published_percent": published(self.row, key),
                "difference_in_standard_errors": difference(rate, published(self.row, key)),
            }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, run_folder: str | Path) -> RunTable:
        """The table of a finished run; UsageError if there is none, PigenError if it is broken."""
        path = Path(run_folder) / "table.json"
        try:
            content = parse_json(read_text(path))
        except FileNotFoundError:
            raise UsageError(f"{run_folder}: no table.json; {_unfinished(path.parent)}") from None
        except ValueError as error:
            raise PigenError(f"{path}: not valid JSON: {error}") from None

        def rate(counts: Mapping[str, Any]) -> Rate:
            passed, total = int(counts["passed"]), int(counts["total"])
            if not 0 <= passed <= total < 2**63:
                raise ValueError(f"{passed} passed of {total}")
            return Rate(passed, total)

        def texts(said: Mapping[str, Any]) -> dict[str, str]:
            return {str(key): str(value) for key, value in said.items()}

        try:
            largest = content.get("largest_mled")
            table = cls(
                name=str(content["name"]),
                row=str(content["row"]),
                rates={key: rate(counts) for key, counts in content["rates"].items()},
                funnel={key: rate(counts) for key, counts in content["funnel"].items()},
                criteria=texts(content["criteria"]),
                provenance=texts(content["provenance"]),
                largest_mled=None if largest is None else float(largest),
            )
            if not {"sequence", *table.criteria} <= table.rates.keys():
                raise ValueError("a criterion without a rate")
            return table
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PigenError(f"{path}: not a table of a run: {error!r:.200}") from None


def _unfinished(folder: Path) -> str:
    experiment = folder / "experiment.toml"
    if experiment.is_file():
        return f"not a finished run; to finish it: pigen run {experiment} --out {folder} --resume"
    return "not a finished run; `pigen run` makes one"


# -- published -----------------------------------------------------------------------------------
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


# -- Markdown ------------------------------------------------------------------------------------
def render(table: RunTable) -> str:
    """One run as Markdown: each criterion, measured and published, and the funnel."""
    lines = [f"# {table.name}", ""]
    if table.row:
        lines += [f"Row of the paper: {table.row}", ""]
    lines += [f"- {key}: {value}" for key, value in table.provenance.items()]
    lines += ["", "| | criterion | measured | published | difference |", "|---|---|---|---|---|"]
    for letter in table.criteria:
        lines.append(_row(table, letter, _heading(letter), table.criteria[letter]))
    letters = ", ".join(table.funnel)
    where = " (Table 1, column D)" if tuple(table.funnel) == SEQUENCE else ""
    lines.append(_row(table, "sequence", "in sequence", f"{letters}{where}"))
    for column, threshold in STABLE.items():
        if column in table.rates:
            lines.append(_row(table, column, "E", f"{letters} and e_hull < {threshold:g} eV/atom"))
    if STABLE.keys() & table.rates.keys():
        figures = _percent(published_figures(table.row, LARGEST_MLED))
        lines.append(
            f"| F | largest mled, e_hull < 0.05 eV/atom | {_largest(table)} | {figures} | – |"
        )
    if SUN in table.rates:
        lines.append(_row(table, SUN, "S.U.N.", f"{letters}, stable, unique, novel structure"))
    steps = "; ".join(f"{letter} → {rate.passed}" for letter, rate in table.funnel.items())
    lines += ["", f"In sequence, of {table.rates['sequence'].total} structures: {steps}.", ""]
    if table.row:
        lines += [_footnote(), ""]
    if SUN in table.rates:
        lines += [HULL_NOTE, ""]
    if table.row == "MatterGen":
        lines += [MATTERGEN_NOTE, ""]
    return "\n".join(lines).rstrip() + "\n"


def join(
    which: str,
    tables: Iterable[RunTable],
    *,
    optima: Mapping[str, Rate] | None = None,
    head: Mapping[str, str] | None = None,
    not_run: Mapping[str, str] | None = None,
) -> str:
    """A table of the paper as Markdown: every published row, measured ones below theirs.

    Args:
        which: one of `TABLES`.
        tables: of finished runs, in any order; those of no published row come last.
        optima: name of a run → column G, compositions whose generated structure stays lowest.
        head: what all figures rest on, to stand above the table.
        not_run: published row → why there is no measured one.
    """
    columns = COLUMNS[which]
    headings = [_heading(column) for column in columns]
    lines = [f"# {TITLES[which]}", ""]
    if head:
        lines += [*(f"- {key}: {value}" for key, value in head.items()), ""]
    lines += [f"| model | source | {' | '.join(headings)} |", "|---" * (2 + len(columns)) + "|"]
    runs: dict[str, list[RunTable]] = {row: [] for row in published_rows()}
    for table in tables:
        runs.setdefault(table.row, []).append(table)
    for row, measured in runs.items():
        figures = [published_figures(row, column) for column in columns]
        if any(figures):
            shown = " | ".join(map(_printed, columns, figures))
            lines.append(f"| {_escape(row)} | published | {shown} |")
        for table in measured:
            cells = [
                _largest(table)
                if column == LARGEST_MLED
                else _optima((optima or {}).get(table.name))
                if column == OPTIMA
                else _cell(table.rates.get(column), published(row, column))
                for column in columns
            ]
            total = table.rates["sequence"].total
            lines.append(f"| {_escape(table.name)} | measured, n = {total} | {' | '.join(cells)} |")
        if not measured and row in (not_run or {}):
            lines.append(f"| {_escape(row)} | not run here | {' | '.join(['–'] * len(columns))} |")
    lines += ["", "Measured: % ± standard error (difference to the published row).", _footnote()]
    if which != "ed1":  # every published row is shown, MatterGen's too
        lines += ["", MATTERGEN_NOTE, "", *(f"- {_MEANING[c]}." for c in columns if c in _MEANING)]
        measured = [table for found in runs.values() for table in found]
        hulls = {t.provenance["hull"] for t in measured if "hull" in t.provenance}
        if "hull" not in (head or {}):
            lines += [f"- Measured energies: {hull}." for hull in sorted(hulls)]
        if hulls:
            lines += ["", HULL_NOTE]
    if not_run:
        lines += ["", "Not run here:", "", *(f"- {row}: {why}." for row, why in not_run.items())]
    return "\n".join(lines) + "\n"


def _heading(column: str) -> str:
    if column in STABLE:
        return f"E < {1000 * STABLE[column]:.0f}"
    return {"A_prime": "A′", "sequence": "A–D", SUN: "S.U.N."}.get(column, column)


def _largest(table: RunTable) -> str:
    return "–" if table.largest_mled is None else f"{table.largest_mled:.1f}"


def _printed(column: str, figures: Sequence[float]) -> str:
    return f"{figures[0]:g}" if column == OPTIMA and figures else _percent(figures)


def _optima(rate: Rate | None) -> str:
    return "–" if rate is None else f"{rate.passed}/{rate.total}"


def _row(table: RunTable, column: str, heading: str, criterion: str) -> str:
    rate, figures = table.rates[column], published_figures(table.row, column)
    cells = [heading, _escape(criterion), str(rate), _percent(figures, " %")]
    signed = _signed(difference(rate, published(table.row, column)))
    return f"| {' | '.join(cells)} | {signed} |"


def _cell(rate: Rate | None, figure: float | None) -> str:
    if rate is None:
        return "–"
    text = f"{100 * rate.fraction:.1f} ± {100 * rate.standard_error:.1f}"
    return text if figure is None else f"{text} ({_signed(difference(rate, figure))})"


def _percent(figures: Sequence[float], unit: str = "") -> str:
    shown = [f"{figure:.1f}" if figure == round(figure, 1) else f"{figure:g}" for figure in figures]
    return " or ".join(figure + unit for figure in shown) or "–"


def _signed(number: float | None) -> str:
    return "–" if number is None else f"{number:+.1f} s.e.".replace("-", "−")


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _footnote() -> str:
    return (
        f"Published figures rest on {PUBLISHED_BATCH} structures a row, another training set "
        "(Alex-MP-20) and potentials from ICSD; a difference is in standard errors of two "
        "proportions."
    )
