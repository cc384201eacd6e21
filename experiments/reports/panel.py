"""One small figure as SVG, laid out in points.

Drawn with matplotlib's lines, patches and SVG writer, but without its Axes, which take four times as long as all the
rest. Places of text depend on the metrics of no font, and there are no ids: the same numbers give the same bytes on
any machine, and any number of panels can stand in one page.
"""

import io
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.text import Text
from matplotlib.transforms import IdentityTransform

from experiments.records.rows import Floats
from experiments.reports.scales import FRAME, INK, STYLE, Numbers, Scale, Styles

Align = Literal["left", "center", "right"]
WIDTH, PLOT, LEFT, RIGHT, TOP = 230.0, 118.0, 38.0, 12.0, 20.0  # points: the panel, the plot in it and its margins
TEXT, LINE, EM = 7.5, 10.5, 4.3  # size of text, height of a line, width of a character at most


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
    ) -> None:
        self.x, self.y, self.plot, self.width, self.artists = x, y, plot, width, list[Artist]()
        below = textwrap.wrap(label, 42, max_lines=3, placeholder=" …", break_long_words=False)
        rows = _legend_rows(legend or {})
        self.bottom = 16 + LINE * (len(below) + len(rows)) + (3 if rows else 0)
        self.height = self.bottom + plot + (TOP if title else 6)
        if title:
            self.text(LEFT - 30, self.height - 10, title, size=8)
        for place, line in enumerate(below):
            self.text(LEFT + self._width / 2, self.bottom - 22 - LINE * place, line, "center")
        for place, row in enumerate(rows):
            self._legend_row(row, LINE * (len(rows) - 1 - place) + 4)

    @property
    def _width(self) -> float:
        return self.width - LEFT - RIGHT

    def across(self, xs: Numbers) -> Floats:
        return np.asarray(LEFT + self._width * self.x(xs))

    def up(self, ys: Numbers) -> Floats:
        return np.asarray(self.bottom + self.plot * self.y(ys))

    def line(self, xs: Numbers, ys: Numbers, colour: str, width: float, dashes: Any = "-", alpha: float = 1) -> None:
        self._line(self.across(xs), self.up(ys), colour, width, dashes, alpha)

    def dots(self, xs: Numbers, ys: Numbers, colour: str, size: float, alpha: float = 1) -> None:
        """Round dots: strokes of no length with round ends, the shortest there is in SVG."""
        gaps = np.full(len(xs), np.nan)
        across, up = (np.stack([at, at, gaps], axis=1).ravel() for at in (self.across(xs), self.up(ys)))
        self._line(across, up, colour, size, "-", alpha)

    def marks(self, shape: str, xs: Numbers, ys: Numbers, colour: str, size: float, filled: bool = True) -> None:
        for x, y in zip(self.across(xs), self.up(ys), strict=True):
            if np.isfinite([x, y]).all():
                self._fill(SHAPES[shape] * size / 2 + (x, y), colour, filled)

    def band(self, low: float, high: float, colour: str) -> None:
        """Everything between two x."""
        (left, right), top = self.across([low, high]), self.bottom + self.plot
        self._fill(np.array([(left, self.bottom), (left, top), (right, top), (right, self.bottom)]), colour, True)

    def upright(self, x: float, colour: str, width: float, ends: Numbers | None = None) -> None:
        """A vertical line, through the whole plot or between two y."""
        whole = np.array([self.bottom, self.bottom + self.plot])
        self._line(self.across([x, x]), whole if ends is None else self.up(ends), colour, width)

    def text(self, x: float, y: float, words: str, align: Align = "left", size: float = TEXT) -> None:
        self.artists.append(_Words(x, y, words, color=INK, fontsize=size, horizontalalignment=align))

    def svg(self) -> str:
        """The panel as SVG without ids, groups or a background: fit to stand in a page."""
        self._axes()
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(self.width / 72, self.height / 72), dpi=72, frameon=False)
            for place, artist in enumerate(self.artists):
                artist.set_zorder(place)
                artist.set_transform(IdentityTransform())
                figure.add_artist(artist)
            output = io.StringIO()
            figure.savefig(output, format="svg", metadata={"Date": None})
        return _shortened(output.getvalue())

    def _line(
        self, xs: Floats, ys: Floats, colour: str, width: float, dashes: Any = "-", alpha: float | None = None
    ) -> None:
        ends: Any = {"solid_capstyle": "round", "dash_capstyle": "butt"}
        alpha = None if alpha == 1 else alpha
        self.artists.append(Line2D(xs, ys, color=colour, linewidth=width, linestyle=dashes, alpha=alpha, **ends))

    def _fill(self, corners: Floats, colour: str, filled: bool) -> None:
        look: Any = {"facecolor": colour, "linewidth": 0} if filled else {"edgecolor": colour, "fill": False}
        self.artists.append(Polygon(corners, **look))

    def _axes(self) -> None:
        left, bottom, top = LEFT, self.bottom, self.bottom + self.plot
        corner = [(left, top), (left, bottom), (self.width - RIGHT, bottom)]
        xs, ys = self.across(list(self.x.ticks)), self.up(list(self.y.ticks))
        ticks = [end for x in xs for end in ((np.nan, np.nan), (x, bottom), (x, bottom - 2.5))]
        ticks += [end for y in ys for end in ((np.nan, np.nan), (left, y), (left - 2.5, y))]
        drawn = np.array([*corner, *ticks])
        self._line(drawn[:, 0], drawn[:, 1], FRAME, 0.7)
        for x, name in zip(xs, self.x.ticks.values(), strict=True):
            self.text(float(x), bottom - 11, name, "center", 7)
        for y, name in zip(ys, self.y.ticks.values(), strict=True):
            self.text(left - 4.5, float(y) - 2.5, name, "right", 7)

    def _legend_row(self, row: Sequence[tuple[float, str, str, Any]], y: float) -> None:
        for x, name, colour, dashes in row:
            self._line(np.array([x, x + 14]), np.array([y + 2.6, y + 2.6]), colour, 1.8, dashes)
            self.text(x + 17, y, name)


