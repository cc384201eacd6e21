"""End results against a number in which runs differ: a learning rate, a batch size. Plain NumPy."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from experiments.dashboards.live.groups import Groups
from experiments.dashboards.live.runs import SeenRun, seed_of
from experiments.records.rows import Floats
from experiments.records.tuning import choose
from experiments.reports.series_figures import RATE as AT_RATE
from experiments.reports.settings import RATE, is_number


@dataclass(frozen=True)
class Series:
    """A result of a group of runs against a number: each run's, and the middle at each number, NaN if one diverged."""

    x: Floats
    middle: Floats  # of tuning runs, as rates are chosen, the median, else the mean
    runs: list[SeenRun]
    at: Floats  # the number of each run
    values: Floats  # and its result


Point = tuple[float, float, SeenRun]  # number, result, whose


def series(points: Iterable[Point]) -> Series | None:
    """Results in order of number and seed; None where there is nothing to show."""
    ordered = sorted(points, key=lambda point: (point[0], seed_of(point[2])))
    at, values = (np.array([point[i] for point in ordered], dtype=float) for i in (0, 1))
    if not np.isfinite(values).any():
        return None
    x, runs = np.unique(at), [run for *_, run in ordered]
    middle = np.median if of_tuning(runs) else np.mean
    return Series(x, np.array([middle(values[at == place]) for place in x]), runs, at, values)


def of_tuning(runs: Iterable[SeenRun]) -> bool:
    """Whether they choose learning rates, which is by the median."""
    return all(run.role == "tune" for run in runs)


def by_setting(runs: Iterable[SeenRun], key: str, metric: str) -> Iterator[Point]:
    """The end of finished runs against a setting."""
    for run in runs:
        if run.ended and is_number(run.config.get(key)):
            yield run.config[key], run.last(metric), run


def by_rate(runs: Iterable[SeenRun]) -> Iterator[Point]:
    """What a measurement at many learning rates found at each."""
    for run in runs:
        for name in run.final:
            if name.startswith(AT_RATE) and (rate := rate_in(name)):
                yield rate, run.last(name), run


def rate_in(name: str) -> float | None:
    """That of a metric at a learning rate; None where what follows is no such rate."""
    try:
        rate = float(name.removeprefix(AT_RATE))
        return rate if 0 < rate < np.inf else None
    except ValueError:
        return None


def many_series(groups: Mapping[str, Iterable[Point]]) -> dict[str, Series]:
    """By group; none at all where no group has two numbers to compare."""
    found = {label: line for label, points in groups.items() if (line := series(points))}
    return found if any(line.x.size > 1 for line in found.values()) else {}


def end_results(groups: Groups, key: str, metric: str) -> dict[str, Series]:
    return many_series({label: by_setting(runs, key, metric) for label, runs in groups.items()})


def measured_rates(groups: Groups) -> dict[str, Series]:
    return many_series({label: by_rate(runs) for label, runs in groups.items()})


def chosen(line: Series) -> float | None:
    """The learning rate that is chosen by such runs; None where all diverged."""
    if not np.isfinite(line.middle).any():
        return None
    if of_tuning(line.runs) and all(RATE in run.config for run in line.runs):
        losses = [run.last("validation_loss") for run in line.runs]
    else:
        losses = list(line.values)
    tried = zip(line.at, line.runs, losses, strict=True)
    rows = (
        {"learning_rate": rate, "seed": seed_of(run), "final": {"validation_loss": loss}} for rate, run, loss in tried
    )
    return choose(rows).learning_rate


def end_metric(metric: str, runs: Iterable[SeenRun]) -> str:
    """The test metric that belongs to one of training or validation: test_loss to validation_loss."""
    known = dict.fromkeys(name for run in runs for name in run.final)
    wanted = "test_" + metric.partition("_")[2]
    return wanted if wanted in known else next((name for name in known if name.startswith("test_")), metric)
