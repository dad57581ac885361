"""The cells of Extended Data Table 3: for CSV and JSON, and to say where each figure comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pigen.bundle import Rate
from pigen.csp.folder import MODES
from pigen.csp.outcome import read_outcomes, total
from pigen.csp.results import GRAPH
from pigen.csp.seed import published_name
from pigen.paper.ed3 import NOTES, TITLE, Row, counts_json
from pigen.paper.published import published_tables
from pigen.run.table import RunTable

_COLUMNS = {
    "a": ("a", "judged", "compositions in which no search went below the seed's own relaxation"),
    "b": ("b", "compared", "compositions in which the seeded search ended lower"),
    "c": ("c_mev_per_atom", "judged", "mean of E_generated - E_CSP where it is positive, meV/atom"),
    "d": ("d_mev_per_atom", "judged", "mean of E_CSP - E_generated where it is positive, meV/atom"),
    "e": ("e", "compositions", "seeds below all random structures of the initial pool"),
    "f": ("f", "compositions", "seeds whose relaxation failed"),
}
"""Column → key of its value and of what it is counted of, and the query."""


def read_rows(folders: Iterable[Path]) -> dict[Path, Row]:
    """CSP folder → its measured row. Raises as `outcome.read_outcomes`."""
    return {folder: Row.of(*read_outcomes(folder)) for folder in folders}


def cells(rows: Mapping[Path, Row]) -> list[dict[str, Any]]:
    """A cell as plain data for each figure measured or printed."""
    printed = {
        (str(row["model"]), str(row["set"])): row
        for row in published_tables()["extended_data_table_3"]["rows"]
    }
    found = []
    for folder, row in rows.items():
        key = (row.experiment.model, row.experiment.chosen)
        shown = printed.pop(key, {})
        found += [_cell(*key, name, shown, counts_json(row.counts), folder) for name in _COLUMNS]
    for key, shown in printed.items():
        found += [_cell(*key, name, shown, {}, None) for name in _COLUMNS]
    if rows:
        summed = counts_json(total([row.counts for row in rows.values()]))
        everything = published_tables()["extended_data_table_3"]["total"]
        found += [_cell("all", "", name, everything, summed, None) for name in _COLUMNS]
    return found


def _cell(
    model: str,
    chosen: str,
    column: str,
    printed: Mapping[str, Any],
    measured: Mapping[str, Any],
    folder: Path | None,
) -> dict[str, Any]:
    value, of, query = _COLUMNS[column]
    graphs = f"{folder}/*/{{{','.join(MODES)}}}/{GRAPH}" if folder else ""
    return {
        "model": model,
        "set": chosen,
        "column": column,
        "n": measured.get(of),
        "value": measured.get(value),
        "published": printed.get(column),
        "files": graphs,
        "query": query if measured else "",
    }


def to_csv(rows: Mapping[Path, Row]) -> str:
    """A line for each cell."""
    text = io.StringIO(newline="")
    found = cells(rows)
    lines = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(found)
    return text.getvalue()


def to_json(rows: Mapping[Path, Row], head: Mapping[str, str]) -> str:
    """The table for other programs, with what each row rests on."""
    content = {
        "table": "ed3",
        "title": TITLE,
        "head": dict(head),
        "cells": cells(rows),
        "rows": [row.to_json() for row in rows.values()],
        "notes": list(NOTES),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def explain(rows: Mapping[Path, Row]) -> str:
    """Where every measured figure comes from, a line each."""
    lines = ["What the searches left, as `pigen csp-collect DIR --json` counts it.", ""]
    for cell in cells(rows):
        if cell["n"] is not None and cell["files"]:
            value = "none" if cell["value"] is None else f"{cell['value']:g}"
            of = f"{value}, {cell['n']} compositions"
            where = f"{cell['model']}, {cell['set']}, {cell['column']} = {of}"
            lines.append(f"{where}: {cell['files']}: {cell['query']}")
    return "\n".join(lines) + "\n"


def optima_of(rows: Mapping[Path, Row], tables: Iterable[RunTable]) -> dict[str, Rate]:
    """Name of a run → column G of Extended Data Table 2: column a, all sets of its row together."""
    found = {}
    for table in tables:
        name = published_name(table.row or table.name)
        counts = [row.counts for row in rows.values() if row.experiment.model == name]
        if counts:
            summed = total(counts)
            found[table.name] = Rate(summed.a, summed.judged)
    return found
