"""The report: verdicts and the runs behind them as claims.json, report.md and one figure per claim.

A pure function of the recorded runs: the same rows give the same bytes, a changed report is a changed result.
Figures show every seed and every evaluation, nothing is smoothed or left out.
"""

import io
import json
import math
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from experiments.claims import (
    CONTRADICTED,
    EQUIVALENT,
    INCOMPLETE,
    INCONCLUSIVE,
    SUPPORTED,
    VERDICTS,
    Claim,
    Registry,
    Row,
    Runs,
    Verdict,
    best_learning_rate,
    group_runs,
    metric_value,
    number,
    span,
    tidy,
    tuning_losses,
)

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]  # updates and validation losses of one run
Styles = Mapping[str, tuple[str, Any]]  # colour and dashes by arm

SYMBOLS = {SUPPORTED: "✔", CONTRADICTED: "✘", EQUIVALENT: "≈", INCONCLUSIVE: "?", INCOMPLETE: "…"}
_TERMINAL = {
    SUPPORTED: "green",
    CONTRADICTED: "red",
    EQUIVALENT: "cyan",
    INCONCLUSIVE: "yellow",
    INCOMPLETE: "dim",
}
_BEGIN, _END = "<!-- verdicts:begin -->", "<!-- verdicts:end -->"


def write_report(
    registry: Registry, rows: Iterable[Row], verdicts: Sequence[Verdict], folder: str | Path, command: str
) -> None:
    """Write figures, report.md and claims.json to `folder`, each by rename; figures of other claims go."""
    folder = Path(folder)
    runs = group_runs(rows)
    claims = {claim.id: claim for claim in registry.family}
    figures = {}
    for verdict in verdicts:
        drawing = draw(claims[verdict.id], verdict, runs)
        if drawing is not None:
            figures[f"{verdict.id}.svg"] = drawing
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, drawing in figures.items():
        _write(folder / "figures" / name, drawing)
    for stale in (folder / "figures").glob("*.svg"):
        if stale.name not in figures:
            stale.unlink()
    _write(folder / "report.md", report_text(registry, runs, verdicts, command, figures).encode())
    _write(folder / "claims.json", claims_json(verdicts).encode())


def claims_json(verdicts: Iterable[Verdict]) -> str:
    """The verdicts for programs: one object per claim, keys sorted, null for what does not exist."""
    plain = [verdict.as_dict() for verdict in verdicts]
    return json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def verdict_table(verdicts: Iterable[Verdict]) -> Table:
    """The verdicts for a terminal; without one, rich prints the same as plain text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("claim", "source", "verdict", "estimate [95 %]"):
        table.add_column(header, overflow="fold")
    table.add_column("p (Holm)", justify="right")
    for verdict in verdicts:
        outcome = Text(f"{SYMBOLS[verdict.verdict]} {verdict.verdict}", style=_TERMINAL[verdict.verdict])
        table.add_row(verdict.id, verdict.source, outcome, Text(_estimate(verdict)), number(verdict.p_holm, 2))
    return table


def markdown_table(verdicts: Iterable[Verdict], report: str = "") -> str:
    """The verdicts for report.md, and for other pages given the path of the report their links lead to."""
    lines = [
        "| claim | source | statement | verdict | estimate [95 %] | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        anchor = v.id.lower().replace(".", "")  # GitHub's own anchor of the heading
        outcome = f"{SYMBOLS[v.verdict]} {v.verdict}"
        cells = (
            f"[{v.id}]({report}#{anchor})",
            v.source,
            v.statement,
            outcome,
            _estimate(v),
            number(v.p_holm, 2),
        )
        lines.append(_table_row(cells))
    return "\n".join(lines)


def update_readme(readme: str | Path, verdicts: Iterable[Verdict], report: str = "results/reference/report.md") -> None:
    """Replace what stands between the verdicts markers of a page. Raises ValueError if it has none."""
    readme = Path(readme)
    before, begin, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme}: the markers {_BEGIN} and {_END} are missing")
    _write(readme, f"{before}{begin}\n{markdown_table(verdicts, report)}\n{end}{after}".encode())


# ------------------------------------------------------------------------------------------------------ text


def report_text(
    registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str, figures: Iterable[str] = ()
) -> str:
    """report.md: overview, then a section for each claim. `figures` are the names of those that exist."""
    claims, drawn = {claim.id: claim for claim in registry.family}, set(figures)
    sections = [_section(claims[verdict.id], verdict, runs, f"{verdict.id}.svg" in drawn) for verdict in verdicts]
    head = ["# Layer Normalization: what the evidence says", _introduction(registry, runs, verdicts, command)]
    table = markdown_table(verdicts)
    return "\n\n".join([*head, "## Verdicts", table, _how_to_read(registry), *sections]) + "\n"


def _introduction(registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str) -> str:
    every = [row for group in runs.values() for row in group]
    scales = ", ".join(sorted({str(row["scale"]) for row in every})) or "none"
    counts = ", ".join(
        f"{count} {verdict}" for verdict in VERDICTS if (count := sum(v.verdict == verdict for v in verdicts))
    )
    evaluated = sum(row["role"] == "evaluate" for row in every)
    lines = [
        'The claims of "Layer Normalization" (Ba, Kiros and Hinton, 2016, arXiv:1607.06450) that this suite '
        "tests, each with its verdict and the runs behind it. A claim, its test and the smallest effect that "
        "counts were declared before the runs.",
        f"Scale **{scales}** · {registry.seeds} seeds per arm · {evaluated} evaluation and "
        f"{len(every) - evaluated} tuning runs · {counts or 'no claims'} · made by `{command}`",
    ]
    if any(row["synthetic"] for row in every):
        lines.append("**Synthetic data**: some runs used generated data; they say nothing about real data.")
    return "\n\n".join(lines)


def _how_to_read(registry: Registry) -> str:
    return f"""## How to read the verdicts

