"""How every figure looks: colours and dashes of the arms, panels, axes and their ticks."""

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.evidence import Floats
from experiments.wording import tidy

Styles = Mapping[str, tuple[str, Any]]  # colour and dashes by arm

HUES = {  # the first three are those of Okabe and Ito: the colour-blind can tell them apart
    "none": "#6b6b6b",
    "batch": "#d55e00",
    "layer": "#0072b2",
    "rms": "#009e73",
    "group": "#cc79a7",
    "instance": "#7b3fa0",
    "weight": "#8c6d1f",
}
OTHERS = ("#222222", "#56b4e9", "#b59f00", "#a0522d")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
ALARM, SIZE = "#b00020", "#0b5d1e"  # bounds and divergence; estimate and interval
WIDTH, HEIGHT = 9.0, 2.6  # inches
STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # one font to look for
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.unicode_minus": False,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "text.parse_math": False,
    "svg.fonttype": "none",  # text stays text: small files, and quick to write
    "svg.hashsalt": "layer-normalization",  # ids that do not change from run to run
}


def arm_styles(labels: Sequence[str]) -> Styles:
    """Colour and dashes of each arm: one hue for a norm on every figure, shades and dashes for its arms."""
    styles: dict[str, tuple[str, Any]] = {}
    hues: list[str] = []
    others = iter(OTHERS * len(labels))
    for label in labels:
        words = re.split(r"[^a-z]+", label.rpartition("/")[2].lower().replace("batch_size", ""))
        norm = next((word for word in words if word in HUES), None)
        hue = HUES[norm] if norm else next(others)
        again = hues.count(hue)
        hues.append(hue)
        styles[label] = _lighter(hue, 0.2 * (again % 4)), DASHES[again % len(DASHES)]
    return styles


def _lighter(colour: str, share: float) -> str:
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (255 - channel) * share):02x}" for channel in channels)


def legend_handles(styles: Styles) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.8, label=label)
        for label, (colour, dashes) in styles.items()
    ]


def side_by_side(figure: Figure, count: int, below: float) -> Iterator[Axes]:
    """Panels side by side, placed by hand: matplotlib's own layouts cost more than the drawing."""
    width, height = figure.get_size_inches()
    left, gap, right, bottom, top = 0.55, 0.6, 0.15, 0.5 + below, 0.3  # inches
    panel = (width - left - right - gap * (count - 1)) / max(1, count)
    for place in range(count):
        x = left + place * (panel + gap)
        yield figure.add_axes((x / width, bottom / height, panel / width, (height - bottom - top) / height))


def scale_y(axes: Axes, values: Floats) -> None:
    """A logarithmic y axis where values span more than a factor of ten, else a linear one."""
    if values.size and values.min() > 0 and wide(values):
        axes.set_yscale("log")
        set_ticks(axes.yaxis, decades(values.min(), values.max()))
    else:
        set_plain_ticks(axes.yaxis, 5)


def wide(positive: Floats) -> bool:
    return bool(positive.max() > 10 * positive.min())


def decades(low: float, high: float) -> list[float]:
    """At most six round numbers for a logarithmic axis."""
    width = math.log10(high / low)
    steps = (1, 2, 5) if width < 2 else (1, 3) if width < 3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places = (float(f"{step}e{power}") for power in powers for step in steps)
    return thin([place for place in places if low <= place <= high], 6)


def thin(values: list[float], most: int) -> list[float]:
    return values[:: math.ceil(len(values) / most)] if values else []


def set_ticks(axis: Axis, places: Sequence[float], named: Mapping[float, str] | None = None) -> None:
    names = {**{place: tidy(place) for place in places}, **(named or {})}
    axis.set_major_locator(FixedLocator(list(names)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: names.get(x, "")))
    axis.set_minor_locator(NullLocator())


def set_plain_ticks(axis: Axis, most: int) -> None:
    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(lambda x, _: tidy(0.0 if abs(x) < 1e-20 else x)))


def wrapped(text: str) -> str:
    """At most three lines, as wide as a panel."""
    return textwrap.fill(text, 44, max_lines=3, placeholder=" …", break_long_words=False)


def caption(axes: Axes, title: str, xlabel: str) -> None:
    """Title and label at fixed places (pixels, 100 per inch): finding free ones costs a third of the time."""
    axes.set_title(title, loc="left", color="#222222", y=1 + 8 / axes.bbox.height)
    axes.set_xlabel(xlabel, verticalalignment="top")
    axes.xaxis.set_label_coords(0.5, -24 / axes.bbox.height)
