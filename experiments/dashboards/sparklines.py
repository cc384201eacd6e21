"""What came of the arms of a sweep, for a terminal: a line an arm with its learning curve drawn in characters."""

import math
import statistics
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.dashboards.terminal import Terminal
from experiments.reports.settings import apart_by, shared_by
from experiments.verdicts.wording import number, principal, tidy

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*%#"  # low to high; the second where the terminal's encoding is not of Unicode
WIDEST, NARROW = 24, 10  # characters of a curve on a terminal of ROOMY columns, and of fewer
ROOMY, TIGHT = 100, 80  # with fewer than these, what a table shows of each arm becomes less
HEADING = 12  # characters of a heading, of several lines if need be
MOST = 40  # arms that are shown without being asked for
DECADE = 10.0  # losses that span more are drawn by their logarithms
ELSEWHERE = 160  # columns where there is no terminal


class ArmOutcome(Protocol):
    """The runs of an arm that are done, as records or as rows of the table, of so many that were asked for."""

    @property
    def experiment(self) -> str: ...
    @property
    def arm(self) -> str: ...
    @property
    def asked(self) -> int: ...
    @property
    def runs(self) -> Sequence[Mapping[str, Any]]: ...


def tell_arms(arms: Sequence[ArmOutcome], most: int = MOST) -> None:
    """Print the tables on stderr; of more arms than `most` only how to see them."""
    if len(arms) > most:
        print(f"{len(arms)} arms: layernorm status --experiment <name> shows their curves", file=sys.stderr)
        return
    console = Terminal(stderr=True, width=None if sys.stderr.isatty() else ELSEWHERE)
    for table in arm_tables(arms, console):
        console.print(table)


def arm_tables(arms: Sequence[ArmOutcome], console: Console) -> Iterator[Table]:
    """A table for each experiment, fit for a console; its curves share one scale, so that they can be compared."""
    for experiment in dict.fromkeys(arm.experiment for arm in arms):
        yield arm_table([arm for arm in arms if arm.experiment == experiment], console)


def arm_table(arms: Sequence[ArmOutcome], console: Console) -> Table:
    plain, widest = console.options.ascii_only, WIDEST if console.width >= ROOMY else NARROW
    curves = [mean_curve(arm.runs) for arm in arms]
    scale = LossScale.around([loss for curve in curves for loss in curve])
    metrics = shown_metrics(arms)[0 if console.width >= TIGHT else -1 :]
    statuses = {run["status"] for arm in arms for run in arm.runs}
    ends, names = sorted(statuses & {"diverged", "undefined"}), [arm.arm for arm in arms]
    apart, shared = apart_by(names), shared_by(names)
    table = Table(arms[0].experiment, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    about = [f"all with {' '.join(shared)}"] * bool(shared) + [scale.caption()] * any(curves)
    table.caption, table.caption_justify = "; ".join(about), "left"
    if any(curves):
        table.add_column(textwrap.fill("validation loss", HEADING))
    for name in ("runs", "learning rate", *metrics, *ends):
        table.add_column(textwrap.fill(name.replace("_", " "), HEADING), justify="right")
    for arm, curve in zip(arms, curves, strict=True):
        lines = [sparkline(curve, scale, PLAIN if plain else BLOCKS, widest)] if any(curves) else []
        numbers = [mean_sd(arm.runs, metric, plain) for metric in metrics]
        counts = [sum(run["status"] == end for run in arm.runs) for end in ends]
        cells = [apart[arm.arm], *lines, f"{len(arm.runs)}/{arm.asked}", rate_of(arm), *numbers]
        table.add_row(*cells, *(str(count or "") for count in counts))
    first, *others = table.columns
    first.overflow = "fold"  # where there is no room for all
    for column in others:
        column.no_wrap = True
    return table


def rate_of(arm: ArmOutcome) -> str:
    return tidy(arm.runs[0]["config"]["optim"]["learning_rate"]) if arm.runs else "-"


def shown_metrics(arms: Sequence[ArmOutcome]) -> list[str]:
    """Final validation and test metric of training runs, the first two of whatever else was measured."""
    measured = list(dict.fromkeys(name for arm in arms for run in arm.runs for name in run["final"]))
    if metric := principal("validation", measured):
        return [name for name in (f"validation_{metric}", f"test_{metric}") if name in measured]
    return measured[:2]


def mean_curve(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """The mean validation loss of the runs at each evaluation, up to where the first of them diverged."""
    losses = zip(*([point.get("validation_loss") for point in run["history"]] for run in runs), strict=False)
    return [statistics.fmean(at) for at in takewhile(lambda at: None not in at, losses)]


def mean_sd(runs: Sequence[Mapping[str, Any]], metric: str, plain: bool) -> str:
    """Over the runs where the metric is finite."""
    values = [value for run in runs if (value := run["final"].get(metric)) is not None]
    if len(values) < 2:
        return number(next(iter(values), None))
    return f"{number(statistics.fmean(values))} {'+-' if plain else '±'} {number(statistics.stdev(values), 2)}"


@dataclass(frozen=True)
class LossScale:
    """From the lowest to the highest loss shown."""

    low: float
    high: float

    @classmethod
    def around(cls, losses: Sequence[float]) -> "LossScale":
        return cls(min(losses, default=math.nan), max(losses, default=math.nan))

    @property
    def log(self) -> bool:
        return 0 < DECADE * self.low < self.high

    def __call__(self, loss: float) -> float:
        """Where a loss lies, from 0 to 1."""
        if self.high == self.low:
            return 0.0
        if self.log:
            return math.log(loss / self.low) / math.log(self.high / self.low)
        return (loss - self.low) / (self.high - self.low)

    def caption(self) -> str:
        return f"losses from {number(self.low)} to {number(self.high)}{', log scale' if self.log else ''}"


def sparkline(losses: Sequence[float], scale: LossScale, levels: str, widest: int = WIDEST) -> str:
    """A character an evaluation, or so many of them evenly."""
    last, width = len(losses) - 1, min(len(losses), widest)
    shown = [losses[round(place * last / max(width - 1, 1))] for place in range(width)]
    return "".join(levels[min(int(scale(loss) * len(levels)), len(levels) - 1)] for loss in shown)
