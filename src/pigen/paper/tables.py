"""The paper's tables as Markdown: what runs measured beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pigen.bundle import Rate
from pigen.paper.published import (
    COLUMNS,
    HULL_NOTE,
    LARGEST_MLED,
    MATTERGEN_NOTE,
    MEANING,
    OPTIMA,
    PUBLISHED_BATCH,
    SEQUENCE,
    TITLES,
    difference,
    published,
    published_figures,
    published_rows,
)
from pigen.run.table import RunTable
from pigen.screening.stability import STABLE, SUN


def run_files(table: RunTable) -> dict[str, str]:
    """Files of a run's folder → their texts: its table as JSON and as Markdown."""
    beside = {
        key: {
            "published_percent": published(table.row, key),
            "difference_in_standard_errors": difference(rate, published(table.row, key)),
        }
        for key, rate in table.rates.items()
    }
    return {"table.json": table.to_json(beside), "table.md": render(table)}


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
        lines += ["", MATTERGEN_NOTE, "", *(f"- {MEANING[c]}." for c in columns if c in MEANING)]
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
    text = f"{rate.percent:.1f} ± {rate.percent_error:.1f}"
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