def _legend_rows(styles: Styles) -> list[list[tuple[float, str, str, Any]]]:
    """As many arms in a row as there is room for: where each starts, its name, colour and dashes."""
    rows: list[list[tuple[float, str, str, Any]]] = []
    x = WIDTH
    for label, (colour, dashes) in styles.items():
        width = 24 + EM * len(label)
        if x + width > WIDTH:
            rows, x = [*rows, []], LEFT - 30
        rows[-1].append((x, label, colour, dashes))
        x += width
    return rows


class _Words(Text):
    """Text on its baseline. Matplotlib's own drawing measures it first, half the time a panel takes."""

    def draw(self, renderer: RendererBase) -> None:
        context = renderer.new_gc()
        context.set_foreground(self.get_color())
        x, y = self.get_position()
        height = renderer.get_canvas_width_height()[1]
        renderer.draw_text(context, x, height - y, self.get_text(), self.get_fontproperties(), 0, mtext=self)


_ROUND = [(math.cos(angle), math.sin(angle)) for angle in np.arange(20) * math.pi / 10]
SHAPES = {
    "circle": np.array(_ROUND),
    "diamond": np.array([(-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0)]),
    "left": np.array([(-1.0, 0.0), (1.0, 1.0), (1.0, -1.0)]),
    "right": np.array([(1.0, 0.0), (-1.0, 1.0), (-1.0, -1.0)]),
}


def standalone(svgs: Sequence[str]) -> list[str]:
    """The panels of a row as files of their own: each with its font and a white ground, whatever it is shown on.

    All are as tall as the tallest, so that their plots are level where images stand on their bottoms.
    """
    tallest = max((float(HEIGHT.findall(svg)[0]) for svg in svgs), default=0)
    return [_standalone(HEIGHT.sub(f"{tallest:g}", svg, count=2)) for svg in svgs]


HEIGHT = re.compile(r'(?<= height=")[\d.]+|(?<=viewBox="0 0 230 )[\d.]+')


def _standalone(svg: str) -> str:
    head, _, rest = svg.partition(">")
    return f'{head} font-family="DejaVu Sans, sans-serif"><path d="M0 0H999V999H0z" fill="#fff"/>{rest}\n'


def _shortened(svg: str) -> str:
    """What a browser needs of matplotlib's SVG, with two decimals."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*</metadata>|<defs>.*?</defs>|</?g\b[^>]*>", "", svg, flags=re.S)
    return re.sub(r"\s*\n\s*", "", re.sub(r"<[^>]*>", lambda tag: _short_tag(tag[0]), svg))


def _short_tag(tag: str) -> str:
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"| ?font-family: [^;"]*;?| xmlns:xlink="[^"]*"', "", tag)
    tag = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)
    return re.sub(r"\s*([MLz])\s*(?=[\d\-ML\"])", r"\1", tag)
