"""The learning curves of a group of runs as one line and a band. Plain NumPy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.dashboards.live.groups import Groups
from experiments.dashboards.live.runs import SeenRun
from experiments.records import rows as recorded
from experiments.records.rows import Floats
from experiments.reports.scales import wide
from experiments.verdicts.wording import principal

AXES = {"update": "updates", "samples": "samples", "seconds": "seconds of training"}


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
