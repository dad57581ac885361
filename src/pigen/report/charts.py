"""Where the parts of a chart lie. The page's templates draw them, its style sheet colours them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from pigen.report.content import Distribution

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 46, WIDTH - 14, 22, HEIGHT - 42
_BINS = 32
"""About how many bars a histogram may have."""
_FENCE = 3.0
"""Interquartile ranges beyond the quartiles that an axis shows; what is further out is counted."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        x, width: left end and width.
        title: what it holds, in words.
        parts: class, top and height of all structures and of the survivors.
    """

    x: float
    width: float
    title: str
    parts: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Histogram:
    """A histogram in the units of its drawing.

    Attributes:
        bars: from the left; only those that hold something.
        counts, values: place and label of the ticks of both axes.
        window: left end and width of the filter's window, None without one.
        thresholds: places of its ends, and of marks.
        ends: place and label of the ends, or of the first mark.
        beyond: values left and right of the axis.
        notes: below the title.
    """

    bars: tuple[Bar, ...]
    counts: tuple[tuple[float, int], ...]
    values: tuple[tuple[float, str], ...]
    window: tuple[float, float] | None
    thresholds: tuple[float, ...]
    ends: tuple[tuple[float, str], ...]
    beyond: tuple[int, int]
    notes: str


def histogram(shown: Distribution) -> Histogram | None:
    """All structures in bars, with the survivors' part of each; None without values."""
    if not len(shown.judged):
        return None
    edges = _edges(shown)
    low, high = float(edges[0]), float(edges[-1])
    counts, kept = (np.histogram(values, edges)[0] for values in (shown.judged, shown.passed))
    step = max(1, int(_round_step(max(int(counts.max()), 1) / 4)))
    top = step * ceil(int(counts.max()) / step)

    def x(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    def y(count: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * count / top, 1)

    bars = []
    for i in np.flatnonzero(counts):
        left, right = float(edges[i]), float(edges[i + 1])
        title = f"{_span(shown, left, right)}: {counts[i]}, of which {kept[i]} passed"
        parts = [(name, y(n), round(BOTTOM - y(n), 1)) for name, n in _parts(counts[i], kept[i])]
        width = round(max(x(right) - x(left) - 1, 0.5), 1)
        bars.append(Bar(x(left) + 0.5, width, title, tuple(parts)))
    ends = [end for end in (shown.low, shown.high) if end is not None]
    window = None
    if ends:
        first = x(low if shown.low is None else shown.low)
        last = x(high if shown.high is None else shown.high)
        window = (first, round(last - first, 1))
    beyond = int((shown.judged < low).sum()), int((shown.judged > high).sum())
    return Histogram(
        bars=tuple(bars),
        counts=tuple((y(tick), tick) for tick in range(0, top + 1, step)),
        values=tuple((x(value), label) for value, label in _ticks(shown, low, high)),
        window=window,
        thresholds=tuple(x(end) for end in sorted({*ends, *shown.marks})),
        ends=tuple((x(end), _minus(f"{end:g}")) for end in ends or shown.marks[:1]),
        beyond=beyond,
        notes="; ".join(_notes(shown, beyond)),
    )


def _notes(shown: Distribution, beyond: tuple[int, int]) -> Iterator[str]:
    if shown.remark:
        yield shown.remark
    if shown.marks:
        yield f"lines at {', '.join(f'{mark:g}' for mark in sorted(shown.marks))} {shown.unit}"
    places = ("left of the axis", "right of the axis", "without a value")
    for n, where in zip((*beyond, shown.missing), places, strict=True):
        if n:
            yield f"{n} {where}"


def _parts(n: int, kept: int) -> list[tuple[str, int]]:
    return [(name, count) for name, count in (("all", n), ("kept", kept)) if count]


def _edges(shown: Distribution) -> NDArray[np.float64]:
    """Edges of the bins, at round numbers, over the bulk of the values and the window."""
    values = shown.judged
    first, third = (float(q) for q in np.quantile(values, [0.25, 0.75]))
    reach = _FENCE * (third - first)
    ends = [max(float(values.min()), first - reach), min(float(values.max()), third + reach)]
    ends += [end for end in (shown.low, shown.high, *shown.marks) if end is not None]
    low, high = min(ends), max(ends)
    if shown.whole:
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


def _ticks(shown: Distribution, low: float, high: float) -> list[tuple[float, str]]:
    step = _round_step((high - low) / 6)
    if shown.whole:
        step = max(step, 1.0)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    digits = max(0, -floor(log10(step) + 1e-9))
    return [(k * step, _minus(f"{k * step:.{digits}f}")) for k in range(first, last + 1)]


def _span(shown: Distribution, left: float, right: float) -> str:
    if not shown.whole:
        return _minus(f"{left:.4g} to {right:.4g}")
    first, last = ceil(left), floor(right)
    return f"{first}" if first == last else f"{first} to {last}"


def _minus(text: str) -> str:
    return "0" if text.strip("-0.") == "" else text.replace("-", "−")
