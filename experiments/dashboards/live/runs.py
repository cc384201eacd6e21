"""The runs below a results folder, read as they come and change. Nothing is ever written there.

What is done is only counted until somebody looks at its experiment; then a folder is read once more whenever one of
its files has changed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from experiments.records.files import flat
from experiments.records.folder import (
    CONFIG,
    DONE,
    FAILED,
    FAILED_STATE,
    METRICS,
    MISSING,
    RESULT,
    STATES,
    UNREADABLE,
    RunFolder,
)
from experiments.records.printable import printable
from experiments.records.rows import Floats
from experiments.records.table import CHOICES, RUNS, read_table
from experiments.reports.settings import RATE, is_number
from experiments.verdicts.wording import by_number

Curves = dict[str, Floats]  # a column each: update, seconds, train_loss, ...
SEED = "seed"
ENDED = CHOICES["status"]  # of records
STATES_SHOWN = ("done", "running", "failed", "stopped", "unreadable")  # of folders; in one that is missing is nothing
# What reading leads to where something else is written than what should be.
ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
LARGE, FAR = 2**53, 1e300  # no whole number, and no number, that is drawn is as large

Count = Annotated[int, Field(ge=0, lt=LARGE)]
Number = Annotated[int, Field(gt=-LARGE, lt=LARGE)] | Annotated[float, Field(gt=-FAR, lt=FAR)]


class Config(BaseModel, strict=True, extra="allow"):
    """What is computed with of a flat configuration; the rest of it may be any plain values."""

    __pydantic_extra__: dict[str, Number | str | bool | list[Any] | None] = Field(init=False)
    norm: str
    seed: Count
    batch_size: Count
    updates: Count
    learning_rate: Number | None = Field(None, alias="optim.learning_rate")


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
        return max(curves or self.folders, key=lambda name: begun(runs / name), default="")


class KeptResults(LiveResults):
    """The runs of a table, such as a frozen study has in place of records: they are done, and nothing changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        rows, _ = read_table(path)
        for row in rows:
            self.folders.setdefault(row["experiment"], {})[row["run"]] = Seen(None, DONE, of_record(row, "arm"))

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
            return sorted(entry.name for entry in entries if is_folder(entry) and not entry.name.startswith("."))
    except OSError:
        return []


def is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead in a circle
        return False


def begun(folder: Path) -> float:
    """When a run was begun in it last; long ago where it is gone."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def read(folder: RunFolder, state: str) -> SeenRun | None:
    """A run as its folder has it now; None where it was not begun."""
    if state == MISSING:
        return None
    if state == DONE and (record := folder.record()):
        return of_record(record, "group")
    start = folder.start() or {"run": folder.path.name}
    failure = (folder.failure() if state == FAILED_STATE else None) or {"reason": ""}
    return readable(start, start.get("group"), state, folder.evaluations(), {}, str(failure["reason"]))


def of_record(record: Mapping[str, Any], arm: str) -> SeenRun:
    """A run by its record, or by its row of a table; `arm` is what it calls its arm."""
    final = record.get("final") or record.get("timing")  # of a measurement of times
    return readable(record, record.get(arm), record.get("status"), record.get("history"), final)


def readable(about: Mapping[str, Any], arm: Any, state: Any, history: Any, final: Any, reason: str = "") -> SeenRun:
    """A run that can be drawn: all that is computed with has its type. Else one that is unreadable, and no more."""
    name = printable(str(about["run"]))
    try:
        config = shown(flat(about["config"]))
        Config.model_validate(config)
        if about["role"] not in CHOICES["role"] or state not in (*ENDED, *STATES):
            raise ValueError
        ends = {key: None if np.isnan(number(value)) else number(value) for key, value in shown(final).items()}
        curves = columns(map(shown, history))
        return SeenRun(name, state, printable(arm), about["role"], config, curves, ends, printable(reason))
    except ODD:
        return SeenRun(name, UNREADABLE)


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Texts among keys and values as they can be shown."""
    return {printable(key): printable(value) if isinstance(value, str) else value for key, value in values.items()}


def columns(history: Iterable[Mapping[str, Any]]) -> Curves:
    """A history by columns, NaN for what was not finite or is missing; rows without an update are left out."""
    rows = [row for row in history if not np.isnan(number(row.get("update")))]
    keys = dict.fromkeys(key for row in rows[:1] + rows[-1:] for key in ("seconds", *row))
    return {key: np.array([number(row.get(key)) for row in rows]) for key in keys}


def number(value: Any) -> float:
    """A finite number; NaN for anything else, for one that no axis reaches too."""
    return float(value) if is_number(value) and abs(value) < FAR else np.nan
