"""What the live page draws of runs: groups and their curves, and end results against a number. Plain NumPy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.dashboards.live.runs import RATE, Run, seed_of
from experiments.records.rows import Floats
from experiments.reports.series_figures import RATE as AT_RATE
from experiments.reports.settings import lines
from experiments.verdicts.wording import by_number, tidy

Groups = dict[str, list[Run]]  # by label
AXES = {"update": "updates", "samples": "samples", "seconds": "seconds of training"}
ARM = "arm"


@dataclass(frozen=True)
class Band:
    """The runs of a group at equal updates (or samples): mean, least and greatest, and how many came that far."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    runs: Floats


def settings(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, and the values of each in order; the arm is one of them."""
    found: dict[str, list[Any]] = {ARM: sorted({run.arm for run in runs if run.arm}, key=by_number)}
    for key in dict.fromkeys(key for run in runs for key in run.config):
        values = {repr(run.config.get(key)): run.config.get(key) for run in runs if run.config}
        if len(values) > 1:
            found[key] = sorted(values.values(), key=lambda value: (not is_number(value), by_number(told(value))))
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def told(value: Any) -> str:
    return tidy(value) if isinstance(value, float) else str(value)


def grouped(runs: Iterable[Run], key: str) -> Groups:
    """Runs by the value of a setting: `layer` of a norm or an arm, `batch_size 8` of anything else."""
    groups: Groups = {}
    for run in runs:
        groups.setdefault(label_of(run, key), []).append(run)
    return {label: groups[label] for label in sorted(groups, key=by_number)}


def label_of(run: Run, key: str) -> str:
    if key == ARM:
        return run.arm
    value = told(run.config.get(key))
    return value if key == "norm" else f"{key.rpartition('.')[2]} {value}"


def metrics(runs: Iterable[Run]) -> list[str]:
    """What the curves of these runs show, the validation loss first."""
    found = dict.fromkeys(key for run in runs for key in run.curves if key not in ("update", "seconds"))
    return sorted(found, key=lambda name: (name != "validation_loss", name))


def places(run: Run, axis: str) -> Floats:
    """Where the evaluations of a run are on an axis; on that of seconds they are still compared at equal updates."""
    return run.curves["update"] * (run.config["batch_size"] if axis == "samples" else 1)


def band(runs: Sequence[Run], metric: str, axis: str) -> Band:
    """Mean and extremes of a metric over runs wherever one of them was evaluated, from those that came that far.

    Runs evaluated elsewhere are interpolated. NaN from where the first run diverged.
    """
    runs = [run for run in runs if metric in run.curves]
    grid = np.unique(np.concatenate([places(run, axis) for run in runs] or [np.array([])]))
    values, x = table(runs, grid, metric, axis), grid
    here = np.array([within(grid, run, axis) for run in runs], dtype=bool).reshape(len(runs), grid.size)
    values, runs_here = np.where(here, values, 0), here.sum(axis=0)
    if axis == "seconds":
        x = np.nanmean(table(runs, grid, "seconds", axis), axis=0) if runs else grid
    broken = np.isnan(values).any(axis=0)
    low = np.where(here, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(here, values, -np.inf).max(axis=0, initial=-np.inf)
    parts = (values.sum(axis=0) / np.maximum(runs_here, 1), low, high)
    mean, low, high = (np.where(broken, np.nan, part) for part in parts)
    return Band(x, mean, low, high, runs_here)


def mixed(groups: Groups, metric: str, axis: str) -> bool:
    """Whether runs of one group were evaluated at different places, apart from some that have not come as far."""
    for runs in groups.values():
        grids = sorted((places(run, axis) for run in runs if metric in run.curves), key=len)
        if not all(np.isin(grid, grids[-1]).all() for grid in grids):
            return True
    return False


def within(grid: Floats, run: Run, axis: str) -> Any:
    """Where a run counts. One that diverged does not drop out of the mean: there is none any more."""
    x = places(run, axis)
    return (x[0] <= grid) & (run.diverged | (grid <= x[-1]))


def table(runs: Sequence[Run], grid: Floats, column: str, axis: str) -> Floats:
    """A row for each run; what was measured at a place is taken as it is, NaN beyond the ends."""
    rows = [np.interp(grid, places(run, axis), run.curves[column], np.nan, np.nan) for run in runs]
    return np.array(rows).reshape(len(runs), grid.size)


def curve(run: Run, metric: str, axis: str) -> tuple[Floats, Floats]:
    """Places and values of one run."""
    x = run.curves["seconds"] if axis == "seconds" else places(run, axis)
    return x, run.curves[metric]


@dataclass(frozen=True)
class Series:
    """A result of a group of runs against a number: each run's, and the mean at each number, NaN if one diverged."""

    x: Floats
    mean: Floats
    runs: list[Run]
    at: Floats  # the number of each run
    values: Floats  # and its result

    @property
    def best(self) -> int | None:
        """Where the mean is least."""
        return int(np.nanargmin(self.mean)) if np.isfinite(self.mean).any() else None


Point = tuple[float, float, Run]  # number, result, whose


def series(points: Iterable[Point]) -> Series | None:
    """Results in order of number and seed; None where there is nothing to show."""
    ordered = sorted(points, key=lambda point: (point[0], seed_of(point[2])))
    at, values = (np.array([point[i] for point in ordered], dtype=float) for i in (0, 1))
    if not np.isfinite(values).any():
        return None
    x = np.unique(at)
    return Series(x, np.array([values[at == place].mean() for place in x]), [run for *_, run in ordered], at, values)


def by_setting(runs: Iterable[Run], key: str, metric: str) -> Iterator[Point]:
    """The end of finished runs against a setting."""
    for run in runs:
        if run.ended and is_number(run.config.get(key)):
            yield run.config[key], run.last(metric), run


def by_rate(runs: Iterable[Run]) -> Iterator[Point]:
    """What a measurement at many learning rates found at each."""
    for run in runs:
        for name in run.final:
            if name.startswith(AT_RATE):
                yield float(name.removeprefix(AT_RATE)), run.last(name), run


def many_series(groups: Mapping[str, Iterable[Point]]) -> dict[str, Series]:
    """By group; none at all where no group has two numbers to compare."""
    found = {label: line for label, points in groups.items() if (line := series(points))}
    return found if any(line.x.size > 1 for line in found.values()) else {}


def end_results(groups: Groups, key: str, metric: str) -> dict[str, Series]:
    return many_series({label: by_setting(runs, key, metric) for label, runs in groups.items()})


def measured_rates(groups: Groups) -> dict[str, Series]:
    return many_series({label: by_rate(runs) for label, runs in groups.items()})


def by_line(runs: Iterable[Run], every: Iterable[Run], key: str) -> Groups:
    """Runs by what sets their arms apart, among those of every run, besides a number: `batch` of all batch sizes."""
    tested = [run for run in every if run.role == "evaluate"]
    arms = {run.arm: {name: run.config[name] for name in run.config if name not in ("seed", RATE)} for run in tested}
    found = {arm: label for label, line in lines(arms, key).items() for arm in line.values()}
    groups: Groups = {}
    for run in runs:
        if run.role == "evaluate":
            groups.setdefault(found.get(run.arm, run.arm), []).append(run)
    return dict(sorted(groups.items()))


def norms(groups: Groups) -> dict[str, str]:
    """The norm of each group whose runs have one in common."""
    found = {label: {str(run.config.get("norm", "")) for run in runs} for label, runs in groups.items()}
    return {label: names.pop() for label, names in found.items() if len(names) == 1}


def numbers(runs: Sequence[Run]) -> list[str]:
    """The numeric settings results can be drawn against, the batch size first; learning rates are tuned."""
    found = [key for key, values in settings(runs).items() if sum(map(is_number, values)) > 1]
    return sorted((key for key in found if key not in ("seed", RATE)), key=lambda key: key != "batch_size")


def end_metric(metric: str, runs: Iterable[Run]) -> str:
    """The test metric that belongs to one of training or validation: test_loss to validation_loss."""
    known = dict.fromkeys(name for run in runs for name in run.final)
    wanted = "test_" + metric.partition("_")[2]
    return wanted if wanted in known else next((name for name in known if name.startswith("test_")), metric)
