"""A sweep on a cluster: submit an array of tasks for what is missing, watch the records come, tell what failed.

All tasks share the results folder. Only it and the queue are asked how far they are, so whoever watches may stop and
start again, and a task that is lost is waited for no longer than the queue knows it.
"""

import hashlib
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from experiments.sweeps.arm import Plan, arms_of
from experiments.sweeps.audience import QUIET, Audience
from experiments.sweeps.failure import Failure, SweepError
from experiments.sweeps.preflight import check_several, check_sweep
from experiments.sweeps.slurm import Array, ClusterError, Options
from experiments.training import checks
from experiments.training.identity import Run
from experiments.training.schema import Config

FASTEST, SLOWEST = 0.5, 15.0  # seconds from look to look, ever longer
LINES_APART = 30.0  # seconds


def run_arms(configs: Sequence[Config], options: Options, audience: Audience = QUIET) -> None:
    """As `arms.run_arms`, on a cluster. Raises SweepError at the end if runs failed or are missing."""
    checks.check(options, "hydra.launcher.")
    check_several(configs)
    check_sweep([replace(config, device="cpu") for config in configs])  # GPUs are where the tasks will be
    # Runs are shown in dashboards from here: nodes that compute often have no network.
    run_missing([replace(config, tracking="none") for config in configs], options, audience)


def run_missing(configs: Sequence[Config], options: Options, audience: Audience) -> None:
    """Submit what has no record yet, unless it is in the queue, and watch."""
    missing, array = Missing(configs, audience), Array(options, folder_for(configs))
    missing.look()
    if not missing.runs:
        return
    array.check()
    found = array.states()
    if found is None:
        raise ClusterError("squeue does not answer, so tasks of this sweep may be in the queue; try again")
    if not found:
        array.submit(configs, *shares(missing.count(), configs[0].n_jobs, options))
    print(f"{'found in the queue' if found else 'submitted'}: tasks with logs in {array.folder}", file=sys.stderr)
    try:
        watch(missing, array, audience)
    except KeyboardInterrupt as stop:
        stop.args = (left_alone(array),)
        raise
    if missing.runs:
        raise missing.error(array)


def shares(missing: int, n_jobs: int, options: Options) -> tuple[int, int]:
    """How many tasks so many runs get, and how many of them each has at a time."""
    tasks = min(math.ceil(missing / options.runs_per_task), options.tasks)
    return tasks, n_jobs or (1 if options.gpus else options.cpus)


def folder_for(configs: Sequence[Config]) -> Path:
    """Where the sweep of these configurations keeps what the cluster needs; its name is that of the sweep."""
    results = Path(configs[0].results)
    digest = hashlib.sha256(f"{results.resolve()}{list(configs)}".encode()).hexdigest()
    return results / "slurm" / f"layernorm-{digest[:10]}"


class Missing:
    """The runs of a sweep that have no record, as far as they can be named before others are done."""

    def __init__(self, configs: Sequence[Config], audience: Audience) -> None:
        self.tell, self.plan = audience.tell, Plan(arms_of(configs))
        self.runs = list({run.folder.path: run for run in self.plan.first()}.values())
        self.known = {run.folder.path for run in self.runs}
        for path in self.known:
            self.tell(path)
        self.done = 0

    @property
    def total(self) -> int:
        return self.plan.total

    def look(self) -> None:
        """Read the records that have come since."""
        queue, self.runs = deque(self.runs), []
        while queue:
            run = queue.popleft()
            if (record := run.record()) is None:
                self.runs.append(run)
                continue
            self.done += 1
            self.tell(run.folder.path)
            for further in self.plan.after(run, record):
                if further.folder.path not in self.known:
                    self.known.add(further.folder.path)
                    self.tell(further.folder.path)
                    queue.append(further)

    def count(self) -> int:
        """With those evaluations that wait for their tuning."""
        return max(self.total - self.done, len(self.runs))

    def error(self, array: Array) -> SweepError:
        """Each run that failed, and each that no task has come to or ended."""
        found = [(run, run.folder.failure()) for run in self.runs]
        failed = [Failure(run, why["reason"], why["log"]) for run, why in found if why and why["sweep"] == array.token]
        lost = [run for run in self.runs if all(run is not failure.run for failure in failed)]
        details = [failure.text() for failure in failed]
        details += [f"{run.name}: not done by any task" for run in lost]
        details += [f"  | {line}" for line in array.log()] if lost else []
        counts = {"failed": len(failed), "not done": len(lost), "waiting for these": self.count() - len(self.runs)}
        parts = ", ".join(f"{number} {words}" for words, number in counts.items() if number)
        return SweepError(f"of {self.total} runs {parts}; the same command submits them again", "\n".join(details))


def watch(missing: Missing, array: Array, audience: Audience) -> None:
    """Tell how far it is, until no run is missing or no task is left."""
    pause, before, last = FASTEST, Counter(empty=1), 0.0
    with audience.tasks(missing.total) as show:
        while True:
            states = array.states()  # before the records: those of a task that has ended are there then
            missing.look()
            over = not missing.runs or states == Counter()
            news = ""
            if not over and states and (states != before or time.monotonic() - last > LINES_APART):
                news, before, last = line(missing, states), states, time.monotonic()
            show(
                missing.done, missing.done + missing.count(), "\n".join([*array.warnings(), *([news] if news else [])])
            )
            if over:
                break
            time.sleep(pause)
            pause = min(1.2 * pause, SLOWEST)
    if missing.runs:
        refresh(missing.runs)
        missing.look()


def line(missing: Missing, states: Counter[str]) -> str:
    """Such as `14 of 20 runs done; tasks: 3 RUNNING, 1 PENDING Resources`."""
    tasks = ", ".join(f"{number} {state}" for state, number in sorted(states.items(), reverse=True))
    return f"{missing.done} of {missing.total} runs done; tasks: {tasks}"


def refresh(runs: Sequence[Run]) -> None:
    """Have a network file system, which remembers for a minute what was not there, look at these folders anew."""
    for folder in {place for run in runs for place in (run.folder.path.parent, run.folder.path)}:
        with suppress(FileNotFoundError, PermissionError):
            folder.chmod(folder.stat().st_mode)


def left_alone(array: Array) -> str:
    """What Ctrl-C while watching means; nothing to say where the tasks have ended with it."""
    if array.options.cluster == "local" or array.states() == Counter():
        return ""
    number = array.identifier() or f"--name={array.folder.name}"
    return f"the tasks go on: scancel {number} stops them, the same command watches them again"
