"""The runs below a results folder, read as they come and change. Nothing is ever written there.

What is done is only counted until somebody looks at its experiment; then a folder is read once more whenever one of
its files has changed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.files import flat
from experiments.records.folder import CONFIG, DONE, FAILED, METRICS, MISSING, RESULT, UNREADABLE, RunFolder
from experiments.records.rows import Floats
from experiments.records.table import RUNS, read_table
from experiments.reports.settings import RATE
from experiments.verdicts.wording import by_number

Curves = dict[str, Floats]  # a column each: update, seconds, train_loss, ...
SEED = "seed"
ENDED = ("completed", "diverged", "undefined")  # of records
STATES_SHOWN = ("done", "running", "failed", "stopped", "unreadable")  # of folders; in one that is missing is nothing


@dataclass
class SeenRun:
    """One run as far as it has come. `state`: that of its folder, or the status of its record."""

    name: str
    state: str
    arm: str = ""
    role: str = ""
    config: dict[str, Any] = field(default_factory=dict)  # flat: `optim.learning_rate`
    curves: Curves = field(default_factory=dict)
    final: dict[str, float | None] = field(default_factory=dict)
    reason: str = ""  # why it failed

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def diverged(self) -> bool:
        return self.state == "diverged"

    def last(self, metric: str) -> float:
        """The last value of a metric, of the end if there is one; NaN where it is missing or the run diverged."""
        if metric in self.final:
            value = self.final[metric]
            return np.nan if value is None or self.diverged else float(value)
        return float(self.curves[metric][-1]) if metric in self.curves else np.nan


def seed_of(run: SeenRun) -> int:
    return int(run.config.get(SEED, 0))


@dataclass
class Seen:
    """A run's folder, if it is not of a table, and what was known of it when last looked at."""

    folder: RunFolder | None = None
    state: str = MISSING
    run: SeenRun | None = None
    stamps: tuple[Any, ...] = ()  # of its files when they were read

    def look(self, wanted: bool) -> bool:
        """Whether anything changed, of a run that is wanted in its files."""
        assert self.folder is not None
        before, self.state = self.state, self.folder.state
        stamps = tuple(self.folder.stamp(name) for name in (RESULT, CONFIG, METRICS, FAILED))
        if wanted and (self.state, stamps) != (before, self.stamps):
            self.run, self.stamps = read(self.folder, self.state), stamps
            return True
        return self.state != before


class LiveResults:
    """The experiments below a results folder; `look` again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: dict[str, dict[str, Seen]] = {}
        self.changes: Counter[str] = Counter()  # how often something changed, by experiment

    def look(self, wanted: str = "") -> None:
        """See what has changed; read the runs of the experiment `wanted`."""
        runs = self.path / "runs"
        there = {name: names(runs / name) for name in names(runs)}
        self.folders = {name: self.folders.get(name, {}) for name, inside in there.items() if inside}
        for experiment, known in self.folders.items():
            for gone in known.keys() - there[experiment]:
                del known[gone]
                self.changes[experiment] += 1
            for name in there[experiment]:
                seen = known.setdefault(name, Seen(RunFolder(runs / experiment / name)))
                # A run that is done is not looked at again before somebody asks for it.
                if seen.state != DONE or experiment == wanted:
                    self.changes[experiment] += seen.look(experiment == wanted)

    def counts(self, experiment: str = "") -> Counter[str]:
        """How many runs are in each state, in an experiment or in all."""
        chosen = [self.folders.get(experiment, {})] if experiment else self.folders.values()
        return Counter(seen.state for folders in chosen for seen in folders.values() if seen.state != MISSING)

    def runs(self, experiment: str) -> list[SeenRun]:
        """The runs of an experiment that was wanted when last looked, in order of arm, learning rate and seed."""
        found = [seen.run for seen in self.folders.get(experiment, {}).values() if seen.run]
        return sorted(found, key=lambda run: (by_number(run.arm), run.config.get(RATE) or 0, seed_of(run)))

    def latest(self) -> str:
        """The experiment in which a run was begun last, of those with curves if there are any."""
        runs = self.path / "runs"
        curves = [name for name in self.folders if any((runs / name).glob(f"*/{METRICS}"))]
        return max(curves or self.folders, key=lambda name: (runs / name).stat().st_mtime, default="")


class KeptResults(LiveResults):
    """The runs of a table, such as results/reference has in place of records: they are done, and nothing changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        rows, _ = read_table(path)
        for row in rows:
            self.folders.setdefault(row["experiment"], {})[row["run"]] = Seen(None, DONE, of_record(row, row["arm"]))

    def look(self, wanted: str = "") -> None:
        pass

    def latest(self) -> str:
        with_curves = (name for name in self.folders if any(run.curves for run in self.runs(name)))
        return next(with_curves, "")


def results_below(path: Path) -> LiveResults:
    """Records where there are any, or will be; else the table that is left of them."""
    return KeptResults(path) if (path / RUNS).exists() and not (path / "runs").exists() else LiveResults(path)


def names(folder: Path) -> list[str]:
    """The folders in a folder that are not hidden; none where it is missing or closed to us."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def read(folder: RunFolder, state: str) -> SeenRun | None:
    """A run as its folder has it now; None where it was not begun."""
    if state == MISSING:
        return None
    if state == DONE and (record := folder.record()):
        return of_record(record, record["group"])
    start = folder.start()
    if start is None:
        return SeenRun(folder.path.name, UNREADABLE)
    failure = folder.failure() if state == "failed" else None
    return SeenRun(
        folder.path.name,
        state,
        start["group"],
        start["role"],
        flat(start["config"]),
        columns(folder.evaluations()),
        reason=failure["reason"] if failure else "",
    )


def of_record(record: Mapping[str, Any], arm: str) -> SeenRun:
    return SeenRun(
        record["run"],
        record["status"],
        arm,
        record["role"],
        flat(record["config"]),
        columns(record["history"]),
        record["final"] or record["timing"],  # of a measurement of times
    )


def columns(history: Iterable[Mapping[str, Any]]) -> Curves:
    """A history by columns, NaN for what was not finite or is missing."""
    rows = list(history)
    keys = dict.fromkeys(key for row in rows[:1] + rows[-1:] for key in row)
    return {key: np.array([row.get(key) for row in rows], dtype=float) for key in keys}
