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

from pigen import resources
from pigen.report.content import Cell, Distribution, Heading, Listing, Report
from pigen.report.svg import beyond, funnel, histogram

_TEMPLATE = resources.DATA / "report"
"""Folder of page.html, style.css and the scripts."""
_SCRIPTS = ("crystal.js", "page.js")
_LONGEST = 300
"""Characters of a text that are shown."""
_MOST_REASONS = 25


def to_html(report: Report) -> str:
    """The page. Equal reports make equal pages."""
    style = _file("style.css")
    script = "\n".join(_file(name) for name in _SCRIPTS)
    return Template(_file("page.html")).substitute(
        title=_text(report.title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        row=f"<p>Row of the paper: {_text(report.row)}</p>" if report.row else "",
        headline=_headline(report),
        remarks="".join(f'<p class="remark">{_text(remark)}</p>' for remark in report.remarks),
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


def _text(text: str) -> str:
    """Escaped, of bounded length, without characters that a page must not hold."""
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return escape(_clean(shown))


def _clean(text: str) -> str:
    """Control characters and half surrogates become U+FFFD; line ends and tabs stay."""
    return re.sub(r"[^\t\n -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _file(name: str) -> str:
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


# -- parts ---------------------------------------------------------------------------------------
def _headline(report: Report) -> str:
    share = f" ({100 * report.kept / report.read:.1f} %)" if report.read else ""
    figures = [(f"{report.read}", "structures"), (f"{report.kept}", f"passed all filters{share}")]
    figures += [
        (f"{step.rate.passed}", f"{step.heading}: {step.criterion}")
        for step in report.funnel
        if step.heading in ("E", "S.U.N.")
    ]
    shown = (f"<li><strong>{n}</strong> {_text(what)}</li>" for n, what in figures)
    return f'<ul class="figures">{"".join(shown)}</ul>'


def _provenance(report: Report) -> str:
    rows = (
        f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>"
        for key, value in report.provenance.items()
    )
    experiment = (
        f"<details><summary>The experiment</summary><pre>{escape(_clean(report.experiment))}</pre>"
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
        figures = "".join(f'<td class="number">{_text(cell)}</td>' for cell in cells)
        rows.append(
            f'<tr><th scope="row">{_text(row.heading)}</th><td>{_text(row.criterion)}</td>'
            f"{figures}</tr>"
        )
    head = "".join(
        f'<th scope="col"{_number(i > 1)}>{heading}</th>' for i, heading in enumerate(headings)
    )
    notes = "".join(f'<p class="muted">{_text(note)}</p>' for note in report.footnotes)
    return _scrolled(f"<table><thead><tr>{head}</tr></thead>{_body(rows)}</table>") + notes


def _reasons(reasons: Sequence[tuple[str, int]], read: int) -> str:
    if not reasons:
        return '<p class="muted">Nothing was rejected.</p>'
    shown = list(reasons[:_MOST_REASONS])
    if rest := reasons[_MOST_REASONS:]:
        shown.append((f"{len(rest)} other reasons", sum(n for _, n in rest)))
    rows = [f'<tr><td class="number">{n}</td><td>{_text(reason)}</td></tr>' for reason, n in shown]
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
    note = f"<small>{'; '.join(notes)}</small>" if notes else ""
    caption = f"<figcaption>{_text(distribution.title)} {note}</figcaption>"
    return f"<figure>{caption}{histogram(distribution)}</figure>"


def _survivors(listing: Listing) -> str:
    """The sortable table; its rows say by ``data-entry`` which structure is theirs."""
    head = "".join(map(_heading, listing.headings))
    rows = []
    for i, entry in enumerate(listing.entries):
        pairs = list(zip(listing.headings, entry.cells, strict=True))
        first, key = _formula(entry.cells[0].text), _key(entry.cells[0])
        name = f'<th scope="row"{key}><button class="open">{first}</button></th>'
        cells = "".join(_cell(heading, cell) for heading, cell in pairs[1:])
        save = '<td><button class="save">CIF</button></td>'
        rows.append(f'<tr data-entry="{i}">{name}{cells}{save}</tr>')
    head += '<th scope="col">File</th>'
    return f'<table id="list"><thead><tr>{head}</tr></thead>{_body(rows)}</table>'


def _heading(heading: Heading) -> str:
    unit = f" <small>{_text(heading.unit)}</small>" if heading.unit else ""
    return (
        f'<th scope="col"{_number(heading.numeric)} aria-sort="none">'
        f'<button class="sort">{_symbol(heading.text)}{unit}</button></th>'
    )


def _cell(heading: Heading, cell: Cell) -> str:
    remark = f' title="{_text(cell.remark)}"' if cell.remark else ""
    return f"<td{_number(heading.numeric)}{_key(cell)}{remark}><bdi>{_text(cell.text)}</bdi></td>"


def _key(cell: Cell) -> str:
    """What a cell sorts by; without one it comes last."""
    if cell.key is None:
        return ""
    key = repr(cell.key) if isinstance(cell.key, float) else cell.key
    return f' data-key="{_text(key)}"'


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
    return re.sub(r"(\d+)", r"<sub>\1</sub>", _text(formula))


def _symbol(text: str) -> str:
    """``M_LED`` with its index set low."""
    symbol, _, index = text.partition("_")
    return f"{_text(symbol)}<sub>{_text(index)}</sub>" if index else _text(symbol)


def _number(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _body(rows: Iterable[str]) -> str:
    return f"<tbody>{''.join(rows)}</tbody>"


def _scrolled(table: str) -> str:
    return f'<div class="scroll" tabindex="0">{table}</div>'
