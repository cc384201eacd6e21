"""One small figure as SVG: a handful of paths and texts, whose looks are classes.

Colours are classes too, `c0072b2` for #0072b2, so that a style sheet can give each another one on a dark ground: a
page has one for all its figures (`stylesheet`), a file of its own carries the rules it needs (`standalone`). Places
of text depend on the metrics of no font, and there are no ids: the same numbers give the same bytes on any machine,
and any number of drawings can stand in one page.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from markupsafe import Markup, escape

from experiments.records.rows import Floats
from experiments.reports.scales import FRAME, INK, Dashes, Numbers, Scale, Styles, on_dark

WIDTH, PLOT, LEFT, RIGHT, TOP = 230.0, 118.0, 38.0, 12.0, 20.0  # units: the drawing, the plot in it and its margins
LINE, EM = 10.5, 4.3  # height of a line of text, width of a character at most
SHAPES = {
    "diamond": [(-1, 0), (0, -1), (1, 0), (0, 1)],
    "left": [(-1, 0), (1, -1), (1, 1)],
    "right": [(1, 0), (-1, -1), (-1, 1)],
}
GROUNDS = ("#ffffff", "#14171b")  # of a file that is shown by itself, light and dark; the second is report.css's
RULES = (Path(__file__).parent / "figure.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Drawing:
    """What stands in an <svg>, its size, and the colours it uses."""

    elements: str
    width: float
    height: float
    colours: frozenset[str]

    def inline(self, gist: str) -> Markup:
        """To stand in a page that has the `stylesheet`, told to those who do not see it by its gist."""
        box = f"0 0 {short(self.width)} {short(self.height)}"
        opening = f'<svg class="figure" viewBox="{box}" role="img" aria-label="{escape(gist)}">'
        return Markup(f"{opening}{self.elements}</svg>")

    def standalone(self, gist: str) -> str:
        """A file of its own, readable wherever it is shown: with a ground, light or dark as the reader's."""
        width, height = short(self.width), short(self.height)
        size = f'width="{short(1.5 * self.width)}" height="{short(1.5 * self.height)}" viewBox="0 0 {width} {height}"'
        ground = f'<path class="ground" d="M0 0H{width}V{height}H0z"/>'
        style = f"<style>{stylesheet(self.colours, GROUNDS)}</style>"
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" {size} role="img">'
        return f"{opening}<title>{escape(gist)}</title>{style}{ground}{self.elements}</svg>\n"


def level(drawings: Sequence[Drawing]) -> list[Drawing]:
    """All as tall as the tallest, so that their plots are level where images stand on their bottoms."""
    tallest = max((drawing.height for drawing in drawings), default=0.0)
    return [replace(drawing, height=tallest) for drawing in drawings]


def stylesheet(colours: Iterable[str], grounds: Sequence[str] = ()) -> str:
    """The rules of drawings with these colours, and with a ground where one is given for light and one for dark."""
    light = {_name(colour): f"color:{colour}" for colour in sorted({INK, *colours})}
    dark = {_name(colour): f"color:{on_dark(colour)}" for colour in sorted({INK, *colours})}
    if grounds:
        light["ground"], dark["ground"] = (f"color:{ground}" for ground in grounds)
    first, second = ("\n".join(f".figure .{name}{{{rule}}}" for name, rule in rules.items()) for rules in (light, dark))
    return f"{RULES}{first}\n@media screen and (prefers-color-scheme:dark){{\n{second}\n}}"


def _name(colour: str) -> str:
    return f"c{colour[1:]}"


def short(value: float) -> str:
    """A number with one decimal at most: a sixth of a pixel where the page shows a drawing largest."""
    return f"{value:.1f}".removesuffix(".0")


