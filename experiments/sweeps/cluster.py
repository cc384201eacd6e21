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

from experiments.dashboards.progress import LINES_APART, bar
from experiments.dashboards.wandb.process import Tell, mirroring
from experiments.records.folder import read_failure
from experiments.sweeps.arms import planned
from experiments.sweeps.failure import Failure, SweepError
from experiments.sweeps.preflight import check_sweep
from experiments.sweeps.slurm import Array, ClusterError, Options
from experiments.training import schema
from experiments.training.identity import folder_of, read
from experiments.training.schema import Config

FASTEST, SLOWEST = 0.5, 15.0  # seconds from look to look, ever longer


def run_arms(configs: Sequence[Config], options: Options) -> None:
    """As `arms.run_arms`, on a cluster. Raises SweepError at the end if runs failed or are missing."""
    schema.check(options, "hydra.launcher.")
    check_sweep([replace(config, device="cpu") for config in configs])  # GPUs are where the tasks will be
    first = configs[0]
    with mirroring(first.tracking, first.results) as tell:  # here: nodes that compute often have no network
        run_missing([replace(config, tracking="none") for config in configs], options, tell)


def run_missing(configs: Sequence[Config], options: Options, tell: Tell) -> None:
    """Submit what has no record yet, unless it is in the queue, and watch; `tell` gets each run's folder."""
    missing, array = Missing(configs, tell), Array(options, folder_for(configs))
    missing.look()
    if not missing.runs:
        return
    array.check()
    found = array.states()
    if found is None:
        raise ClusterError("squeue does not answer, so tasks of this sweep may be in the queue; try again")
    if not found:
        count = min(math.ceil(missing.count() / options.runs_per_task), options.tasks)
        array.submit(configs, count, configs[0].n_jobs or (1 if options.gpus else options.cpus))
    print(f"{'found in the queue' if found else 'submitted'}: tasks with logs in {array.folder}", file=sys.stderr)
    try:
        watch(missing, array)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(left_alone(array)) from None
    if missing.runs:
        raise missing.error(array)


def folder_for(configs: Sequence[Config]) -> Path:
    """Where the sweep of these configurations keeps what the cluster needs; its name is that of the sweep."""
    results = Path(configs[0].results)
    digest = hashlib.sha256(f"{results.resolve()}{list(configs)}".encode()).hexdigest()
    return results / "slurm" / f"layernorm-{digest[:10]}"


class Missing:
    """The runs of a sweep that have no record, as far as they can be named before others are done."""

    def __init__(self, configs: Sequence[Config], tell: Tell) -> None:
        self.tell = tell
        first, self.total, self.after = planned(configs)
        self.runs = list({folder_of(config): config for config in first}.values())
        self.known = {folder_of(config) for config in self.runs}
        for folder in self.known:
            tell(folder)
        self.done = 0

    def look(self) -> None:
        """Read the records that have come since."""
        queue, self.runs = deque(self.runs), []
        while queue:
            config = queue.popleft()
            if (record := read(config)) is None:
                self.runs.append(config)
                continue
            self.done += 1
            self.tell(folder_of(config))
            for further in self.after(config, record):
                if folder_of(further) not in self.known:
                    self.known.add(folder_of(further))
                    self.tell(folder_of(further))
                    queue.append(further)

    def count(self) -> int:
        """With those evaluations that wait for their tuning."""
        return max(self.total - self.done, len(self.runs))

    def error(self, array: Array) -> SweepError:
        """Each run that failed, and each that no task has come to or ended."""
        found = [(config, read_failure(folder_of(config))) for config in self.runs]
        failed = [(config, told) for config, told in found if told and told["sweep"] == array.token]
        lost = [config for config in self.runs if all(config is not other for other, _ in failed)]
        details = [Failure(config, told["reason"], told["log"]).told() for config, told in failed]
        details += [f"{config.experiment}/{folder_of(config).name}: not done by any task" for config in lost]
        details += [f"  | {line}" for line in array.log()] if lost else []
        waiting = self.count() - len(self.runs)
        counts = {"failed": len(failed), "not done": len(lost), "waiting for these": waiting}
        told = ", ".join(f"{number} {words}" for words, number in counts.items() if number)
        return SweepError(f"of {self.total} runs {told}; the same command submits them again", "\n".join(details))


def watch(missing: Missing, array: Array) -> None:
    """Tell how far it is, until no run is missing or no task is left."""
    pause, told, last = FASTEST, Counter(empty=1), 0.0
    with bar() as progress:
        task = progress.add_task("runs", total=missing.total)
        while True:
            states = array.states()  # before the records: those of a task that has ended are there then
            missing.look()
            progress.update(task, completed=missing.done, total=missing.done + missing.count())
            if not missing.runs or states == Counter():
                break
            if states is not None and (states != told or time.monotonic() - last > LINES_APART):
                told, last = states, time.monotonic()
                progress.console.print(line(missing, states), soft_wrap=True)
            time.sleep(pause)
            pause = min(1.2 * pause, SLOWEST)
    if missing.runs:
        refresh(missing.runs)
        missing.look()


def line(missing: Missing, states: Counter[str]) -> str:
    """Such as `14 of 20 runs done; tasks: 3 RUNNING, 1 PENDING Resources`."""
    tasks = ", ".join(f"{number} {state}" for state, number in sorted(states.items(), reverse=True))
    return f"{missing.done} of {missing.total} runs done; tasks: {tasks}"


def refresh(configs: Sequence[Config]) -> None:
    """Have a network file system, which remembers for a minute what was not there, look at these folders anew."""
    for folder in {place for config in configs for place in (folder_of(config).parent, folder_of(config))}:
        with suppress(FileNotFoundError, PermissionError):
            folder.chmod(folder.stat().st_mode)


def left_alone(array: Array) -> str:
    """What Ctrl-C while watching means; nothing to say where the tasks have ended with it."""
    if array.options.cluster == "local" or array.states() == Counter():
        return ""
    number = array.identifier() or f"--name={array.folder.name}"
    return f"the tasks go on: scancel {number} stops them, the same command watches them again"
