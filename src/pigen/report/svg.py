"""Charts as inline SVG. Colours and fonts come from the page's style sheet, by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from pigen.report.content import Distribution, Step
from pigen.report.text import shown

_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 22, 42
_BINS = 32
"""About how many bars a histogram may have."""
_LONGEST = 42
"""Characters of a criterion that fit above a bar."""
_Scale = Callable[[float], float]
_FENCE = 3.0
"""Interquartile ranges beyond the quartiles that an axis shows; what is further out is counted."""


def histogram(distribution: Distribution) -> str:
    """All structures in bars, the survivors' part of each in another colour, the window shaded."""
    judged, passed = distribution.judged, distribution.passed
    if not len(judged):
        return '<p class="muted">no values</p>'
    edges = _edges(distribution)
    low, high = float(edges[0]), float(edges[-1])
    counts = np.histogram(judged, edges)[0]
    kept = np.histogram(passed, edges)[0]
    inner_width, bottom = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM
    top_count, count_ticks = _count_axis(int(counts.max()))

    def x(value: float) -> float:
        return round(_LEFT + inner_width * (value - low) / (high - low), 1)

    def y(count: float) -> float:
        return round(bottom - (bottom - _TOP) * count / top_count, 1)

    parts = [_window(distribution, low, high, x, bottom)]
    for tick in count_ticks:
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tick)}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 6}" y="{y(tick) + 4}">{tick}</text>')
    for i in np.flatnonzero(counts):
        left, right = x(float(edges[i])), x(float(edges[i + 1]))
        span = _span(distribution, float(edges[i]), float(edges[i + 1]))
        parts.append(f"<g><title>{span}: {counts[i]}, of which {kept[i]} passed</title>")
        for name, n in (("all", counts[i]), ("kept", kept[i])):
            if n:
                width = round(max(right - left - 1, 0.5), 1)
                height = round(bottom - y(n), 1)
                parts.append(
                    f'<rect class="{name}" x="{left + 0.5}" y="{y(n)}" width="{width}" '
                    f'height="{height}"/>'
                )
        parts.append("</g>")
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}"/>')
    for value, label in _value_axis(distribution, low, high):
        parts.append(f'<path class="axis" d="M{x(value)} {bottom}v4"/>')
        parts.append(f'<text class="middle" x="{x(value)}" y="{bottom + 17}">{label}</text>')
    parts += _thresholds(distribution, x, bottom)
    symbol, _, index = distribution.symbol.partition("_")
    low_index = f'<tspan class="index" dy="3">{index}</tspan>' if index else ""
    unit = f" ({distribution.unit})" if distribution.unit else ""
    axis = f"{symbol}{low_index}" + (
        f'<tspan dy="{-3 if index else 0}">{unit}</tspan>' if unit else ""
    )
    middle = _LEFT + inner_width / 2
    parts.append(f'<text class="middle label" x="{middle}" y="{_HEIGHT - 6}">{axis}</text>')
    described = (
        f"{distribution.title}: histogram of {len(judged)} structures, median "
        f"{float(np.median(judged)):.3g} {distribution.unit}".rstrip()
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{shown(described)}">'
        + "".join(parts)
        + "</svg>"
    )


def beyond(distribution: Distribution) -> tuple[int, int]:
    """Values left and right of the axis of a histogram."""
    if not len(distribution.judged):
        return 0, 0
    edges = _edges(distribution)
    below = int((distribution.judged < edges[0]).sum())
    return below, int((distribution.judged > edges[-1]).sum())