- ✔ **supported**: the effect is significant in the claimed direction and reaches the margin; an exact claim
  holds in every run.
- ✘ **contradicted**: the same in the opposite direction; an exact claim fails in some run.
- ≈ **equivalent**: the effect is shown to be smaller than the margin, in either direction.
- ? **inconclusive**: none of these, or a best learning rate lies on the edge of its grid and a better one may
  lie beyond (unless the arm is undefined at every rate: then there is none to find).
- … **incomplete**: runs are missing; fewer seeds are never averaged.

Arms are compared seed by seed: same initial weights, same order of the data, each at its own learning rate,
tuned by validation loss on seeds that are not reported. p is that of an exact one-sided sign-flip test,
corrected by Holm over all claims (alpha = {tidy(registry.alpha)}); the interval is a paired 95 % Student t.
Where runs diverged only signs count. *Undefined* is batch norm trained on one value per channel: its output
is its shift, and its weights get no gradient."""


def _section(claim: Claim, verdict: Verdict, runs: Runs, drawn: bool) -> str:
    rates = "tuned per arm by validation loss" if claim.tuned else "as configured, not tuned"
    commands = [f"make reproduce CLAIM={claim.id}"]
    commands += [f"python -m experiments.run -m experiment={name}" for name in _experiments(claim)]
    experiments = ", ".join(f"`{name}`" for name in _experiments(claim))
    change = f"\n- What would change the verdict: {claim.would_change}" if claim.would_change else ""
    parts = [
        f"## {claim.id}",
        f"**{claim.statement}** ({claim.source})",
        f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**: {verdict.reason}",
        f"![{claim.id}](figures/{claim.id}.svg)" if drawn else "",
        f"Set-up: experiment {experiments}, metric `{claim.metric}`, "
        f"{_test(claim)}; {len(verdict.seeds)} seeds{_seed_range(verdict.seeds)}; learning rates {rates}.",
        _arm_table(claim, verdict, runs),
        f"- Expected: {claim.expected}\n- Deviations from the paper: {claim.deviations}{change}",
        "```sh\n" + "\n".join(commands) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def _experiments(claim: Claim) -> list[str]:
    return list(dict.fromkeys(experiment for experiment, _ in claim.arms()))


def _test(claim: Claim) -> str:
    if claim.kind == "bound":
        return f"every run {claim.bound_text()}"
    if claim.kind == "equivalence":
        return f"`{claim.subject()}` claimed within ±{tidy(claim.margin)}"
    sign = "<" if claim.direction == "less" else ">"
    return f"`{claim.subject()}` claimed {sign} 0, margin {tidy(claim.margin)}"


def _seed_range(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f" ({seeds[0]} to {seeds[-1]})"
    return f" ({', '.join(map(str, seeds))})" if seeds else ""


def _arm_table(claim: Claim, verdict: Verdict, runs: Runs) -> str:
    columns: dict[str, list[str]] = {"arm": [f"`{label}`" for label in claim.labels]}
    stats = [verdict.arms[label] for label in claim.labels]
    columns["mean ± sd"] = [_mean_sd(arm) for arm in stats]
    columns["median"] = [number(arm["median"], 4) for arm in stats]
    columns["learning rate"] = [tidy(arm["learning_rate"]) for arm in stats]
    columns["diverged"] = [str(arm["diverged"]) for arm in stats]
    columns["undefined"] = [str(arm["undefined"]) for arm in stats]
    columns |= _updates_to_control(claim, runs)
    columns["ms per update"] = [number(_milliseconds(_evaluations(claim, label, runs))) for label in claim.labels]
    used = {name: cells for name, cells in columns.items() if any(cell not in ("-", "0") for cell in cells)}
    lines = [_table_row(used), "|---" * len(used) + "|", *map(_table_row, zip(*used.values(), strict=True))]
    return "\n".join(lines)


def _updates_to_control(claim: Claim, runs: Runs) -> dict[str, list[str]]:
    """When each arm's validation loss is down to the control's final one: the median update, paired by seed.

    The control is the arm that is subtracted; the factor is the share of its updates. Seeds on which it
    diverged have nothing to reach; an arm that never gets there counts as infinity.
    """
    if sorted(claim.weights) != [-1, 1]:
        return {}
    control = claim.labels[claim.weights.index(-1)]
    targets = {row["seed"]: _curve(row) for row in _evaluations(claim, control, runs)}
    targets = {seed: curve for seed, curve in targets.items() if curve[0].size and np.isfinite(curve[1][-1])}
    cells = []
    for label in claim.labels:
        pairs = [(row, targets[row["seed"]]) for row in _evaluations(claim, label, runs) if row["seed"] in targets]
        reached = [_first_at_most(*_curve(row), losses[-1]) for row, (_, losses) in pairs]
        middle = float(np.median(reached)) if pairs else math.nan
        share = middle / float(np.median([updates[-1] for _, (updates, _) in pairs])) if pairs else math.nan
        cells.append(f"{tidy(middle)} ({share:.2f}×)" if math.isfinite(middle) else "never" if pairs else "-")
    return {f"updates to {control}'s final validation loss": cells}


def _first_at_most(updates: Floats, losses: Floats, target: float) -> float:
    reached = updates[losses <= target]
    return float(reached[0]) if reached.size else math.inf


def _mean_sd(arm: Mapping[str, Any]) -> str:
    return "-" if arm["mean"] is None else f"{number(arm['mean'], 4)} ± {number(arm['sd'], 2)}"


def _milliseconds(rows: Sequence[Row]) -> float | None:
    seconds = [row["timing"]["seconds_per_update"] for row in rows if row["timing"].get("seconds_per_update")]
    return 1000 * float(np.median(seconds)) if seconds else None


def _estimate(verdict: Verdict) -> str:
    """Effect and interval; a factor where logarithms were compared, the worst value for a bound."""
    if verdict.kind == "bound":
        return f"worst {number(verdict.estimate)}" if verdict.estimate is not None else "-"
    if verdict.ratio is not None:
        ends = tuple(math.exp(min(end, 700.0)) for end in verdict.interval) if verdict.interval else None
        return f"× {number(verdict.ratio)}{span(ends)}"
    return f"{number(verdict.estimate)}{span(verdict.interval)}"


def _table_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _write(path: Path, content: bytes) -> None:
    """Write by rename: readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


