"""One figure per claim: every seed and every evaluation, nothing smoothed or left out."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.claims import Claim
from experiments.evidence import (
    Curve,
    Floats,
    Row,
    Runs,
    best_learning_rate,
    evaluations,
    loss_curve,
    metric_value,
    tuning_losses,
)
from experiments.plotting import (
    ALARM,
    HEIGHT,
    SIZE,
    STYLE,
    WIDTH,
    Styles,
    arm_styles,
    caption,
    decades,
    legend_handles,
    scale_y,
    set_plain_ticks,
    set_ticks,
    side_by_side,
    thin,
    wide,
    wrapped,
)
from experiments.verdicts import Verdict


def draw(claim: Claim, verdict: Verdict, runs: Runs) -> bytes | None:
    """The figure of a claim as SVG; None where there is nothing to show yet."""
    rows = {label: evaluations(claim, label, runs) for label in claim.labels}
    if not any(rows.values()):
        return None
    with matplotlib.rc_context(STYLE):
        exact = claim.kind == "bound"
        figure = _bound_figure(claim, rows) if exact else _contrast_figure(claim, verdict, rows, runs)
        if not figure.axes:
            return None
        output = io.BytesIO()
        figure.savefig(output, format="svg", metadata={"Date": None})
    return output.getvalue()


def _contrast_figure(claim: Claim, verdict: Verdict, rows: Mapping[str, list[Row]], runs: Runs) -> Figure:
    """Curves, tuning and paired differences: those of the three panels for which there are data."""
    curves = {label: _curves(group) for label, group in rows.items()}
    tuning = {label: runs.get((*claim.resolve(label), "tune"), []) for label in claim.labels if claim.tuned}
    panels = [any(curves.values()), any(tuning.values()), bool(verdict.differences)]
    styles = arm_styles(claim.labels)
    handles = legend_handles(styles) if panels[0] or panels[1] else []
    columns = max(1, min(len(handles), 120 // (max(map(len, claim.labels)) + 8)))
    subject = wrapped(f"{claim.subject()}  ({claim.metric})")
    below = 0.14 * subject.count("\n") + 0.2 * math.ceil(len(handles) / columns)  # inches
    figure = Figure(figsize=(WIDTH if sum(panels) > 1 else 0.55 * WIDTH, HEIGHT + below))
    axes = side_by_side(figure, sum(panels), below)
    if panels[0]:
        _draw_curves(next(axes), curves, styles, claim.summary)
    if panels[1]:
        _draw_tuning(next(axes), tuning, styles)
    if panels[2]:
        _draw_differences(next(axes), claim, verdict, subject)
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, borderpad=0.2)
    return figure


def _draw_curves(axes: Axes, curves: Mapping[str, list[Curve]], styles: Styles, summary: str) -> None:
    for label, seeds in curves.items():
        if seeds:
            colour, dashes = styles[label]
            axes.plot(*_joined(seeds), color=colour, alpha=0.25, linewidth=0.6)
            axes.plot(*_middle(seeds, summary), color=colour, linestyle=dashes, linewidth=1.6)
    updates, losses = _joined([seed for seeds in curves.values() for seed in seeds])
    scale_y(axes, losses[np.isfinite(losses)])
    axes.set_xlim(0, np.nanmax(updates) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    caption(axes, f"validation loss, every seed and {summary}", "updates")


def _draw_tuning(axes: Axes, tuning: Mapping[str, list[Row]], styles: Styles) -> None:
    tried = {label: tuning_losses(rows) for label, rows in tuning.items() if rows}
    for label, losses in tried.items():
        colour, dashes = styles[label]
        means = {rate: _or_gap(float(np.mean(list(by_seed.values())))) for rate, by_seed in losses.items()}
        points = [(rate, _or_gap(loss)) for rate, by_seed in losses.items() for loss in by_seed.values()]
        best, _ = best_learning_rate(tuning[label])
        axes.plot(*zip(*points, strict=True), ".", color=colour, markersize=3.5, alpha=0.6)
        axes.plot(list(means), list(means.values()), color=colour, linestyle=dashes, linewidth=1.1)
        axes.plot([best], [means[best]], "o", color=colour, markersize=7, markerfacecolor="none")
    rates = sorted({rate for losses in tried.values() for rate in losses})
    axes.set_xscale("log")
    axes.set_xlim(rates[0] / 1.5, rates[-1] * 1.5)
    set_ticks(axes.xaxis, thin(rates, 6))
    every = [loss for losses in tried.values() for by_seed in losses.values() for loss in by_seed.values()]
    scale_y(axes, np.array([loss for loss in every if math.isfinite(loss)]))
    caption(axes, "tuning: validation loss, ○ chosen", "learning rate")


def _draw_differences(axes: Axes, claim: Claim, verdict: Verdict, subject: str) -> None:
    d = np.array(verdict.differences, dtype=float)
    places, finite, below = np.arange(d.size), np.isfinite(d), d.size + 0.3
    ends = [*d[finite], *(verdict.interval or ()), 0.0, -claim.margin, claim.margin]
    low, high = min(ends), max(ends)
    room = 0.06 * ((high - low) or 1.0)
    axes.axvspan(-claim.margin, claim.margin, color="#e9e9e9", linewidth=0)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.plot(d[finite], places[finite], "o", color="#222222", markersize=3.5)
    axes.plot(np.where(d == -np.inf, low - room, np.nan), places, "<", color=ALARM, markersize=4.5)
    axes.plot(np.where(d == np.inf, high + room, np.nan), places, ">", color=ALARM, markersize=4.5)
    axes.plot(np.where(np.isnan(d), 0.0, np.nan), places, "x", color=ALARM, markersize=4)
    if verdict.interval is not None:
        axes.plot(verdict.interval, [below, below], color=SIZE, linewidth=1.8)
    if verdict.estimate is not None and math.isfinite(verdict.estimate):
        axes.plot([verdict.estimate], [below], "D", color=SIZE, markersize=5)
    summary = claim.summary if finite.all() else "median"
    first, last = f"seed {verdict.seeds[0]}", str(verdict.seeds[-1])
    axes.set_yticks([0, d.size - 1, below], [first, last, summary])
    axes.set_ylim(d.size + 1, -0.8)
    axes.set_xlim(low - 2 * room, high + 2 * room)
    set_plain_ticks(axes.xaxis, 4)
    claimed = {"less": "claimed < 0", "greater": "claimed > 0", "": "claimed in the grey"}[claim.direction]
    caption(axes, f"difference per seed, {claimed}" if finite.all() else f"{claimed}; red: diverged", subject)


def _bound_figure(claim: Claim, rows: Mapping[str, list[Row]]) -> Figure:
    """Every run's value beside the bound: logarithmic, with a place for exact zeros, if the values allow."""
    values = {label: np.array([metric_value(row, claim) for row in group]) for label, group in rows.items()}
    every = np.concatenate([*values.values(), [claim.limit()]])
    finite = every[np.isfinite(every)]
    names = max(map(len, claim.labels)) * 0.068 + 0.2  # inches
    width, height = 0.55 * WIDTH + names, 0.95 + 0.24 * len(values)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((names / width, 0.5 / height, 1 - (names + 0.3) / width, 1 - 0.8 / height))
    low, high = _bound_axis(axes, finite)
    styles = arm_styles(claim.labels)
    for place, (label, seeds) in enumerate(values.items()):
        heights = place + np.linspace(-0.22, 0.22, seeds.size)
        shown, inside = np.clip(seeds, low, high), np.isfinite(seeds)  # zero and infinity: at the edges
        axes.plot(shown[inside], heights[inside], "o", color=styles[label][0], markersize=3.2, alpha=0.8)
        axes.plot(shown[~inside], heights[~inside], "D", color=ALARM, markersize=4, clip_on=False)
    axes.axvline(claim.limit(), color=ALARM, linewidth=1.2)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_yticks(range(len(values)), list(values))
    diverged = "" if finite.size == every.size else "; ◆ not finite"
    caption(axes, f"every run; red: the bound {claim.bound_text()}{diverged}", claim.metric)
    return figure