def funnel(total: int, steps: Sequence[Step]) -> str:
    """A bar for what was read and one for what is left after each filter."""
    rows = [("", "all structures", total)]
    rows += [(step.heading, step.criterion, step.rate.passed) for step in steps]
    width, pitch, parts = 420, 38, []
    for i, (heading, criterion, n) in enumerate(rows):
        top = pitch * i
        share = n / total if total else 0.0
        bold = f'<tspan class="bold">{shown(heading)}</tspan> ' if heading else ""
        number = f"{n}" if not i else f"{n} · {100 * share:.1f} %"
        parts.append(f'<text x="0" y="{top + 14}">{bold}{shown(criterion, _LONGEST)}</text>')
        parts.append(f'<text class="end" x="{width}" y="{top + 14}">{number}</text>')
        parts.append(f'<rect class="rest" x="0" y="{top + 19}" width="{width}" height="11"/>')
        parts.append(
            f'<rect class="{"kept" if i else "all"}" x="0" y="{top + 19}" '
            f'width="{round(width * share, 1)}" height="11"/>'
        )
    said = ", ".join(f"{heading or criterion} {n}" for heading, criterion, n in rows)
    return (
        f'<svg class="funnel" viewBox="0 0 {width} {pitch * len(rows)}" role="img" '
        f'aria-label="Funnel: {shown(said)}">' + "".join(parts) + "</svg>"
    )


# -- axes ----------------------------------------------------------------------------------------
def _edges(distribution: Distribution) -> NDArray[np.float64]:
    """Edges of the bins, at round numbers, over the bulk of the values and the window."""
    values = distribution.judged
    first, third = (float(q) for q in np.quantile(values, [0.25, 0.75]))
    reach = _FENCE * (third - first)
    ends = [max(float(values.min()), first - reach), min(float(values.max()), third + reach)]
    ends += [e for e in (distribution.low, distribution.high, *distribution.marks) if e is not None]
    low, high = min(ends), max(ends)
    if distribution.whole:
        width, first = max(1, ceil((high - low + 1) / (2 * _BINS))), floor(low) - 0.5
        n = int((high + 0.5 - first) // width) + 1
        return first + width * np.arange(n + 1, dtype=np.float64)
    size = max(abs(low), abs(high), 1.0)
    margin = 0.04 * (high - low) if high - low > 1e-9 * size else 0.5 * size
    step = _round_step((high - low + 2 * margin) / _BINS)
    start, stop = floor((low - margin) / step), ceil((high + margin) / step)
    return step * np.arange(start, stop + 1, dtype=np.float64)


def _round_step(least: float) -> float:
    """The least of 1, 2, 5 × a power of ten that is not below a step."""
    power = 10.0 ** floor(log10(least))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= least * (1 - 1e-9))


def _value_axis(distribution: Distribution, low: float, high: float) -> list[tuple[float, str]]:
    step = _round_step((high - low) / 6)
    if distribution.whole:
        step = max(step, 1.0)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    digits = max(0, -floor(log10(step) + 1e-9))
    return [(k * step, _minus(f"{k * step:.{digits}f}")) for k in range(first, last + 1)]


def _count_axis(most: int) -> tuple[int, list[int]]:
    step = max(1, int(_round_step(max(most, 1) / 4)))
    top = step * ceil(max(most, 1) / step)
    return top, list(range(0, top + 1, step))


def _span(distribution: Distribution, left: float, right: float) -> str:
    if distribution.whole:
        first, last = ceil(left), floor(right)
        return f"{first}" if first == last else f"{first} to {last}"
    return _minus(f"{left:.4g} to {right:.4g}")


def _minus(text: str) -> str:
    return "0" if text.strip("-0.") == "" else text.replace("-", "−")


# -- the window ----------------------------------------------------------------------------------
def _window(distribution: Distribution, low: float, high: float, x: _Scale, bottom: float) -> str:
    if distribution.low is None and distribution.high is None:
        return ""
    left = x(low if distribution.low is None else distribution.low)
    right = x(high if distribution.high is None else distribution.high)
    return (
        f'<rect class="window" x="{left}" y="{_TOP}" width="{round(right - left, 1)}" '
        f'height="{bottom - _TOP}"/>'
    )


def _thresholds(distribution: Distribution, x: _Scale, bottom: float) -> Iterator[str]:
    ends = [end for end in (distribution.low, distribution.high) if end is not None]
    for end in sorted({*ends, *distribution.marks}):
        yield f'<path class="threshold" d="M{x(end)} {_TOP}V{bottom}"/>'
    for end in ends or distribution.marks[:1]:
        label = _minus(f"{end:g}")
        yield f'<text class="middle bold" x="{x(end)}" y="{_TOP - 7}">{label}</text>'
