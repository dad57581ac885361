"""A report as one HTML page: style, script, charts and structures inside, nothing from outside.

Texts of a report come from files of anybody. They enter the page escaped, structures enter it as
JSON in which no markup can begin, and the page forbids its reader's browser every script but ours
and every connection (its Content-Security-Policy).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from string import Template
from typing import Any

from pigen.report.content import Cell, Distribution, Heading, Listing, Report
from pigen.report.svg import beyond, funnel, histogram
from pigen.report.text import clean, shown
from pigen.runtime import resources

_TEMPLATE = resources.DATA / "report"
"""Folder of page.html, style.css and the scripts."""
_SCRIPTS = ("crystal.js", "page.js")
_MOST_REASONS = 25


def to_html(report: Report) -> str:
    """The page. Equal reports make equal pages."""
    style = _file("style.css")
    script = "\n".join(_file(name) for name in _SCRIPTS)
    return Template(_file("page.html")).substitute(
        title=shown(report.title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        row=f"<p>Row of the paper: {shown(report.row)}</p>" if report.row else "",
        headline=_headline(report),
        remarks="".join(f'<p class="remark">{shown(remark)}</p>' for remark in report.remarks),
        provenance=_provenance(report),
        rates=_rates(report),
        funnel=funnel(report.read, report.funnel),
        reasons=_reasons(report.reasons, report.read),
        distributions="".join(_figure(d) for d in report.distributions),
        note=_note(report.listing),
        browser="" if report.listing.entries else "hidden",
        survivors=_survivors(report.listing),
        structures=in_script(_structures(report.listing)),
    )


def in_script(value: Any) -> str:
    """JSON that can stand in a script element: no ``<`` that could end it, no ``&``."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file(name: str) -> str:
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


# -- parts ---------------------------------------------------------------------------------------
def _headline(report: Report) -> str:
    share = f" ({100 * report.kept / report.read:.1f} %)" if report.read else ""
    figures = [(f"{report.read}", "structures"), (f"{report.kept}", f"passed all filters{share}")]
    energies: dict[str, tuple[str, str]] = {}
    for step in report.funnel:
        if step.heading in ("E", "S.U.N."):  # of E the widest window
            energies.setdefault(step.heading, (f"{step.rate.passed}", step.criterion))
    figures += energies.values()
    items = (f"<li><strong>{n}</strong> {shown(what)}</li>" for n, what in figures)
    return f'<ul class="figures">{"".join(items)}</ul>'


def _provenance(report: Report) -> str:
    rows = (
        f"<div><dt>{shown(key)}</dt><dd>{shown(value)}</dd></div>"
        for key, value in report.provenance.items()
    )
    experiment = (
        f"<details><summary>The experiment</summary><pre>{escape(clean(report.experiment))}</pre>"
        "</details>"
        if report.experiment
        else ""
    )
    return f"<dl>{''.join(rows)}</dl>{experiment}"


def _rates(report: Report) -> str:
    compared = any(row.published for row in report.rates)
    headings = ["", "criterion", "passed", "measured"]
    headings += ["published", "difference"] if compared else []
    rows = []
    for row in report.rates:
        cells = [row.count, row.measured]
        cells += [row.published or "–", row.difference or "–"] if compared else []
        figures = "".join(f'<td class="number">{shown(cell)}</td>' for cell in cells)
        rows.append(
            f'<tr><th scope="row">{shown(row.heading)}</th><td>{shown(row.criterion)}</td>'
            f"{figures}</tr>"
        )
    head = "".join(
        f'<th scope="col"{_number(i > 1)}>{heading}</th>' for i, heading in enumerate(headings)
    )
    notes = "".join(f'<p class="muted">{shown(note)}</p>' for note in report.footnotes)
    return _scrolled(f"<table><thead><tr>{head}</tr></thead>{_body(rows)}</table>") + notes