# --------------------------------------------------------------------------------------------------- figures

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
_STYLE: Any = {
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


def draw(claim: Claim, verdict: Verdict, runs: Runs) -> bytes | None:
    """The figure of a claim as SVG; None where there is nothing to show yet."""
    rows = {label: _evaluations(claim, label, runs) for label in claim.labels}
    if not any(rows.values()):
        return None
    with matplotlib.rc_context(_STYLE):
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
    handles = _handles(styles) if panels[0] or panels[1] else []
    columns = max(1, min(len(handles), 120 // (max(map(len, claim.labels)) + 8)))
    subject = _wrapped(f"{claim.subject()}  ({claim.metric})")
    below = 0.14 * subject.count("\n") + 0.2 * math.ceil(len(handles) / columns)  # inches
    figure = Figure(figsize=(WIDTH if sum(panels) > 1 else 0.55 * WIDTH, HEIGHT + below))
    axes = _axes(figure, sum(panels), below)
    if panels[0]:
        _draw_curves(next(axes), curves, styles, claim.summary)
    if panels[1]:
        _draw_tuning(next(axes), tuning, styles)
    if panels[2]:
        _draw_differences(next(axes), claim, verdict, subject)
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, borderpad=0.2)
    return figure


def _axes(figure: Figure, count: int, below: float) -> Iterator[Axes]:
    """Panels side by side, placed by hand: matplotlib's own layouts cost more than the drawing."""
    width, height = figure.get_size_inches()
    left, gap, right, bottom, top = 0.55, 0.6, 0.15, 0.5 + below, 0.3  # inches
    panel = (width - left - right - gap * (count - 1)) / max(1, count)
    for place in range(count):
        x = left + place * (panel + gap)
        yield figure.add_axes((x / width, bottom / height, panel / width, (height - bottom - top) / height))


def _draw_curves(axes: Axes, curves: Mapping[str, list[Curve]], styles: Styles, summary: str) -> None:
    for label, seeds in curves.items():
        if seeds:
            colour, dashes = styles[label]
            axes.plot(*_joined(seeds), color=colour, alpha=0.25, linewidth=0.6)
            axes.plot(*_middle(seeds, summary), color=colour, linestyle=dashes, linewidth=1.6)
    updates, losses = _joined([seed for seeds in curves.values() for seed in seeds])
    _scale(axes, losses[np.isfinite(losses)])
    axes.set_xlim(0, np.nanmax(updates) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _label(axes, f"validation loss, every seed and {summary}", "updates")


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
    _ticks(axes.xaxis, _thin(rates, 6))
    every = [loss for losses in tried.values() for by_seed in losses.values() for loss in by_seed.values()]
    _scale(axes, np.array([loss for loss in every if math.isfinite(loss)]))
    _label(axes, "tuning: validation loss, ○ chosen", "learning rate")


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
    _plain_ticks(axes.xaxis, 4)
    claimed = {"less": "claimed < 0", "greater": "claimed > 0", "": "claimed in the grey"}[claim.direction]
    _label(axes, f"difference per seed, {claimed}" if finite.all() else f"{claimed}; red: diverged", subject)


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
    _label(axes, f"every run; red: the bound {claim.bound_text()}{diverged}", claim.metric)
    return figure


def _bound_axis(axes: Axes, finite: Floats) -> tuple[float, float]:
    """Scale the axis of the values; returns where too small and too large ones are drawn."""
    positive = finite[finite > 0]
    zeros = positive.size < finite.size
    if positive.size and finite.min() >= 0 and (zeros or _wide(positive)):
        least, high = float(positive.min()), float(positive.max()) * 3
        floor = 10.0 ** (math.floor(math.log10(least)) - 1)
        axes.set_xscale("log")
        axes.set_xlim(floor / 2 if zeros else least / 3, high)
        _ticks(axes.xaxis, _decades(least, high), {floor: "exactly 0"} if zeros else {})
        return floor, high
    room = 0.06 * float(np.ptp(finite) or 1.0)
    low, high = float(finite.min()) - room, float(finite.max()) + room
    axes.set_xlim(low, high)
    _plain_ticks(axes.xaxis, 5)
    return low, high


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


def _handles(styles: Styles) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.8, label=label)
        for label, (colour, dashes) in styles.items()
    ]


def _evaluations(claim: Claim, label: str, runs: Runs) -> list[Row]:
    return runs.get((*claim.resolve(label), "evaluate"), [])


def _curves(rows: Iterable[Row]) -> list[Curve]:
    return [curve for row in rows if (curve := _curve(row))[0].size]


def _curve(row: Row) -> Curve:
    """Updates and validation losses of a run, NaN where the loss was not finite."""
    points = [(point["update"], point["validation_loss"]) for point in row["history"] if "validation_loss" in point]
    table = np.array(points, dtype=float).reshape(-1, 2)  # None becomes NaN
    return table[:, 0], np.where(np.isfinite(table[:, 1]), table[:, 1], np.nan)


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


def _scale(axes: Axes, values: Floats) -> None:
    """A logarithmic y axis where values span more than a factor of ten, else a linear one."""
    if values.size and values.min() > 0 and _wide(values):
        axes.set_yscale("log")
        _ticks(axes.yaxis, _decades(values.min(), values.max()))
    else:
        _plain_ticks(axes.yaxis, 5)


def _wide(positive: Floats) -> bool:
    return bool(positive.max() > 10 * positive.min())


def _decades(low: float, high: float) -> list[float]:
    """At most six round numbers for a logarithmic axis."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places = (float(f"{step}e{power}") for power in powers for step in steps)
    return _thin([place for place in places if low <= place <= high], 6)


def _thin(values: list[float], most: int) -> list[float]:
    return values[:: math.ceil(len(values) / most)] if values else []


def _ticks(axis: Axis, places: Sequence[float], named: Mapping[float, str] | None = None) -> None:
    names = {**{place: tidy(place) for place in places}, **(named or {})}
    axis.set_major_locator(FixedLocator(list(names)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: names.get(x, "")))
    axis.set_minor_locator(NullLocator())


def _plain_ticks(axis: Axis, most: int) -> None:
    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(lambda x, _: tidy(0.0 if abs(x) < 1e-20 else x)))


def _wrapped(text: str) -> str:
    """At most three lines, as wide as a panel."""
    return textwrap.fill(text, 44, max_lines=3, placeholder=" …", break_long_words=False)


def _label(axes: Axes, title: str, xlabel: str) -> None:
    """Title and label at fixed places (pixels, 100 per inch): finding free ones costs a third of the time."""
    axes.set_title(title, loc="left", color="#222222", y=1 + 8 / axes.bbox.height)
    axes.set_xlabel(xlabel, verticalalignment="top")
    axes.xaxis.set_label_coords(0.5, -24 / axes.bbox.height)
