"""The charts of the live page, in Bokeh: what they show is in their sources, which are replaced as runs go on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PlainText,
)
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from experiments.dashboards.live.curves import AXES, Band, band, curve
from experiments.dashboards.live.groups import Groups
from experiments.dashboards.live.runs import seed_of
from experiments.dashboards.live.series import Series, chosen
from experiments.dashboards.live.texts import LINES, short
from experiments.reports.scales import FRAME, INK, Styles, thin, wide
from experiments.verdicts.units import unit_of
from experiments.verdicts.wording import tidy

Data = dict[str, Sequence[Any]]
MOST = 100_000  # points of every seed together; a browser draws no more in the second between two looks
FEW = 30  # evaluations of a line that are marked with dots
FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


class Chart:
    """Sources by name. `figure` makes the figure anew, with its whole range in view."""

    names: tuple[str, ...]

    def __init__(self) -> None:
        self.sources = {name: ColumnDataSource() for name in self.names}

    def show(self, **data: Data) -> None:
        for name, columns in data.items():
            self.sources[name].data = columns


class CurvesChart(Chart):
    """Learning curves: bands, every seed and means; on dots that are mostly invisible one can point."""

    names = ("areas", "seeds", "means", "dots")

    def figure(self, title: str, axis: str, log: bool) -> figure:
        plot = plain(AXES[axis], title, "log" if log else "linear", height=430)
        source = self.sources
        plot.patches("xs", "ys", source=source["areas"], color="colour", alpha=0.16, line_alpha=1, line_width=0.6)
        seeds = plot.multi_line("xs", "ys", source=source["seeds"], color="colour", line_width=0.6)
        plot.multi_line("xs", "ys", source=source["means"], color="colour", line_dash="dash", line_width=2.2)
        dots = plot.scatter("x", "mean", source=source["dots"], size=6, color="colour", alpha="alpha", hover_alpha=1)
        dots.hover_glyph.line_color = "colour"  # type: ignore[union-attr]
        tooltips = [("", "@label"), (AXES[axis], "@x{0,0.[000]}"), ("mean", "@mean{0.0000}")]
        point(plot, dots, [*tooltips, ("range", "@low{0.0000} to @high{0.0000}"), ("runs", "@runs")])
        point(plot, seeds, [("", "@run"), (AXES[axis], "$snap_x{0,0.[000]}"), (title, "$snap_y{0.0000}")])
        if axis != "seconds":
            plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
        return plot

    def update(self, groups: Groups, styles: Styles, metric: str, axis: str, every: bool, log: bool) -> int:
        """Show these groups; of every seed each how manyth evaluation is drawn is returned."""
        factor = unit_of(metric).factor
        bands = {label: band(runs, metric, axis).times(factor) for label, runs in groups.items()}
        bands = {label: one for label, one in bands.items() if one.x.size}
        seeds, each = seed_lines(groups, styles, metric, axis, factor) if every else (EMPTY_SEEDS, 1)
        self.show(areas=areas(bands, styles, log), means=means(bands, styles), dots=dots(bands, styles), seeds=seeds)
        return each


EMPTY_SEEDS: Data = {"xs": [], "ys": [], "colour": [], "run": []}


def areas(bands: Mapping[str, Band], styles: Styles, log: bool) -> Data:
    """Polygons from least to greatest; none for a single run."""
    data: dict[str, list[Any]] = {"xs": [], "ys": [], "colour": []}
    for label, one in bands.items():
        inside = np.isfinite(one.low) & ((one.low > 0) | (not log))
        x, low, high = one.x[inside], one.low[inside], one.high[inside]
        if (high > low).any():
            data["xs"].append(np.concatenate([x, x[::-1]]))
            data["ys"].append(np.concatenate([low, high[::-1]]))
            data["colour"].append(styles[label][0])
    return {**data}


def means(bands: Mapping[str, Band], styles: Styles) -> Data:
    return {
        "xs": [one.x for one in bands.values()],
        "ys": [one.mean for one in bands.values()],
        "colour": [styles[label][0] for label in bands],
        "dash": [LINES[styles[label][1]] or "solid" for label in bands],
    }


def dots(bands: Mapping[str, Band], styles: Styles) -> Data:
    """The points of the means, one a row."""
    sizes = [one.x.size for one in bands.values()]
    columns = {
        name: np.concatenate([getattr(one, name) for one in bands.values()] or [[]])
        for name in ("x", "mean", "low", "high", "runs")
    }
    return {
        **columns,  # type: ignore[dict-item]
        "label": [label for label, size in zip(bands, sizes, strict=True) for _ in range(size)],
        "colour": [styles[label][0] for label, size in zip(bands, sizes, strict=True) for _ in range(size)],
        "alpha": [0.9 if size <= FEW else 0.0 for size in sizes for _ in range(size)],
    }


def seed_lines(groups: Groups, styles: Styles, metric: str, axis: str, factor: float) -> tuple[Data, int]:
    """A line for each run; of very many points each `n`th, and n."""
    drawn = [(label, run) for label, runs in groups.items() for run in runs if metric in run.curves]
    lines = [curve(run, metric, axis) for _, run in drawn]
    each = 1 + sum(x.size for x, _ in lines) // MOST
    data: Data = {
        "xs": [x[::each] for x, _ in lines],
        "ys": [factor * y[::each] for _, y in lines],
        "colour": [styles[label][0] for label, _ in drawn],
        "run": [f"{label}, seed {seed_of(run)}: {run.name}" for label, run in drawn],
    }
    return data, each


class ResultsChart(Chart):
    """End results against a number: every run, the middle of each group, perhaps a ring at the chosen rate."""

    names = ("lines", "rings", "dots")

    def __init__(self, ring: bool) -> None:
        super().__init__()
        self.ring, self.x, self.log = ring, [0.0], False

    def figure(self, place: str, title: str) -> figure:
        scale = {True: "log", False: "linear"}
        plot = plain(short(place), title, scale[self.log], scale[min(self.x) > 0], height=320)
        source = self.sources
        plot.multi_line("xs", "ys", source=source["lines"], color="colour", line_dash="dash", line_width=2)
        plot.scatter("x", "y", source=source["rings"], size=13, line_color="colour", fill_color=None, line_width=1.6)
        dots = plot.scatter("x", "y", source=source["dots"], size=6, color="colour")
        point(plot, dots, [("", "@label"), ("run", "@run"), (short(place), "@number"), (title, "@y{0.0000}")])
        plot.xaxis.ticker = FixedTicker(ticks=thin(self.x, 7), minor_ticks=self.x)
        plot.xaxis.major_label_overrides = {value: tidy(value) for value in self.x}
        return plot

    def update(self, drawn: Mapping[str, Series], styles: Styles, factor: float) -> bool:
        """Show these lines, in a unit; whether a figure made before still has the right scales."""
        before = self.x, self.log
        self.x = sorted({float(x) for line in drawn.values() for x in line.x}) or [0.0]
        values = np.concatenate([line.values[np.isfinite(line.values)] for line in drawn.values()] or [np.ones(1)])
        # What is far too high must not press the differences that count into one line.
        self.log = bool(values.min() > 0 and wide(values, 4))
        rings = {label: rate for label, line in drawn.items() if self.ring and (rate := chosen(line)) is not None}
        self.show(
            lines={
                "xs": [line.x for line in drawn.values()],
                "ys": [factor * line.middle for line in drawn.values()],
                "colour": [styles[label][0] for label in drawn],
                "dash": [LINES[styles[label][1]] or "solid" for label in drawn],
            },
            rings={
                "x": list(rings.values()),
                "y": [factor * drawn[label].middle[drawn[label].x == rate][0] for label, rate in rings.items()],
                "colour": [styles[label][0] for label in rings],
            },
            dots={
                "x": [x for line in drawn.values() for x in line.at],
                "y": [factor * y for line in drawn.values() for y in line.values],
                "number": [tidy(x) for line in drawn.values() for x in line.at],
                "run": [run.name for line in drawn.values() for run in line.runs],
                "label": [label for label, line in drawn.items() for _ in line.runs],
                "colour": [styles[label][0] for label, line in drawn.items() for _ in line.runs],
            },
        )
        return before == (self.x, self.log)


# ------------------------------------------------------------------------------------------------------ looks


def plain(place: str, value: str, y_axis: Any, x_axis: Any = "linear", height: int = 300) -> figure:
    """An empty figure in the looks of the page, transparent for its ground to show."""
    plot = figure(
        x_axis_type=x_axis,
        y_axis_type=y_axis,
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag="box_zoom",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        min_border_left=48,
        lod_threshold=None,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.grid.grid_line_color = "#dcdcdc"
    for axis in plot.axis:
        axis.update(axis_line_color=FRAME, major_tick_line_color=FRAME, minor_tick_line_color=None)
        axis.update(axis_label_text_font=FONT, axis_label_text_font_style="normal", axis_label_text_color=INK)
        axis.update(major_label_text_font=FONT, major_label_text_font_size="12px", major_label_text_color=INK)
        axis.update(axis_label_text_font_size="13px")
    plot.xaxis.axis_label = PlainText(text=place)  # else what stands between $$ were a formula
    plot.yaxis.formatter = BasicTickFormatter(use_scientific=True, power_limit_high=5, power_limit_low=-4)
    looks = {"text_font": FONT, "text_font_style": "normal", "text_font_size": "13px", "text_color": INK}
    plot.title.update(text=PlainText(text=value), **looks)  # type: ignore[union-attr]
    return plot


def point(plot: figure, on: "GlyphRenderer[Any]", tooltips: list[tuple[str, str]]) -> None:
    """What is said of what one points at."""
    plot.add_tools(HoverTool(renderers=[on], tooltips=tooltips, visible=False, line_policy="nearest"))
