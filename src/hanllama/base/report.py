"""Blocks of a report page: charts and histograms (inline SVG), tables, facts, notes, texts.

`card.py` joins them. The page needs no network, script or font, follows the reader's light or dark
scheme, can be printed, and escapes everything from data. Every block is a function that returns
safe markup, so a command builds its report from values and never writes HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

# The size of a chart; CSS scales it to the column. On a wide screen two charts share a row, and
# there (about 500 px each) these numbers are pixels.
WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 42
MAX_POINTS = 2000  # more points than a screen has pixels would make a page of megabytes
HOVER_POINTS = 120
TREND_STRETCHES = 150  # a noisy series is drawn faint, under the medians of this many stretches
COLOURS = 6  # --c0 … --c5 in the template; further series repeat them dashed

Series = tuple[Sequence[float], Sequence[float]]
Level = Literal["good", "warning", "bad", "info"]
_NUMBER = re.compile(r"[-+$]?[\d,.]+(e[-+]\d+)?( ?%)?[ *]?|[-–]?")


# --- blocks ------------------------------------------------------------------------------------


def chart(series: Mapping[str, Series], *, title: str, x: str, y: str) -> Markup:
    """Line charts over common axes, as an inline SVG.

    Args:
        series: name -> (xs, ys), equally long. NaN and infinite ys interrupt the line, are
            marked with a cross at the edge and counted in the legend.
        title: the caption. x, y: the axes' names, with units.

    A series of more than 2000 points is thinned to the extremes of equal stretches, so a spike of
    one step stays visible. A long noisy series is drawn faint with its medians on top.
    """
    lines = {name: _Line(*values) for name, values in series.items()}
    points = [p for line in lines.values() for p in line.points]
    legend = [
        (name, index, f"{line.lost:,} not drawable" if line.lost else "")
        for index, (name, line) in enumerate(lines.items())
    ]
    if not points:
        return _figure(title, Markup('<p class="empty">no finite values to draw</p>'), legend)
    across = _Axis([p[0] for p in points], LEFT, WIDTH - RIGHT)
    up = _Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, pad=0.05)
    body = Markup("").join(
        _draw(line, index, name, across, up) for index, (name, line) in enumerate(lines.items())
    )
    return _figure(title, _svg(title, across, up, x, y, body), legend)


def histogram(
    values: Iterable[float], *, title: str, x: str, y: str = "count", bins: int = 40
) -> Markup:
    """A histogram of values in equal bins; NaN and infinite values are only counted."""
    everything = [float(v) for v in values]
    kept = [v for v in everything if math.isfinite(v)]
    lost = len(everything) - len(kept)
    remark = f"{lost:,} not drawable" if lost else ""
    if not kept:
        legend = [("", 0, remark)] if lost else []
        return _figure(title, Markup('<p class="empty">no values to draw</p>'), legend)
    counts, edges = np.histogram(kept, bins)
    return bars(edges.tolist(), counts.tolist(), title=title, x=x, y=y, remark=remark)


def bars(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    title: str,
    x: str,
    y: str = "count",
    log_x: bool = False,
    remark: str = "",
) -> Markup:
    """A histogram of given counts: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`.

    `edges` rise; `remark` is shown beside the title.
    """
    assert len(edges) == len(counts) + 1, (len(edges), len(counts))
    across = _Axis([edges[0], edges[-1]], LEFT, WIDTH - RIGHT, log=log_x)
    up = _Axis([0.0, float(max(counts))], HEIGHT - BOTTOM, TOP)
    shapes = []
    for index, count in enumerate(counts):
        left, right = across.at(edges[index]), across.at(edges[index + 1])
        top = up.at(count)
        width = max(right - left - 0.6, 0.4)
        said = f"{number(edges[index])} – {number(edges[index + 1])}: {count:,}"
        shapes.append(
            Markup('<path class="bar" d="M{} {}v{}h{}V{}z"><title>{}</title></path>').format(
                _px(left),
                HEIGHT - BOTTOM,
                _px(top - HEIGHT + BOTTOM),
                _px(width),
                HEIGHT - BOTTOM,
                said,
            )
        )
    legend = [("", 0, remark)] if remark else []
    return _figure(title, _svg(title, across, up, x, y, Markup("").join(shapes)), legend)


def ranking(values: Mapping[str, float], *, title: str, unit: str) -> Markup:
    """Named values as horizontal bars from zero, in the given order, each with its number."""
    finite = {name: v for name, v in values.items() if math.isfinite(v)}
    if not finite:
        return _figure(title, Markup('<p class="empty">no values to draw</p>'), [])
    most = max([*finite.values(), 0.0]) or 1.0
    bar = Markup('<meter max="{}" value="{}"></meter>')
    rows = [(name, bar.format(most, max(v, 0.0)), v) for name, v in finite.items()]
    return _figure(title, table(rows, headings=("", "", unit)), [])


def table(rows: Iterable[Sequence[Any]], *, headings: Sequence[str], title: str = "") -> Markup:
    """A table with numbers at the right and floats to four digits; empty if there are no rows."""
    kept = [list(row) for row in rows]
    if not kept:
        return Markup("")
    classes = [
        Markup(' class="number"') if is_numeric([row[i] for row in kept]) else Markup("")
        for i in range(len(headings))
    ]
    head = _cells("th", headings, classes)
    body = Markup("").join(Markup("<tr>{}</tr>").format(_cells("td", r, classes)) for r in kept)
    caption = Markup("<caption>{}</caption>").format(title) if title else ""
    return Markup(
        '<div class="wide"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(caption, head, body)


def facts(values: Mapping[str, Any]) -> Markup:
    """The main numbers, large, each over its name."""
    tiles = Markup("").join(
        Markup("<div><dd>{}</dd><dt>{}</dt></div>").format(number(value), name)
        for name, value in values.items()
    )
    return Markup('<dl class="facts">{}</dl>').format(tiles)


def note(text: str, level: Level = "info") -> Markup:
    """A verdict or a warning of one sentence; a sign shows the level in print too."""
    word = {"good": "✓", "warning": "⚠", "bad": "✗", "info": "i"}[level]
    return Markup('<p class="note {}"><b>{}</b> {}</p>').format(level, word, text)


def text(content: str, *, title: str = "") -> Markup:
    """A text with its line breaks: a sample, a configuration."""
    caption = Markup("<figcaption>{}</figcaption>").format(title) if title else ""
    return Markup('<figure class="text">{}<pre>{}</pre></figure>').format(caption, content)


def share(part: float, whole: float) -> str:
    """`12.34 %`, or `-` if `whole` is 0."""
    return f"{100 * part / whole:.2f} %" if whole else "-"


def number(value: Any) -> str:
    """A value as text: `12,345`, `0.1235`, `1.2e-05`, `yes`, `–`."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


# --- from values to points -----------------------------------------------------------------------


class _Line:
    """A series ready to draw: unbroken segments of finite points, and the gaps between them."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        assert len(xs) == len(ys), f"a series needs as many xs as ys: {len(xs)} and {len(ys)}"
        self.segments: list[list[tuple[float, float]]] = [[]]
        self.gaps: list[tuple[float, float]] = []
        self.lost = 0
        for x, y in zip(map(float, xs), map(float, ys), strict=True):
            if math.isfinite(x) and math.isfinite(y):
                self.segments[-1].append((x, y))
                continue
            self.lost += 1
            if math.isfinite(x):
                self.gaps.append((x, y))
            if self.segments[-1]:
                self.segments.append([])
        self.segments = [s for s in self.segments if s]
        self.trends = [_trend(s) for s in self.segments]
        budget = MAX_POINTS / max(sum(map(len, self.segments)), 1)
        if budget < 1:
            self.segments = [_thin(s, max(int(len(s) * budget), 4)) for s in self.segments]
        self.points = [p for segment in self.segments for p in segment]


def _trend(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The medians of equal stretches for a long noisy series; empty for another."""
    if len(points) < 2 * TREND_STRETCHES:
        return []
    slopes = [b[1] - a[1] for a, b in pairwise(points)]
    turns = sum(a * b < 0 for a, b in pairwise(slopes))
    if turns < len(points) / 4:
        return []
    cuts = [i * len(points) // TREND_STRETCHES for i in range(TREND_STRETCHES + 1)]
    stretches = [points[a:b] for a, b in pairwise(cuts)]
    return [(median(x for x, _ in s), median(y for _, y in s)) for s in stretches]


def _thin(points: list[tuple[float, float]], keep: int) -> list[tuple[float, float]]:
    """About `keep` points at most: the extremes of equal stretches, and both ends."""
    if len(points) <= keep:
        return points
    stretches = max(keep // 2 - 1, 1)
    chosen = {0, len(points) - 1}
    for index in range(stretches):
        start = index * len(points) // stretches
        stretch = range(start, (index + 1) * len(points) // stretches)
        chosen.add(min(stretch, key=lambda i: points[i][1]))
        chosen.add(max(stretch, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(chosen)]


# --- axes ----------------------------------------------------------------------------------------


class _Axis:
    """The map from values to pixels, with ticks at round values."""

    def __init__(
        self, values: list[float], start: float, end: float, pad: float = 0.0, log: bool = False
    ) -> None:
        self.start, self.end = start, end
        self._scale: Callable[[float], float] = math.log10 if log else float
        low, high = self._scale(min(values)), self._scale(max(values))
        room = (high - low) * pad if low < high else abs(low) * 0.1 or 0.5
        self.low, self.high = low - room, high + room
        self.ticks = (
            _log_ticks(10.0**self.low, 10.0**self.high)
            if log
            else _linear_ticks(self.low, self.high)
        )

    def at(self, value: float) -> float:
        share = (self._scale(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _linear_ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """About `count` multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    # The nearest of them by ratio: the limits are the geometric means of neighbours.
    step = power * next(
        m for m, limit in ((1, 1.4), (2, 3.2), (5, 7.1), (10, 11)) if rough / power < limit
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, _tick_text(i * step, step)) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten, with 2 and 5 between if they are few; linear ticks below one decade."""
    decades = math.log10(high / low)
    if decades < 1:
        return _linear_ticks(low, high)
    every = max(math.ceil(decades / 6), 1)
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [f * 10.0**p for p in powers if p % every == 0 for f in factors]
    return [(v, _tick_text(v, v)) for v in values if low * 0.999 <= v <= high * 1.001]


def _tick_text(value: float, step: float) -> str:
    """`0.05`, `2k`, `1.5M`, `3e-4`: with no more digits than the distance of the ticks needs."""
    size = abs(value)
    if size < step / 2:
        return "0"
    if (step < 0.001 and size < 0.1) or size >= 1e12:
        power = math.floor(math.log10(size) + 1e-9)
        digits = max(0, power - math.floor(math.log10(step) + 1e-9))
        return f"{value / 10.0**power:.{digits}f}e{power}"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.{_decimals(step / limit)}f}{letter}"
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


# --- SVG -----------------------------------------------------------------------------------------


def _draw(line: _Line, index: int, name: str, across: _Axis, up: _Axis) -> Markup:
    dash = Markup(' stroke-dasharray="5 3"') if index >= COLOURS else ""
    parts = []

    def path(points: list[tuple[float, float]], style: Markup | str) -> None:
        along = "L".join(f"{_px(across.at(x))} {_px(up.at(y))}" for x, y in points)
        # A segment of one point has no length; a wide round cap makes a dot of it.
        dot = Markup('h0" class="dot') if len(points) == 1 else ""
        parts.append(Markup('<path d="M{}{}"{}/>').format(along, dot, style))

    for segment, trend in zip(line.segments, line.trends, strict=True):
        path(segment, Markup(' class="faint"') if trend else dash)
        if trend:
            path(trend, dash)
    every = max(1, math.ceil(len(line.points) / HOVER_POINTS))
    shown = line.points[::every]
    for x, y in shown + line.points[-1:] * (line.points[-1:] != shown[-1:]):
        parts.append(
            Markup('<circle cx="{}" cy="{}" r="5"><title>{}</title></circle>').format(
                _px(across.at(x)), _px(up.at(y)), f"{name}\n{number(x)}: {number(y)}"
            )
        )
    for x, y in line.gaps[:HOVER_POINTS]:
        at = across.at(min(max(x, across.low), across.high))
        edge = HEIGHT - BOTTOM - 5 if y <= 0 else TOP + 5
        parts.append(
            Markup('<text class="gap" x="{}" y="{}">×<title>{}</title></text>').format(
                _px(at), _px(edge + 4), f"{name}\n{number(x)}: {y}"
            )
        )
    return Markup('<g class="s{}">{}</g>').format(index % COLOURS, Markup("").join(parts))


def _svg(title: str, across: _Axis, up: _Axis, x: str, y: str, body: Markup) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = []
    for value, label in up.ticks:
        at = _px(up.at(value))
        parts.append(
            Markup(
                '<path class="grid" d="M{} {}H{}"/><text class="ytick" x="{}" y="{}">{}</text>'
            ).format(LEFT, at, WIDTH - RIGHT, LEFT - 7, at, label)
        )
    for value, label in across.ticks:
        at = _px(across.at(value))
        parts.append(
            Markup(
                '<path class="tick" d="M{} {}v4"/><text class="xtick" x="{}" y="{}">{}</text>'
            ).format(at, floor, at, floor + 16, label)
        )
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '<path class="axis" d="M{} {}H{}"/>{}'
        '<text class="xname" x="{}" y="{}">{}</text>'
        '<text class="yname" transform="translate(12 {})rotate(-90)">{}</text></svg>'
    ).format(
        WIDTH, HEIGHT, title, Markup("").join(parts),
        LEFT, floor, WIDTH - RIGHT, body,
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x,
        (TOP + floor) / 2, y,
    )  # fmt: skip


def _figure(title: str, body: Markup, legend: Sequence[tuple[str, int, str]]) -> Markup:
    entries = Markup("").join(
        Markup('<span class="s{}{}">{}{}</span>').format(
            index % COLOURS,
            (" dashed" if index >= COLOURS else "") if name else " remark",
            name,
            Markup(" <em>({})</em>").format(remark) if remark else "",
        )
        for name, index, remark in legend
        if remark or len(legend) > 1
    )
    keys = Markup('<div class="legend">{}</div>').format(entries) if entries else ""
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}{}</figure>').format(
        title, keys, body
    )


def is_numeric(column: Sequence[Any]) -> bool:
    """Whether all values of a column are numbers (`12.3 %`, `-`), which are aligned right."""
    return all(_NUMBER.fullmatch(number(value)) for value in column)


def _cells(tag: str, values: Sequence[Any], classes: Sequence[Markup]) -> Markup:
    return Markup("").join(
        Markup("<{0}{1}>{2}</{0}>").format(
            Markup(tag), marked, value if isinstance(value, Markup) else number(value)
        )
        for value, marked in zip(values, classes, strict=True)
    )


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