class Panel:
    """One small figure: a title, a plot with two axes, the x axis' label and, if asked for, a legend."""

    def __init__(
        self,
        title: str,
        x: Scale,
        y: Scale,
        label: str = "",
        *,
        legend: Styles | None = None,
        plot: float = PLOT,
        width: float = WIDTH,
        left: float = LEFT,
    ) -> None:
        self.x, self.y, self.left, self.right = x, y, left, width - RIGHT
        self.elements, self.colours = list[str](), set[str]()
        below = textwrap.wrap(label, int(width / 5.4), max_lines=3, placeholder=" …", break_long_words=False)
        rows = list(_legend_rows(legend or {}, width))
        self.top = TOP if title else 6.0
        self.bottom = self.top + plot
        self.width, self.height = width, self.bottom + 16 + LINE * (len(below) + len(rows)) + (3 if rows else 0)
        self.text(8, 10, title, kind="title")
        for place, line in enumerate(below, start=1):
            self.text((self.left + self.right) / 2, self.bottom + 12 + LINE * place, line, "middle")
        for place, row in enumerate(reversed(rows)):
            for at, name in row:
                self._legend_entry(at, self.height - 4 - LINE * place, name, *(legend or {})[name])

    def across(self, xs: Numbers) -> Floats:
        return np.asarray(self.left + (self.right - self.left) * self.x(xs))

    def down(self, ys: Numbers) -> Floats:
        """Where values lie, from the top."""
        return np.asarray(self.bottom - (self.bottom - self.top) * self.y(ys))

    def line(
        self, xs: Numbers, ys: Numbers, colour: str, width: float, dashes: Dashes = (), kind: str = "line"
    ) -> None:
        """A line through these points, with gaps where they are not finite."""
        self._stroke(kind, colour, _polyline(self.across(xs), self.down(ys)), width, dashes)

    def dots(self, xs: Numbers, ys: Numbers, colour: str, size: float, kind: str = "dots") -> None:
        """Round dots: strokes of no length with round ends, the shortest there is in SVG."""
        places = zip(self.across(xs).tolist(), self.down(ys).tolist(), strict=True)
        drawn = "".join(f"M{short(x)} {short(y)}h0" for x, y in places if np.isfinite(x + y))
        self._stroke(kind, colour, drawn, size)

    def marks(self, shape: str, xs: Numbers, ys: Numbers, colour: str, size: float) -> None:
        """Filled shapes; of a ring, only the outline."""
        radius = size / 2
        for x, y in zip(self.across(xs).tolist(), self.down(ys).tolist(), strict=True):
            if np.isfinite(x + y) and shape == "ring":
                place = f'cx="{short(x)}" cy="{short(y)}" r="{short(radius)}"'
                self.elements.append(f'<circle class="line {self._colour(colour)}" {place}/>')
            elif np.isfinite(x + y):
                corners = (f"{short(x + radius * dx)} {short(y + radius * dy)}" for dx, dy in SHAPES[shape])
                self._fill(f"M{'L'.join(corners)}z", colour)

    def band(self, low: float, high: float, colour: str) -> None:
        """Everything between two x."""
        left, right = map(short, self.across([low, high]).tolist())
        self._fill(f"M{left} {short(self.bottom)}V{short(self.top)}H{right}V{short(self.bottom)}z", colour)

    def level_band(self, low: float, high: float, colour: str) -> None:
        """Everything between two y."""
        bottom, top = map(short, self.down([low, high]).tolist())
        self._fill(f"M{short(self.left)} {bottom}V{top}H{short(self.right)}V{bottom}z", colour)

    def upright(self, x: float, colour: str, width: float, ends: Numbers | None = None) -> None:
        """A vertical line, through the whole plot or between two y."""
        low, high = (self.bottom, self.top) if ends is None else self.down(ends).tolist()
        self._stroke("line", colour, f"M{short(float(self.across([x])[0]))} {short(low)}V{short(high)}", width)

    def text(
        self, x: float, y: float, words: str, align: Literal["start", "middle", "end"] = "start", kind: str = ""
    ) -> None:
        if words:
            classes = " ".join(filter(None, (kind, align if align != "start" else "")))
            named = f' class="{classes}"' if classes else ""
            self.elements.append(f'<text{named} x="{short(x)}" y="{short(y)}">{escape(words)}</text>')

    def drawing(self) -> Drawing:
        self._axes()
        return Drawing("".join(self.elements), self.width, self.height, frozenset(self.colours))

    def _axes(self) -> None:
        xs, ys = self.across(list(self.x.ticks)).tolist(), self.down(list(self.y.ticks)).tolist()
        drawn = f"M{short(self.left)} {short(self.top)}V{short(self.bottom)}H{short(self.right)}"
        drawn += "".join(f"M{short(x)} {short(self.bottom)}v2.5" for x in xs)
        drawn += "".join(f"M{short(self.left)} {short(y)}h-2.5" for y in ys)
        self._stroke("line", FRAME, drawn, 0.7)
        for x, name in zip(xs, self.x.ticks.values(), strict=True):
            self.text(x, self.bottom + 11, name, "middle", "tick")
        for y, name in zip(ys, self.y.ticks.values(), strict=True):
            self.text(self.left - 4.5, y + 2.5, name, "end", "tick")

    def _legend_entry(self, x: float, y: float, name: str, colour: str, dashes: Dashes) -> None:
        self._stroke("line", colour, f"M{short(x)} {short(y - 2.6)}h14", 1.8, dashes)
        self.text(x + 17, y, name)

    def _stroke(self, kind: str, colour: str, drawn: str, width: float, dashes: Dashes = ()) -> None:
        if drawn:
            dashed = f' stroke-dasharray="{" ".join(short(width * part) for part in dashes)}"' if dashes else ""
            classes = f"{kind} {self._colour(colour)}"
            self.elements.append(f'<path class="{classes}" stroke-width="{width:g}"{dashed} d="{drawn}"/>')

    def _fill(self, drawn: str, colour: str) -> None:
        self.elements.append(f'<path class="{self._colour(colour)}" d="{drawn}"/>')

    def _colour(self, colour: str) -> str:
        self.colours.add(colour)
        return _name(colour)


def _polyline(xs: Floats, ys: Floats) -> str:
    drawn, pen = list[str](), "M"
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if x != x or y != y:
            pen = "M"
        else:
            drawn.append(f"{pen}{short(x)} {short(y)}")
            pen = "L"
    return "".join(drawn)


def _legend_rows(labels: Iterable[str], width: float) -> Iterator[list[tuple[float, str]]]:
    """As many labels in a row as there is room for, and where each starts."""
    row, x = list[tuple[float, str]](), 8.0
    for label in labels:
        room = 24 + EM * len(label)
        if row and x + room > width:
            yield row
            row, x = [], 8.0
        row.append((x, label))
        x += room
    if row:
        yield row
