"""Many runs side by side, in processes that take one after another (`workers`); what is done is never done again.

Runs that take long go first. A run whose process died, or had no memory, is tried once more. Several sweeps on one
folder, on one machine or on many, divide the work by the locks of the runs. All failures are told at the end.
"""

import errno
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.records import files
from experiments.records.locks import Busy
from experiments.sweeps.audience import QUIET, Audience
from experiments.sweeps.failure import Failure, SweepError
from experiments.sweeps.order import Order
from experiments.sweeps.workers import AGAIN, BUSY, DONE, LOG_LINES, LOST, NO_SPACE, RAISED, Worker
from experiments.training import limits
from experiments.training.code import commit
from experiments.training.identity import Run
from experiments.training.processes import ServerDied
from experiments.training.schema import Config

Done = Callable[[Run, dict[str, Any]], Iterable[Run]]  # what a finished run makes possible
ATTEMPTS = 2  # at a run whose process dies
LOOK_AGAIN = 0.5  # seconds, for each run that another sweep has in hand: locks on a shared disk are not free


def run_all(
    runs: Iterable[Run],
    on_done: Done = lambda run, record: (),
    *,
    check: Callable[[], None] = lambda: None,
    total: Callable[[], int] = lambda: 0,
    n_jobs: int = 0,
    share: tuple[int, int] = (0, 1),
    token: str = "",
    audience: Audience = QUIET,
) -> None:
    """Do every run, `n_jobs` at a time (0: one for each core).

    `check` is called before the first, unless all are done. `on_done` gets each record, in this process, and returns
    further runs, `total` in all. Of several sweeps over one folder each may begin with its `share`, (k, n) being the
    k-th of n, before it helps with the rest, and ends when all that is left is in the hands of others; those of one
    `token` do not repeat each other's failures. Raises SweepError after the last run if any failed.
    """
    runs = list(runs)
    if not runs:
        return
    sweep = Sweep(on_done, total, share, token or uuid4().hex, audience)
    sweep.add(runs)
    sweep.n_jobs = n_jobs or cores(runs[0].config)
    if sweep.order.waiting:
        check()
        commit()  # git is asked here, once: the workers inherit the answer
    sweep.run()
    failed = [f"{len(sweep.failures)} of {len(sweep.known)} runs failed"] if sweep.failures else []
    if reasons := [*failed, *([f"{sweep.broken}"] if sweep.broken else [])]:
        raise SweepError("; ".join(reasons), "\n".join(failure.text() for failure in sweep.failures))


