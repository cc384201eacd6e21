"""The figures of a claim and of an arm: every seed and every evaluation, nothing smoothed or left out."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.records.arm_rows import ArmRows, Runs
from experiments.records.rows import Curve, Floats, Row, loss_curve
from experiments.reports.scales import (
    ALARM,
    BAND,
    FRAME,
    INK,
    SIZE,
    Dashes,
    Scale,
    Styles,
    arm_styles,
    decades,
    fitting,
    linear,
    logarithmic,
    named,
    wide,
)
from experiments.reports.settings import model_of, norm_of
from experiments.reports.svg import Drawing, Panel
from experiments.verdicts.claims import Claim
from experiments.verdicts.effects import Effect, effects
from experiments.verdicts.evidence import evaluations, metric_value
from experiments.verdicts.units import NONE, Unit, declared, heading, unit_of
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.wording import number, span, tidy

Style = tuple[str, Dashes]
Middle = Callable[[Sequence[float]], Any]
Points = Mapping[float, Sequence[float]]  # the results of every seed at each number


@dataclass(frozen=True)
class Picture:
    """One drawing, what it shows in a caption, its gist for those who do not see it, and whose runs it draws."""

    name: str
    drawing: Drawing
    caption: str
    gist: str
    arms: tuple[str, ...]  # as the claim or the experiment calls them
    role: str = "evaluate"


def claim_pictures(claim: Claim, verdict: Verdict, runs: Runs) -> list[Picture]:
    """The panels of a claim for which there are data yet."""
    rows = {label: group for label in claim.labels if (group := evaluations(claim, label, runs))}
    if not rows:
        return []
    arms = {label: runs[claim.resolve(label)] for label in claim.labels}
    styles = arm_styles(claim.labels, {label: norm_of(arm.every, label) for label, arm in arms.items()})
    if claim.kind == "bound":
        return [_bound(claim, rows, styles)]
    curves = {label: found for label, group in rows.items() if (found := _curves(group))}
    tuning = {label: arm for label, arm in arms.items() if claim.tuned and arm.tuning}
    title = heading("validation_loss", model_of(row for arm in arms.values() for row in arm.every))
    pictures = [learning_curves(title, curves, styles, claim.summary)] if curves else []
    pictures += [_differences(claim, verdict)] if verdict.differences else []
    over = effects(claim, runs)
    pictures += [_effect(claim, over)] if len(over) > 1 else []
    return pictures + ([tuning_picture(tuning, styles)] if tuning else [])


def learning_curves(
    title: str, curves: Mapping[str, Sequence[Curve]], styles: Styles, summary: str, **size: float
) -> Picture:
    """Every run and the middle of each arm, in a panel of the usual size or another."""
    updates, losses = _joined([seed for seeds in curves.values() for seed in seeds])
    last = float(np.nanmax(updates))
    shown = {label: styles[label] for label in curves}
    panel = Panel(title, linear(0, last * 1.02), fitting(losses), "updates", legend=shown, **size)
    ends = []
    for label, seeds in curves.items():
        colour, dashes = styles[label]
        middle = _middle(seeds, summary)
        panel.line(*_joined(seeds), colour, 0.6, kind="faint")
        panel.line(*middle, colour, 1.6, dashes)
        ends.append(f"{label} from {number(middle[1][0])} to {number(middle[1][-1])}" if middle[1] else label)
    gist = f"Learning curves, {summary} of the seeds: {'; '.join(ends)}"
    return Picture(
        "curves", panel.drawing(), f"Learning curves: every seed faint, the {summary} strong", gist, tuple(curves)
    )


def tuning_picture(tuning: Mapping[str, ArmRows], styles: Styles) -> Picture:
    """The final validation loss of the tuning runs at each rate tried."""
    shown = {label: styles[label] for label in tuning}
    x, y = _tuning_scales(tuning.values(), 6, 5)
    title = heading("validation_loss", model_of(row for arm in tuning.values() for row in arm.tuning))
    panel = Panel(f"tuning: {title}", x, y, "learning rate", legend=shown)
    for label, arm in tuning.items():
        _draw_tuning(panel, arm, styles[label])
    gaps = any(row["status"] == "diverged" for arm in tuning.values() for row in arm.tuning)
    text = "Learning rates tried, every tuning seed; a ring marks the chosen one"
    text += "; a gap where a run diverged" if gaps else ""
    chosen = ", ".join(f"{label} {tidy(arm.choice.learning_rate)}" for label, arm in tuning.items())
    gist = f"Tuning curves; chosen learning rates: {chosen}"
    return Picture("tuning", panel.drawing(), text, gist, tuple(tuning), "tune")


def small_tuning_picture(name: str, arm: ArmRows, style: Style) -> Picture:
    """The same of a single arm, to stand in a table."""
    panel = Panel("", *_tuning_scales([arm], 3, 3), plot=40, width=130)
    _draw_tuning(panel, arm, style)
    gist = f"Tuning curve of {name}; chosen learning rate: {tidy(arm.choice.learning_rate)}"
    return Picture("tuning", panel.drawing(), "", gist, (name,), "tune")


def _tuning_scales(tuning: Iterable[ArmRows], most_x: int, most_y: int) -> tuple[Scale, Scale]:
    tried = [arm.losses for arm in tuning]
    rates = sorted({rate for losses in tried for rate in losses})
    every = [loss for losses in tried for by_seed in losses.values() for loss in by_seed.values()]
    # Rates that are far too high must not press the differences that count into one line.
    return logarithmic(rates, most_x), fitting(every, most_y, factor=4)


def _draw_tuning(panel: Panel, arm: ArmRows, style: Style) -> None:
    """Every tuning run, their medians and a ring at the rate chosen."""
    points = {rate: list(by_seed.values()) for rate, by_seed in arm.losses.items()}
    best = arm.choice.learning_rate
    medians = draw_points(panel, points, style, 3, 1.1, middle=np.median)
    panel.marks("ring", [best], [medians[best]], style[0], 8)


def draw_points(
    panel: Panel, points: Points, style: Style, size: float, width: float, middle: Middle = np.mean
) -> dict[float, float]:
    """Every result and a line through their means, or medians, which are returned; a gap where one is not finite."""
    colour, dashes = style
    each = np.array([(at, value) for at, values in points.items() for value in values], dtype=float).reshape(-1, 2)
    middles = {at: float(middle(values)) for at, values in points.items()}
    panel.dots(each[:, 0], each[:, 1], colour, size, kind="pale")
    panel.line(list(middles), list(middles.values()), colour, width, dashes)
    return middles


def _differences(claim: Claim, verdict: Verdict) -> Picture:
    unit = unit_of_contrast(claim)
    margin, interval = unit.factor * claim.margin, [unit.factor * end for end in verdict.interval or ()]
    d, estimate = unit.factor * np.array(verdict.differences, dtype=float), unit.shown(verdict.estimate)
    places, finite, below = np.arange(d.size, dtype=float), np.isfinite(d), d.size + 0.3
    ends = [*d[finite], *interval, 0.0, -margin, margin]
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = 0.06 * ((high - low) or 1.0)
    summary = claim.summary if finite.all() else "median"
    x = linear(low - 2 * room, high + 2 * room)
    names = {0: f"seed {verdict.seeds[0]}", d.size - 1: f"{verdict.seeds[-1]}", below: summary}
    y = Scale(d.size + 1, -0.8, ticks=names)
    claimed = {"less": "claimed < 0", "greater": "claimed > 0", "": "claimed in the grey"}[claim.direction]
    panel = Panel(f"difference per seed, {claimed}", x, y, _axis(claim, unit))
    panel.band(-margin, margin, BAND)
    panel.upright(0, FRAME, 0.8)
    panel.dots(d[finite], places[finite], INK, 4)
    panel.marks("left", np.where(d == -np.inf, low - room, np.nan), places, ALARM, 5)
    panel.marks("right", np.where(d == np.inf, high + room, np.nan), places, ALARM, 5)
    panel.marks("ring", np.where(np.isnan(d), 0.0, np.nan), places, ALARM, 5)
    if interval:
        panel.line(interval, [below, below], SIZE, 1.8)
    if estimate is not None:
        shape = "diamond" if math.isfinite(estimate) else "left" if estimate < 0 else "right"
        panel.marks(shape, [min(max(estimate, low - room), high + room)], [below], SIZE, 7)
    spread = " and 95 % interval of the mean" if summary == "median" else " and 95 % interval"
    text = f"Differences per seed; green: {summary}{spread if interval else ''}"
    least = declared(claim.margin, claim.metric, claim.scale)
    text += f"; grey: smaller than the margin of {least}" if claim.margin else ""
    text += "" if finite.all() else "; red: a run diverged"
    gist = f"Differences of {d.size} seeds, {summary} {number(estimate)}{span(interval or None)}"
    return Picture("differences", panel.drawing(), text, gist, claim.labels)


def unit_of_contrast(claim: Claim) -> Unit:
    """Of the differences that a claim is about; those of logarithms have none."""
    return NONE if claim.scale == "log" else unit_of(claim.metric)


def _axis(claim: Claim, unit: Unit) -> str:
    what = f"update at {tidy(claim.target)} of {claim.metric}" if claim.target is not None else claim.metric
    return ", ".join(filter(None, (f"{claim.subject()}: {what.replace('_', ' ')}", unit.of_differences)))


SHARES = {1 / 16: "1/16", 1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1.0: "all"}


def _effect(claim: Claim, over: Sequence[Effect]) -> Picture:
    """How the contrast goes on as the nets train."""
    shares = [effect.share for effect in over]
    unit = unit_of_contrast(claim)
    margin, over = unit.factor * claim.margin, [_in(unit, effect) for effect in over]
    ends = [end for effect in over for end in (effect.low, effect.high)]
    low, high = min(*ends, 0.0, -margin), max(*ends, 0.0, margin)
    room = 0.06 * ((high - low) or 1.0)
    ticks = {share: name for share, name in SHARES.items() if share >= shares[0] * 0.99}
    x, y = Scale(shares[0] / 1.15, 1.1, True, ticks), linear(low - room, high + room)
    panel = Panel("difference as nets train", x, y, f"share of the updates ({_axis(claim, unit)})")
    panel.level_band(-margin, margin, BAND)
    panel.line([x.low, x.high], [0, 0], FRAME, 0.8)
    for effect in over:
        panel.line([effect.share, effect.share], [effect.low, effect.high], SIZE, 1.0)
    panel.line(shares, [effect.mean for effect in over], SIZE, 1.4)
    panel.marks("diamond", shares[-1:], [over[-1].mean], SIZE, 7)
    text = "The mean difference after each share of the updates, with 95 % intervals"
    text += "; of test metrics, on validation data" if claim.metric.startswith("test_") else ""
    text += "; of the mean, over the run so far" if claim.metric.startswith("mean_") else ""
    first, last = over[0], over[-1]
    spans = (f"{number(e.mean)}{span((e.low, e.high))} after {e.share:.0%}" for e in (first, last))
    return Picture(
        "effect", panel.drawing(), text, f"{claim.subject()}: {' and '.join(spans)} of the updates", claim.labels
    )


def _in(unit: Unit, effect: Effect) -> Effect:
    return Effect(effect.share, *(unit.factor * value for value in (effect.mean, effect.low, effect.high)))


def _bound(claim: Claim, rows: Mapping[str, list[Row]], styles: Styles) -> Picture:
    """Every run's value beside the bound: logarithmic, with a place for exact zeros, if the values allow."""
    values = {label: np.array([metric_value(row, claim) for row in group]) for label, group in rows.items()}
    every = np.concatenate([*values.values(), [claim.limit()]])
    finite = every[np.isfinite(every)]
    x, low, high = _bound_scale(finite)
    y = Scale(len(values) - 0.5, -0.5)
    title = f"every run; red: the bound {claim.bound_text()}"
    panel = Panel(title, x, y, claim.metric, plot=30.0 * len(values))
    for place, (label, seeds) in enumerate(values.items()):
        heights = place + 0.15 + np.linspace(-0.2, 0.2, seeds.size)
        shown, inside = np.clip(seeds, low, high), np.isfinite(seeds)  # zero and infinity: at the edges
        panel.dots(shown[inside], heights[inside], styles[label][0], 3.6)
        panel.marks("diamond", shown[~inside], heights[~inside], ALARM, 5)
        panel.upright(float(np.clip(claim.limit(), low, high)), ALARM, 1.4, (place - 0.15, place + 0.45))
        panel.text(44, float(panel.down([place - 0.33])[0]) + 2, label)
    diverged = "" if finite.size == every.size else "; diamonds: not finite"
    spread = (f"{label} from {number(seeds.min())} to {number(seeds.max())}" for label, seeds in values.items())
    gist = f"{claim.metric}: {'; '.join(spread)}"
    return Picture("bound", panel.drawing(), f"Every run beside the bound{diverged}", gist, tuple(rows))


def _bound_scale(finite: Floats) -> tuple[Scale, float, float]:
    """The axis of the values, and where too small and too large ones are drawn."""
    positive = finite[finite > 0]
    zeros = positive.size < finite.size
    if positive.size and finite.min() >= 0 and (zeros or wide(positive)):
        least, high = float(positive.min()), float(positive.max()) * 3
        floor = 10.0 ** (math.floor(math.log10(least)) - 1)
        places = [place for place in decades(min(least, high / 100), high) if place > least / 2]
        ticks = named(places) | ({floor: "exactly 0"} if zeros else {})
        return Scale(floor / 4 if zeros else least / 3, high, True, ticks), floor, high
    room = 0.06 * float(np.ptp(finite) or 1.0)
    low, high = float(finite.min()) - room, float(finite.max()) + room
    return linear(low, high), low, high


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
    middle: Any = np.median if summary == "median" else np.mean
    return whole, [float(middle(at[update])) for update in whole]
