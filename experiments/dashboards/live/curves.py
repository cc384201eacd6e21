"""What the live page draws of runs: groups and their curves, and end results against a number. Plain NumPy."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.dashboards.live.runs import SEED, SeenRun, seed_of
from experiments.records import rows as recorded
from experiments.records.files import as_typed, setting
from experiments.records.rows import Floats
from experiments.records.tuning import choose
from experiments.reports import settings
from experiments.reports.scales import wide
from experiments.reports.series_figures import RATE as AT_RATE
from experiments.reports.settings import RATE, apart_by, is_number
from experiments.verdicts.wording import by_number, principal

Groups = dict[str, list[SeenRun]]  # by label
AXES = {"update": "updates", "samples": "samples", "seconds": "seconds of training"}
ARM = "arm"
UNSCIENTIFIC = ("data.path",)  # of a text its digest counts, not where it lies


@dataclass(frozen=True)
class Band:
    """The runs of a group at equal updates (or samples): mean, least and greatest, and how many came that far."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    runs: Floats

    def times(self, factor: float) -> "Band":
        """The same in another unit."""
        return Band(self.x, factor * self.mean, factor * self.low, factor * self.high, self.runs)


# ---------------------------------------------------------------------------------------------------- groups


def varied(runs: Iterable[SeenRun]) -> list[str]:
    """The settings in which runs differ."""
    configs = [run.config for run in runs if run.config]
    keys = [key for key in settings.differing(configs) if key not in UNSCIENTIFIC]
    return [key for key in keys if key != "norm" or len({config.get(key) for config in configs}) > 1]


def grouped(runs: Iterable[SeenRun], key: str) -> Groups:
    """Runs by their arm, or by the value of a setting.

    Whatever an arm's runs of one role differ in, but the seed and in tuning the learning rate, makes groups of their
    own, named by it as records name them: `layer_b8 batch_size=16`. By a setting, all alike in it are one group.
    """
    if key != ARM:
        return named(runs, lambda run: value_name(run, key))
    groups: Groups = {}
    known = list(runs)
    for role in dict.fromkeys(run.role for run in known):
        free = (SEED, RATE) if role == "tune" else (SEED,)
        of_role = [run for run in known if run.role == role]
        for label, same in apart(named(of_role, lambda run: run.arm), free).items():
            groups.setdefault(label, []).extend(same)
    names = apart_by(groups)
    return in_order({names[label]: same for label, same in groups.items()})


def among(groups: Groups, runs: Iterable[SeenRun]) -> Groups:
    """Of groups what is in these runs: their names, and so their colours, do not hang on what is shown just now."""
    names = {run.name for run in runs}
    found = {label: [run for run in group if run.name in names] for label, group in groups.items()}
    return {label: group for label, group in found.items() if group}


def value_name(run: SeenRun, key: str) -> str:
    """`layer` of a norm, `batch_size 8` or `data mnist` of anything else."""
    value = as_typed(run.config.get(key))
    return value if key == "norm" else f"{key.removesuffix('.name').rpartition('.')[2]} {value}"


def alike(runs: Iterable[SeenRun]) -> tuple[Groups, dict[str, settings.Settings]]:
    """Runs that differ in their seeds and tuned learning rates alone, and what each of these groups has in common."""
    free = (SEED, RATE, *UNSCIENTIFIC)
    common = {run.name: {key: value for key, value in run.config.items() if key not in free} for run in runs}
    groups = named(runs, lambda run: repr(common[run.name]))
    return groups, {label: common[group[0].name] for label, group in groups.items()}


def lines(runs: Sequence[SeenRun], key: str) -> Groups:
    """Runs that differ in a number, as lines over it: `batch`, `batch, normalize all`."""
    groups, common = alike(runs)
    over = settings.lines(common, key)
    return {label: [run for one in line.values() for run in groups[one]] for label, line in over.items()}


def numbers(runs: Sequence[SeenRun]) -> list[str]:
    """The numbers in which runs differ that are otherwise alike, the batch size first."""
    return settings.numbers(alike(runs)[1])


def norms(groups: Groups) -> dict[str, str]:
    """The norm of each group whose runs have one in common."""
    every = {label: {str(run.config.get("norm", "")) for run in runs} for label, runs in groups.items()}
    return {label: names.pop() for label, names in every.items() if len(names) == 1}