class Sweep:
    """What is waiting, running, done and failed."""

    n_jobs = 1

    def __init__(
        self, on_done: Done, total: Callable[[], int], share: tuple[int, int], token: str, audience: Audience
    ) -> None:
        self.on_done, self.asked, self.token, self.audience = on_done, total, token, audience
        self.order = Order(share)
        self.known: dict[Path, Run] = {}
        self.active: dict[int, Worker] = {}  # by the sentinel that tells its end
        self.idle: list[Worker] = []
        self.elsewhere: dict[Path, Run] = {}  # in the hands of another sweep
        self.failures: list[Failure] = []
        self.broken: ServerDied | None = None
        self.counts: Counter[str] = Counter()  # of runs done: `found`, `here`, `elsewhere`
        self.changed: list[Run] = []  # of those found done, the ones made by other code than this
        self.busy_seconds, self.started = 0.0, time.monotonic()

    @property
    def total(self) -> int:
        """How many runs there are, as far as is known."""
        return self.asked()

    def add(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.folder.path not in self.known:
                self.known[run.folder.path] = run
                if (record := run.record()) is None:
                    self.order.push(run)
                else:
                    self.changed += [run] if run.changed(record) else []
                    self.settle(run, record, "found")

    def run(self) -> None:
        with self.audience.display(self) as look:
            try:
                while self.fill() or self.waits():
                    look()
                    for sentinel in wait(list(self.active), LOOK_AGAIN * len(self.elsewhere) or None):
                        assert isinstance(sentinel, int)
                        self.collect(self.active.pop(sentinel))
                    self.look_elsewhere()
                look()
            finally:
                for worker in self.active.values():  # left before the end: none outlives this, or keeps its lock
                    worker.kill()
                for worker in self.idle:
                    worker.dismiss()
        if self.counts["here"] or self.counts["elsewhere"]:
            print(self.summary(), file=sys.stderr)
        if self.changed:
            print(changed_text(self.changed, self.counts["found"]), file=sys.stderr)

    def fill(self) -> bool:
        """Start what there is room for; whether anything runs."""
        while not self.broken and self.processes() < self.n_jobs and (run := self.order.pop()) is not None:
            self.start(run)
        return bool(self.active)

    def processes(self) -> int:
        return sum(worker.run.config.ranks for worker in self.active.values())

    def waits(self) -> bool:
        """Whether runs in other hands are waited for: by one of many only where more to do may come of them."""
        alone = self.order.share == (0, 1)
        return not self.broken and bool(self.elsewhere) and (alone or len(self.known) < self.total)

    def start(self, run: Run) -> None:
        failed = self.failure(run)
        if run.folder.held():
            self.elsewhere[run.folder.path] = run
        elif (record := run.record()) is not None:
            self.settle(run, record, "elsewhere")
        elif failed and failed["attempts"] >= ATTEMPTS:
            self.failures.append(Failure(run, failed["reason"], failed["log"]))
        else:
            self.start_worker(run)

    def start_worker(self, run: Run) -> None:
        """Where no process can be started nothing more is begun; what runs goes on to its end."""
        try:
            worker = self.idle.pop() if self.idle else Worker()
        except ServerDied as death:
            self.broken = death
            self.mark_attempt(run, f"{death}")
        else:
            worker.take(run)
            self.active[worker.sentinel] = worker
            self.audience.tell(run.folder.path)

    def collect(self, worker: Worker) -> None:
        """Take note of how a run ended."""
        run, code = worker.run, worker.join()
        self.idle += [worker] if worker.waits(code) else []
        if code == BUSY:
            self.elsewhere[run.folder.path] = run
        elif code == DONE and (record := run.record()) is not None:
            self.busy_seconds += record["timing"]["wall_seconds"]
            self.relay(worker)
            self.settle(run, record, "here")
        elif code == NO_SPACE:  # which every further run would meet too
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise files.RecordError(files.unwritable(run.folder.path, error))
        else:
            self.retry_or_fail(worker, code)

    def retry_or_fail(self, worker: Worker, code: int) -> None:
        """A mark in its folder says so to all tasks of this sweep."""
        log = worker.log.lines()
        reason = " ".join(log[-1:]) if code in (RAISED, AGAIN) else died(code)
        self.mark_attempt(worker.run, reason, log, ATTEMPTS if code == RAISED else 1)

    def mark_attempt(self, run: Run, reason: str, log: Sequence[str] = (), more: int = 1) -> None:
        """A mark in its folder tells all tasks of this sweep."""
        before = self.failure(run)
        attempts = more + (before["attempts"] if before else 0)
        run.folder.fail({"sweep": self.token, "attempts": attempts, "reason": reason, "log": list(log[-LOG_LINES:])})
        self.audience.tell(run.folder.path)
        self.order.push(run, last=True)  # to be tried again, or told

    def failure(self, run: Run) -> dict[str, Any] | None:
        """How a run failed in this sweep, if it did."""
        found = run.folder.failure()
        return found if found and found["sweep"] == self.token else None

    def settle(self, run: Run, record: dict[str, Any], where: str) -> None:
        if run.folder.untidy():
            with suppress(Busy), run.folder.hold():
                run.folder.tidy()
        self.audience.tell(run.folder.path)
        self.audience.hear(record)
        self.counts[where] += 1
        self.order.timed(run, record["timing"]["wall_seconds"])
        self.add(self.on_done(run, record))

    def look_elsewhere(self) -> None:
        """Whatever another sweep has ended with, or left, is settled, or ours to run."""
        for path, run in list(self.elsewhere.items()):
            if not run.folder.held():
                del self.elsewhere[path]
                self.order.push(run)

    def relay(self, worker: Worker) -> None:
        """Warnings of a run that succeeded."""
        for line in worker.log.lines():
            print(f"{worker.run.id}: {line}", file=sys.stderr)

    def seconds_left(self) -> float | None:
        """Estimated from runs of the same kind, this sweep's or earlier ones."""
        unborn = max(self.total - len(self.known), 0)  # evaluations that wait for their tuning
        left = self.order.expected(unborn)
        if left is None:
            return None
        active = list(self.active.values())
        running = sum(max(self.order.mean(worker.run) - worker.seconds(), 0) for worker in active)
        return (left + running) / self.n_jobs

    def summary(self) -> str:
        """What the sweep came to, in a line."""
        elapsed = time.monotonic() - self.started
        share = self.busy_seconds / (self.n_jobs * elapsed)
        shown = {"found": "found done", "elsewhere": "done by others"}
        parts = [f"{self.counts[where]} {words}" for where, words in shown.items() if self.counts[where]]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        here = f"{self.counts['here']} runs in {elapsed:.0f} s, {self.n_jobs} at a time ({share:.0%} of it in runs)"
        return "; ".join([here, *parts])


def changed_text(changed: Sequence[Run], found: int) -> str:
    if found == 1:
        return f"{changed[0].name} was made by other code than this; rerun_changed=true makes it anew"
    which = f"{len(changed)} of {found} runs found done were made by other code than this, {changed[0].name} for one"
    return f"{which}; rerun_changed=true makes them anew"


def cores(config: Config) -> int:
    """How many runs at a time: one for each processor this process may use, or one on a GPU."""
    if config.device == "cpu":
        return limits.cores()
    from experiments.training.machine import pick_device  # with it PyTorch, which is imported to train alone

    return limits.cores() if str(pick_device(config.device)) == "cpu" else 1


def died(code: int) -> str:
    if code == LOST:
        return "its process died"
    if code == -9:
        return "its process was killed: out of memory, perhaps (fewer at a time: n_jobs=1)"
    return "its process died " + (f"by signal {-code}" if code < 0 else f"with exit code {code}")