def _reasons(reasons: Sequence[tuple[str, int]], read: int) -> str:
    if not reasons:
        return '<p class="muted">Nothing was rejected.</p>'
    listed = list(reasons[:_MOST_REASONS])
    if rest := reasons[_MOST_REASONS:]:
        listed.append((f"{len(rest)} other reasons", sum(n for _, n in rest)))
    rows = [f'<tr><td class="number">{n}</td><td>{shown(reason)}</td></tr>' for reason, n in listed]
    head = '<tr><th scope="col" class="number">structures</th><th scope="col">first reason</th>'
    return _scrolled(f"<table><thead>{head}</tr></thead>{_body(rows)}</table>")


def _figure(distribution: Distribution) -> str:
    below, above = beyond(distribution)
    notes = [
        f"{n} {what}"
        for n, what in (
            (below, "left of the axis"),
            (above, "right of the axis"),
            (distribution.missing, "without a value"),
        )
        if n
    ]
    if distribution.marks:
        marks = ", ".join(f"{mark:g}" for mark in sorted(distribution.marks))
        notes.insert(0, f"lines at {marks} {distribution.unit}")
    if distribution.remark:
        notes.insert(0, distribution.remark)
    note = f"<small>{'; '.join(notes)}</small>" if notes else ""
    caption = f"<figcaption>{shown(distribution.title)} {note}</figcaption>"
    return f"<figure>{caption}{histogram(distribution)}</figure>"


def _survivors(listing: Listing) -> str:
    """The sortable table; its rows say by ``data-entry`` which structure is theirs."""
    first, *others = map(_heading, listing.headings)
    head = f'{first}<th scope="col">File</th>{"".join(others)}'
    rows = []
    for i, entry in enumerate(listing.entries):
        formula, key = _formula(entry.cells[0].text), _key(entry.cells[0])
        cells = map(_cell, listing.headings[1:], entry.cells[1:])
        rows.append(
            f'<tr data-entry="{i}"><th scope="row"{key}><button class="open">{formula}</button>'
            f'</th><td><button class="save">CIF</button></td>{"".join(cells)}</tr>'
        )
    return f'<table id="list"><thead><tr>{head}</tr></thead>{_body(rows)}</table>'


def _heading(heading: Heading) -> str:
    unit = f"<small>{shown(heading.unit)}</small>" if heading.unit else ""
    return (
        f'<th scope="col"{_number(heading.numeric)} aria-sort="none">'
        f'<button class="sort"><span>{_symbol(heading.text)}</span>{unit}</button></th>'
    )


def _cell(heading: Heading, cell: Cell) -> str:
    remark = f' title="{shown(cell.remark)}"' if cell.remark else ""
    return f"<td{_number(heading.numeric)}{_key(cell)}{remark}><bdi>{shown(cell.text)}</bdi></td>"


def _key(cell: Cell) -> str:
    """What a cell sorts by; without one it comes last."""
    if cell.key is None:
        return ""
    key = repr(cell.key) if isinstance(cell.key, float) else cell.key
    return f' data-key="{shown(key)}"'


def _structures(listing: Listing) -> dict[str, Any]:
    """For the script: the structures of each entry, and how elements are drawn."""
    return {
        "entries": [
            [{"label": view.label, "file": view.file, "cif": view.cif} for view in entry.views]
            for entry in listing.entries
        ],
        "looks": {
            symbol: {"colour": look.colour, "radius": look.radius}
            for symbol, look in listing.looks.items()
        },
    }


def _note(listing: Listing) -> str:
    n = len(listing.entries)
    if not listing.total:
        return "No structure passed all filters."
    if n == listing.total:
        return f"All {n} structures that passed, in the order of the source."
    return (
        f"{n} of the {listing.total} structures that passed: those lowest above the hull, or else "
        "of the most diverse environments (M_LED)."
    )


# -- bits ----------------------------------------------------------------------------------------
def _formula(formula: str) -> str:
    return re.sub(r"(\d+)", r"<sub>\1</sub>", shown(formula))


def _symbol(text: str) -> str:
    """``M_LED`` with its index set low."""
    symbol, _, index = text.partition("_")
    return f"{shown(symbol)}<sub>{shown(index)}</sub>" if index else shown(symbol)


def _number(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _body(rows: Iterable[str]) -> str:
    return f"<tbody>{''.join(rows)}</tbody>"


def _scrolled(table: str) -> str:
    return f'<div class="scroll" tabindex="0">{table}</div>'
