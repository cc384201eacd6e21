"""The runs below a results folder, read as they come and change. Nothing is ever written there.

What is done is only counted until somebody looks at its experiment; then each record is read once. Of runs in progress
the evaluations are read on from where the last look ended.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records import files
from experiments.records.folder import CONFIG, FAILED, RESULT, evaluations, read_failure, read_record, read_start
from experiments.records.locks import held
from experiments.records.rows import Floats
from experiments.records.table import RUNS, read_table
from experiments.verdicts.wording import by_number

RATE = "optim.learning_rate"
Curves = dict[str, Floats]  # a column each: update, seconds, train_loss, ...
Stamp = tuple[int, int, int]  # another file, or the same one changed
ENDED = ("completed", "diverged", "undefined")  # of records
STATES = ("done", "running", "failed", "stopped", "unreadable")  # of folders


@dataclass
class Run:
    """One run as far as it has come. `state`: running, failed, stopped, unreadable, or the status of its record."""

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


@dataclass
class Folder:
    """What is known of one run's folder."""

    state: str = ""
    run: Run | None = None
    config: Stamp | None = None
    result: Stamp | None = None
    end: int = 0  # of the last whole line of metrics.jsonl that was read
    line: bytes = b""  # that line


class Watch:
    """The experiments below a results folder; `look` again and again."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.folders: dict[str, dict[str, Folder]] = {}
        self.changes: Counter[str] = Counter()  # how often something changed, by experiment

    def look(self, wanted: str = "") -> None:
        """See what has changed; read the runs of the experiment `wanted`."""
        found = {name: names(self.results / "runs" / name) for name in names(self.results / "runs")}
        self.folders = {name: self.folders.get(name, {}) for name, runs in found.items() if runs}
        for experiment, known in self.folders.items():
            for gone in known.keys() - found[experiment]:
                del known[gone]
                self.changes[experiment] += 1
            for name in found[experiment]:
                folder = known.setdefault(name, Folder())
                # A run that is done is not looked at again before somebody asks for it.
                if folder.state != "done" or experiment == wanted:
                    path = self.results / "runs" / experiment / name
                    self.changes[experiment] += look_at(path, folder, experiment == wanted)

    def counts(self, experiment: str = "") -> Counter[str]:
        """How many runs are in each state, in an experiment or in all."""
        chosen = [self.folders.get(experiment, {})] if experiment else self.folders.values()
        return Counter(folder.state for folders in chosen for folder in folders.values())

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment that was wanted when last looked, in order of arm, learning rate and seed."""
        found = [folder.run for folder in self.folders.get(experiment, {}).values() if folder.run]
        return sorted(
            found, key=lambda run: (by_number(run.arm), run.config.get("optim.learning_rate") or 0, seed_of(run))
        )

    def latest(self) -> str:
        """The experiment in which a run was begun last, of those with curves if there are any."""
        runs = self.results / "runs"
        curves = [name for name in self.folders if any((runs / name).glob("*/metrics.jsonl"))]
        return max(curves or self.folders, key=lambda name: (stamp_of(runs / name) or (0, 0, 0))[1], default="")


class Kept(Watch):
    """The runs of a table, such as results/reference has in place of records: they are done, and nothing changes."""

    def __init__(self, results: Path) -> None:
        super().__init__(results)
        rows, _ = read_table(results)
        for row in rows:
            run = ended({**row, "group": row["arm"]})
            self.folders.setdefault(row["experiment"], {})[row["run"]] = Folder("done", run)

    def look(self, wanted: str = "") -> None:
        pass

    def latest(self) -> str:
        curves = (
            name
            for name, runs in self.folders.items()
            if any(folder.run and folder.run.curves for folder in runs.values())
        )
        return next(curves, "")


def watched(results: Path) -> Watch:
    """Records where there are any, or will be; else the table that is left of them."""
    return Kept(results) if (results / RUNS).exists() and not (results / "runs").exists() else Watch(results)


