"""A run's folder: what lies in it, how it is written and read, and what state the run is in.

    <results>/runs/<experiment>/<norm>-s<seed>-<hash>/
        config.json       what is run, from the start on, and the options it was started with, by which `resume=` goes
        metrics.jsonl     one line an evaluation, flushed as the run goes
        checkpoint.pt     the last state to go on from
        failed.json       after a failure: the sweep it happened in, how often, and why
        lock              held by the process at work here, if any
        result.json       the record, written last and by rename: a run is done when this file exists

Of a run that is done metrics.jsonl and result.json are left. The hash covers the run's whole scientific configuration
(`identity`), never paths, devices, tracking or how many run at a time. So running is idempotent: the same configuration
finds its own record.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from experiments.records import locks, shapes
from experiments.records.files import VERSION, finite, make_folder, run_id, write
from experiments.records.shapes import DAMAGED

RESULT, CONFIG, FAILED = "result.json", "config.json", "failed.json"
METRICS, CHECKPOINT, LOCK = "metrics.jsonl", "checkpoint.pt", locks.LOCK
KEPT = (RESULT, METRICS)  # of a run that is done

# Of a record, all that a second run of the same bits may change: times, and what it was made on.
VOLATILE = ("timing", "environment", "history.seconds", "history.cpu_seconds")

DONE, RUNNING, FAILED_STATE, STOPPED, MISSING, UNREADABLE = STATES = (
    "done",  # with a whole record of this very run
    "running",  # a process holds the lock
    "failed",  # it ended with an error when it was last tried
    "stopped",  # it was begun, and nobody is at it
    "missing",  # it was never begun
    "unreadable",  # what says that it is done, or begun, is damaged or another run's
)

Stamp = tuple[int, int, int]  # another file, or the same one changed


class RunFolder:
    """One run on disk. Everything it says is read from its files, which others may change at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[str, tuple[Stamp, bool]] = {}  # of a file: its stamp, and whether it says what it should

    @property
    def name(self) -> str:
        """Such as `lm_lstm/layer-s0-0123456789`."""
        return f"{self.path.parent.name}/{self.path.name}"

    # ------------------------------------------------------------------------------------------------------ state

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.sound(RESULT, self.whole):
            return DONE
        if self.held():
            return RUNNING
        if self.sound(FAILED, self.failure):
            return FAILED_STATE
        if self.stamp(RESULT):
            return UNREADABLE
        if self.stamp(CONFIG) is None:
            return MISSING
        return STOPPED if self.sound(CONFIG, self.start) else UNREADABLE

    def sound(self, name: str, read: Callable[[], object | None]) -> bool:
        """Whether a file is there and can be read; looked into once more only when it has changed."""
        if (stamp := self.stamp(name)) is None:
            return False
        if name not in self.seen or self.seen[name][0] != stamp:
            self.seen[name] = stamp, read() is not None
        return self.seen[name][1]

    def held(self) -> bool:
        """Whether a process is at this run just now."""
        return locks.held(self.path)

    def stamp(self, name: str) -> Stamp | None:
        try:
            found = (self.path / name).stat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        except OSError:
            return None

    @property
    def ended(self) -> int | None:
        """When it ended, with a record or by a failure, in nanoseconds; None while it has not."""
        result, failed = self.stamp(RESULT), self.stamp(FAILED)
        if result:
            return result[1]
        return failed[1] if failed and not self.held() else None

    def seconds(self) -> float:
        """Since it was started, or started again."""
        begun = self.stamp(CONFIG)
        return max(0.0, time.time() - begun[1] / 1e9) if begun else 0.0

    # ---------------------------------------------------------------------------------------------------- reading

    def record(self) -> dict[str, Any] | None:
        """The record of the finished run; None where there is none, or only one that is damaged or another run's."""
        body = self.whole()
        if body is None:
            return None
        with suppress(*DAMAGED):
            record = shapes.parsed(shapes.Record, "{" + body)
            return record if run_id(record["config"]) == self.path.name else None
        return None

    def whole(self) -> str | None:
        """The text of the record after its checksum, if it is whole, of this version, and by its name this run's."""
        try:
            text = (self.path / RESULT).read_text()
        except (OSError, ValueError):
            return None
        begin = len(checksum(""))
        is_whole = text[:begin] == checksum(text[begin:])
        return text[begin:] if is_whole and text.startswith(heading(self.path), begin) else None

    def start(self) -> dict[str, Any] | None:
        """What was known of the run before it began: all of a record that is no result, and the options given.

        None where that is missing, damaged or another run's.
        """
        with suppress(*DAMAGED):
            found = shapes.read(shapes.Start, self.path / CONFIG)
            mine = f"{found['experiment']}/{found['run']}" == self.name and run_id(found["config"]) == self.path.name
            return found if mine else None
        return None

    def failure(self) -> dict[str, Any] | None:
        """How the run failed when it was last tried, if it did: sweep, attempts, reason, log."""
        with suppress(*DAMAGED):
            return shapes.read(shapes.Failure, self.path / FAILED)
        return None

    def evaluations(self) -> list[dict[str, Any]]:
        """Those made so far."""
        return evaluations(self.lines())

    def last_evaluation(self) -> dict[str, Any]:
        """Empty where there is none yet."""
        return next(reversed(evaluations(self.lines()[-2:])), {})  # the last line may be half written

    def lines(self) -> list[bytes]:
        try:
            return (self.path / METRICS).read_bytes().splitlines()
        except OSError:
            return []

    # ---------------------------------------------------------------------------------------------------- writing

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run's lock; raises Busy where another process has it. A run that is done needs no lock: it goes."""
        make_folder(self.path)
        with locks.hold(self.path):
            try:
                yield
            finally:
                if self.stamp(RESULT):
                    (self.path / LOCK).unlink(missing_ok=True)

    def begin(self, start: Mapping[str, Any]) -> None:
        write(self.path / CONFIG, json.dumps(start, indent=1) + "\n")

    def withdraw(self) -> None:
        """Take back a start to which nothing came."""
        if not any(self.stamp(name) for name in (METRICS, CHECKPOINT)):
            (self.path / CONFIG).unlink(missing_ok=True)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write result.json: first the SHA-256 of all that follows, then the record."""
        body = json.dumps(finite(record), indent=1)[1:] + "\n"
        write(self.path / RESULT, checksum(body) + body)
        self.tidy()

    def fail(self, failure: Mapping[str, Any]) -> None:
        write(self.path / FAILED, json.dumps(failure, indent=1) + "\n")

    def tidy(self) -> None:
        """Remove what a finished run needs no more, the remains of killed attempts too; its holder's lock last."""
        others = [path for path in self.path.iterdir() if path.name not in KEPT]
        for path in sorted(others, key=lambda path: path.name == LOCK):
            path.unlink(missing_ok=True)

    def untidy(self) -> bool:
        """Whether a process was killed between its record and the last it does, or told of a death that was none."""
        return any(self.stamp(name) for name in (CONFIG, FAILED))


def checksum(body: str) -> str:
    """How a record begins, the rest of which is this."""
    return f'{{\n "sha256": "{hashlib.sha256(body.encode()).hexdigest()}",'


def heading(folder: Path) -> str:
    """How the record that belongs in a folder goes on after its checksum."""
    return f'\n "record_version": {VERSION},\n "run": "{folder.name}",\n "experiment": "{folder.parent.name}",'


def evaluations(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Those on the lines of a metrics.jsonl; one that is half written or damaged is left out."""
    found = []
    for line in lines:
        with suppress(*DAMAGED):
            found.append(shapes.parsed(shapes.Evaluation, line))
    return found


def stable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what `VOLATILE` names: of the same configuration always the same."""
    kept = dict(deepcopy(record))
    for name in VOLATILE:
        first, _, key = name.partition(".")
        for place in kept[first] if key else [kept]:
            place.pop(key or first, None)
    return kept