def _bound_axis(axes: Axes, finite: Floats) -> tuple[float, float]:
    """Scale the axis of the values; returns where too small and too large ones are drawn."""
    positive = finite[finite > 0]
    zeros = positive.size < finite.size
    if positive.size and finite.min() >= 0 and (zeros or wide(positive)):
        least, high = float(positive.min()), float(positive.max()) * 3
        floor = 10.0 ** (math.floor(math.log10(least)) - 1)
        axes.set_xscale("log")
        axes.set_xlim(floor / 2 if zeros else least / 3, high)
        set_ticks(axes.xaxis, decades(least, high), {floor: "exactly 0"} if zeros else {})
        return floor, high
    room = 0.06 * float(np.ptp(finite) or 1.0)
    low, high = float(finite.min()) - room, float(finite.max()) + room
    axes.set_xlim(low, high)
    set_plain_ticks(axes.xaxis, 5)
    return low, high


def _curves(rows: Iterable[Row]) -> list[Curve]:
    return [curve for row in rows if (curve := loss_curve(row))[0].size]


def _joined(curves: Sequence[Curve]) -> Curve:
    """Many curves as one with gaps, which is one line to draw."""
    gap = np.array([np.nan])
    updates, losses = (np.concatenate([part for curve in curves for part in (curve[i], gap)]) for i in (0, 1))
    return updates, losses


def _middle(curves: Sequence[Curve], summary: str) -> tuple[list[float], list[float]]:
    """Mean or median over the seeds at each update; it ends where the first seed diverges."""
    at: dict[float, list[float]] = {}
    for updates, losses in curves:
        for update, loss in zip(updates.tolist(), losses.tolist(), strict=True):
            at.setdefault(update, []).append(loss)
    whole = sorted(update for update, losses in at.items() if len(losses) == len(curves))
    middle = np.median if summary == "median" else np.mean
    return whole, [float(middle(at[update])) for update in whole]


def _or_gap(value: float) -> float:
    return value if math.isfinite(value) else math.nan
