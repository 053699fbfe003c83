"""Small SVG figures for the report. Colours are classes, so that the page can be light or dark.

The one rule: whatever text goes into a figure is escaped by Markup.format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reinstruct.report_text import THIN, number

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 44
BINS = 20

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axes:
    """Maps values to the plot: x from `x0` to `x1`, y from `y0` at the bottom to `y1`."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x0) / (self.x1 - self.x0 or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y0) / (self.y1 - self.y0 or 1)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) that cover low to high."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) * wanted >= span * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(step * index, 10) for index in range(first, last + 1)]


def line_chart(title: str, points: Points, x_label: str, y_label: str, *, from_zero: bool = False) -> Markup:
    """One line through (x, y) points, at least one, with both axes."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across, up = ticks(0, max(xs)), ticks(0 if from_zero else min(ys), max(ys))
    axes = Axes(0, max(xs) or 1, up[0], up[-1])
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    marks = Markup('<polyline class="line" points="{}"/>').format(path)
    last_x, last_y = points[-1]
    marks += Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(axes.x(last_x), axes.y(last_y))
    told = f"{y_label} over {x_label}: from {ys[0]:.3f} at {xs[0]:g} to {last_y:.3f} at {last_x:g}"
    labels = {x: number(x) for x in across if x <= max(xs)}
    return _figure(title, told, _axes(axes, labels, _labels(up), x_label, y_label) + marks)


def histogram(title: str, series: Mapping[str, Sequence[int]], x_label: str) -> Markup:
    """Steps over equal bins, one outline per non-empty series, as a share of that series' rows.

    Values beyond the 98th percentile of all are counted in the last bin, which the axis then says.
    """
    filled = {name: values for name, values in series.items() if values}
    everything = sorted(value for values in filled.values() for value in values)
    across = ticks(0, everything[math.ceil(0.98 * len(everything)) - 1] or 1)
    shares = {name: _binned(values, across[-1]) for name, values in filled.items()}
    up = ticks(0, max(max(bins) for bins in shares.values()))
    axes = Axes(0, across[-1], 0, up[-1])
    labels = {x: number(x) for x in across}
    if everything[-1] > across[-1]:
        labels[across[-1]] = f"≥ {number(across[-1] * (BINS - 1) / BINS)}"
    marks = Markup("").join(_outline(axes, name, bins) for name, bins in shares.items())
    told = "; ".join(
        f"{name}: {number(len(values))} rows, median {number(sorted(values)[len(values) // 2])}"
        for name, values in filled.items()
    )
    grid = _axes(axes, labels, {y: f"{100 * y:g}{THIN}%" for y in up}, x_label, "share of rows")
    return _figure(title, f"Histogram. {told}", grid + marks)


def _labels(values: Sequence[float]) -> dict[float, str]:
    """All with as many decimals as the one that needs most."""
    digits = max(len(f"{value:g}".partition(".")[2]) for value in values)
    return {value: number(value, digits) for value in values}


def _binned(values: Iterable[int], top: float) -> list[float]:
    bins, total = [0] * BINS, 0
    for value in values:
        bins[min(BINS - 1, int(value / top * BINS))] += 1
        total += 1
    return [count / total for count in bins]


def _outline(axes: Axes, name: str, bins: Sequence[float]) -> Markup:
    width = axes.x1 / len(bins)
    corners = [(edge * width, height) for index, height in enumerate(bins) for edge in (index, index + 1)]
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in [(0, 0), *corners, (axes.x1, 0)])
    return Markup('<polygon class="area {}" points="{}"/>').format(name, path)


def _axes(axes: Axes, across: Mapping[float, str], up: Mapping[float, str], x_label: str, y_label: str) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>')
    y_text = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    x_text = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    base = HEIGHT - BOTTOM
    parts = [line.format(LEFT, WIDTH - RIGHT, y=axes.y(value)) for value in up]
    parts += [y_text.format(LEFT - 6, axes.y(value) + 4, label) for value, label in up.items()]
    parts += [x_text.format(min(axes.x(value), WIDTH - 22), base + 16, label) for value, label in across.items()]
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(LEFT, WIDTH - RIGHT, y=base))
    parts.append(x_text.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label))
    turned = Markup('<text class="turned" transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(turned.format((TOP + base) / 2, y_label))
    return Markup("").join(parts)


def _figure(title: str, description: str, inside: Markup) -> Markup:
    return Markup(
        '<svg role="img" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(WIDTH, HEIGHT, title, description, inside)
