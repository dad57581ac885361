"""A report as one HTML page: style, script, charts and structures inside, nothing from outside.

Texts of a report come from files of anybody. The templates escape every one, structures enter the
page as JSON in which no markup can begin, and the page forbids its reader's browser every script
but ours and every connection (its Content-Security-Policy).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pigen.report import charts
from pigen.report.content import Card, Distribution, Listing, Report
from pigen.report.gather import MLED
from pigen.report.picture import picture, shapes
from pigen.report.viewer import SETTINGS, viewer_script
from pigen.runtime import resources

_TEMPLATES = resources.DATA / "report"
"""Folder of page.html, charts.html, style.css and the scripts."""
_BOX = (260, 180)
"""Width and height of a card's picture."""
_MOST_REASONS = 25
_LONGEST = 300
"""Characters of a text that are shown."""


def to_html(report: Report) -> str:
    """The page. Equal reports make equal pages."""
    viewer = viewer_script()
    listing, reasons = report.listing, list(report.reasons[:_MOST_REASONS])
    if rest := report.reasons[_MOST_REASONS:]:
        reasons.append((f"{len(rest)} other reasons", sum(n for _, n in rest)))
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            style=_file("style.css"),
            script=_file("page.js"),
            viewer=Markup(viewer),
            shapes=Markup(
                shapes({z for card in report.cards for z in card.scene.numbers.tolist()})
            ),
            bars=_bars(report.cards),
            headline=_headline(report),
            axes=_axes(listing),
            merit="those lowest above the hull, or else of the most diverse environments (M_LED)",
            reasons=reasons,
            structures={"entries": listing.views, "settings": SETTINGS},
        )
    )


def _bars(cards: Sequence[Card]) -> dict[str, Any]:
    """Where error bars lie, in per cent of their width: of each card low, middle and high end."""
    ends = [(mid - sd, mid, mid + sd) for mid, sd in (c.estimate for c in cards if c.estimate)]
    low = min([0.0, *(end[0] for end in ends)])
    high = max([100.0, *(end[2] for end in ends)])

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    marks = {f"{mark:g}": place(mark) for mark in (0, 50, 100)}
    return {"place": place, "marks": marks}


def _axes(listing: Listing) -> tuple[int, int]:
    """The headings that the map shows at first: diversity, and what the list begins with."""
    numeric = [i for i, heading in enumerate(listing.headings) if heading.numeric]
    up, *others = numeric
    return next((i for i in others if listing.headings[i].text == MLED.symbol), others[0]), up


def draw(shown: Distribution) -> str:
    """A distribution alone, as its figure stands in the page."""
    module: Any = _environment().get_template("charts.html").module
    return str(module.histogram(shown, charts.histogram(shown)))


def _headline(report: Report) -> list[tuple[float, str]]:
    """The figures in large: structures, survivors, and of each energy the widest window."""
    share = f" ({100 * report.kept / report.read:.1f} %)" if report.read else ""
    energies: dict[str, tuple[float, str]] = {}
    for step in report.funnel:
        if step.heading in ("E", "S.U.N."):
            energies.setdefault(step.heading, (step.left, step.criterion))
    found = [(report.read, "structures"), (report.kept, f"passed all filters{share}")]
    return [*found, *energies.values()]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    made.globals |= {"size": charts, "box": _BOX}
    made.filters |= {
        "described": _described,
        "digest": _digest,
        "formula": _formula,
        "histogram": charts.histogram,
        "picture": lambda scene: Markup(picture(scene, *_BOX)),
        "whole": clean,
    }
    return made


def _file(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _digest(text: str) -> Markup:
    """What a Content-Security-Policy says of an element's text."""
    return Markup(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")


# -- untrusted text ------------------------------------------------------------------------------
def _shown(value: Any) -> Any:
    """What a template prints: texts clean and cut to a length; escaping follows."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return clean(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…")


def clean(text: str) -> Markup:
    """The text escaped; control characters and half surrogates become U+FFFD."""
    bad = r"[^\t\n -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return escape(re.sub(bad, "\ufffd", text))


def _formula(text: str) -> Markup:
    """With its numbers set low."""
    parts = re.split(r"(\d+)", text)
    return Markup("").join(Markup("<sub>{}</sub>").format(p) if p.isdigit() else p for p in parts)


def _described(shown: Distribution) -> str:
    middle = float(np.median(shown.judged))
    n, unit = len(shown.judged), f" {shown.unit}" if shown.unit else ""
    return f"{shown.title}: histogram of {n} structures, median {middle:.3g}{unit}"