def seed_of(run: Run) -> int:
    return int(run.config.get("seed", 0))


def names(folder: Path) -> list[str]:
    """The folders in a folder that are not hidden; none where it is missing or closed to us."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def look_at(path: Path, folder: Folder, wanted: bool) -> bool:
    """Bring what is known of a run up to date; whether anything changed."""
    before = folder.state
    try:
        files = set(os.listdir(path))
    except OSError:  # gone meanwhile
        files = set()
    folder.state = state_of(path, files)
    if not wanted:
        return folder.state != before
    if folder.state == "done":
        return read_result(path, folder)
    return read_progress(path, folder) or folder.state != before


def state_of(path: Path, files: set[str]) -> str:
    if RESULT in files:
        return "done"
    if "lock" in files and held(path):
        return "running"
    return "failed" if FAILED in files else "stopped"


def read_result(path: Path, folder: Folder) -> bool:
    """Read a record that was not read before; whether there was anything to read."""
    stamp = stamp_of(path / RESULT)
    if stamp == folder.result and folder.run:
        return False
    folder.result, folder.config, folder.end, folder.line = stamp, None, 0, b""
    record = read_record(path)
    folder.run = Run(path.name, "unreadable") if record is None else ended(record)
    return True


def ended(record: Mapping[str, Any]) -> Run:
    return Run(
        record["run"],
        record["status"],
        record["group"],
        record["role"],
        files.flat(record["config"]),
        columns(record["history"]),
        record["final"] or record["timing"],  # of a measurement of times
    )


def read_progress(path: Path, folder: Folder) -> bool:
    """Read what a run that has no record has come to since the last look; whether it is anything new."""
    stamp = stamp_of(path / CONFIG)
    if stamp is None:
        folder.run = None
        return False
    if folder.run is None or stamp != folder.config:
        folder.run, folder.config, folder.result, folder.end, folder.line = begun(path), stamp, None, 0, b""
    folder.run.state, known = folder.state, folder.run.reason
    folder.run.reason = reason(path) if folder.state == "failed" else ""
    return read_on(path / "metrics.jsonl", folder, folder.run) or folder.run.reason != known


def begun(path: Path) -> Run:
    """A run of which there is only what was known before it started."""
    known = read_start(path)
    if known is None:
        return Run(path.name, "unreadable")
    return Run(path.name, "running", known["group"], known["role"], files.flat(known["config"]))


def reason(path: Path) -> str:
    failure = read_failure(path)
    return failure["reason"] if failure else ""


def read_on(path: Path, folder: Folder, run: Run) -> bool:
    """Append the whole lines since the last look; all anew if the file is another one. Whether there were any."""
    try:
        with path.open("rb") as file:
            file.seek(folder.end - len(folder.line))
            read = file.read()
    except OSError:
        return False
    if not read.startswith(folder.line):  # the run began once more
        folder.end, folder.line, run.curves = 0, b"", {}
        return read_on(path, folder, run)
    fresh = read[len(folder.line) : read.rfind(b"\n") + 1]  # the last line may be only half there
    if not fresh:
        return False
    folder.end += len(fresh)
    folder.line = fresh.splitlines(keepends=True)[-1]
    run.curves = joined(run.curves, columns(evaluations(fresh)))
    return True


def columns(history: Iterable[Mapping[str, Any]]) -> Curves:
    """A history by columns, NaN for what was not finite or is missing."""
    rows = list(history)
    keys = dict.fromkeys(key for row in rows[:1] + rows[-1:] for key in row)
    return {key: np.array([row.get(key) for row in rows], dtype=float) for key in keys}


def joined(first: Curves, second: Curves) -> Curves:
    if not first or not second:
        return first or second
    gap = np.full(len(second["update"]), np.nan)
    return {key: np.concatenate([column, second.get(key, gap)]) for key, column in first.items()}


def stamp_of(path: Path) -> Stamp | None:
    try:
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    except OSError:
        return None