def named(runs: Iterable[SeenRun], name: Callable[[SeenRun], str]) -> Groups:
    groups: Groups = {}
    for run in runs:
        groups.setdefault(name(run), []).append(run)
    return in_order(groups)


def apart(groups: Groups, free: Sequence[str]) -> Groups:
    """Groups whose runs differ in free settings alone, named by the others as well."""
    found: Groups = {}
    for label, runs in groups.items():
        keys = [key for key in varied(runs) if key not in free]
        for run in runs:
            name = " ".join([label, *(setting(key, run.config.get(key)) for key in keys)])
            found.setdefault(name, []).append(run)
    return in_order(found)


def in_order(groups: Groups) -> Groups:
    return {label: groups[label] for label in sorted(groups, key=by_number)}


def pooled(groups: Groups) -> list[str]:
    """In what runs of one group differ: at best in their seeds alone."""
    return list(dict.fromkeys(key for runs in groups.values() for key in varied(runs)))


# ---------------------------------------------------------------------------------------------------- curves


def metrics(runs: Iterable[SeenRun]) -> list[str]:
    """What the curves of these runs show, first that by which they are told everywhere."""
    found = dict.fromkeys(key for run in runs for key in run.curves if key not in recorded.AXES)
    first = f"validation_{principal('validation', found)}"
    return sorted(found, key=lambda name: (name != first, name))


def fair_axis(runs: Iterable[SeenRun]) -> str:
    """What curves are compared at unless another axis is chosen: samples, where runs see about as many, in batches of
    several sizes, else updates.
    """
    updates, samples = [], []
    for run in runs:
        updates.append(run.config["updates"])
        samples.append(run.config["updates"] * run.config["batch_size"])
    apart, together = (
        max(ends, default=0) * min(others, default=0) for ends, others in ((updates, samples), (samples, updates))
    )
    return "samples" if apart > together else "update"


def spans_decades(runs: Iterable[SeenRun], metric: str) -> bool:
    """Whether a metric is shown on a logarithmic scale unless another is chosen: as in the terminal's tables."""
    values = np.concatenate([run.curves[metric] for run in runs if metric in run.curves] or [np.ones(1)])
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and wide(finite))


def model_of(runs: Iterable[SeenRun]) -> str:
    """The model of these runs; empty where they have several."""
    models = {str(run.config.get("model.name", "")) for run in runs}
    return models.pop() if len(models) == 1 else ""


def places(run: SeenRun, axis: str) -> Floats:
    """Where the evaluations of a run are on an axis; on that of seconds they are still compared at equal updates."""
    return run.curves["update"] * (run.config["batch_size"] if axis == "samples" else 1)


def band(runs: Sequence[SeenRun], metric: str, axis: str) -> Band:
    """Mean and extremes of a metric over runs wherever one of them was evaluated, from those that came that far.

    Runs evaluated elsewhere are interpolated. NaN from where the first run diverged.
    """
    runs = [run for run in runs if metric in run.curves]
    grid = np.unique(np.concatenate([places(run, axis) for run in runs] or [np.array([])]))
    values, x = at_places(runs, grid, metric, axis), grid
    here = np.array([within(grid, run, axis) for run in runs], dtype=bool).reshape(len(runs), grid.size)
    values, runs_here = np.where(here, values, 0), here.sum(axis=0)
    if axis == "seconds":
        times = at_places(runs, grid, "seconds", axis)
        with np.errstate(invalid="ignore"):  # where nobody took the time
            x = np.nansum(times, axis=0) / np.isfinite(times).sum(axis=0) if runs else grid
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


def within(grid: Floats, run: SeenRun, axis: str) -> Any:
    """Where a run counts. One that diverged does not drop out of the mean: there is none any more."""
    x = places(run, axis)
    return (x[0] <= grid) & (run.diverged | (grid <= x[-1]))


def at_places(runs: Sequence[SeenRun], grid: Floats, column: str, axis: str) -> Floats:
    """A row for each run; what was measured at a place is taken as it is, NaN beyond the ends."""
    rows = [np.interp(grid, places(run, axis), run.curves[column], np.nan, np.nan) for run in runs]
    return np.array(rows).reshape(len(runs), grid.size)


def curve(run: SeenRun, metric: str, axis: str) -> tuple[Floats, Floats]:
    """Places and values of one run."""
    x = run.curves["seconds"] if axis == "seconds" else places(run, axis)
    return x, run.curves[metric]


# ------------------------------------------------------------------------------------- results against a number


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
