"""Test sweeps on a real Slurm, brought up on this machine and taken down again: python scripts/slurm_check.py

Needs root on Debian or Ubuntu; takes five to ten minutes, most of them for Slurm's time limit. What
tests/sweeps/test_slurm.py cannot: queues, lost workers and tasks, time limits, requeues.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import run as cli
from experiments.records.folder import RunFolder, stable
from experiments.sweeps import slurm, workers
from experiments.sweeps.options import register
from experiments.training import run
from experiments.training.errors import told_in_one_line
from experiments.training.identity import Run

SLURM = ROOT / "scripts" / "slurm_local.sh"
SWEEP = ["-m", "experiments.run", "-m", "data.source=synthetic", "model.hidden_sizes=[16]", "tracking=none"]
SWEEP += ["optim.learning_rate=0.01", "norm=layer"]
ON_SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus=1"]
RAISES, KILLED = 7, 11  # seeds
REAL_WORK = workers.work


class FailingTask(slurm.Task):
    """A task with two runs that fail, in a worker's own process."""

    def __call__(self) -> None:
        with patch.object(workers, "work", fail_on_some_seeds):
            super().__call__()


def fail_on_some_seeds(log: int, pipe: Connection) -> None:
    with patch("experiments.training.run.run_alone", run_or_fail):
        REAL_WORK(log, pipe)


def run_or_fail(wanted: Run) -> dict[str, Any]:
    if wanted.config.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if wanted.config.seed == RAISES:
        raise ValueError(f"seed {RAISES} raises")
    return run.run_alone(wanted)


def failing_sweep(arguments: list[str]) -> None:
    """The command `python <arguments>` with two runs that fail."""
    register()
    with patch.object(slurm, "Task", FailingTask), patch.object(sys, "argv", arguments[2:]):
        told_in_one_line(cli.main)


@contextmanager
def step(title: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"ok  {title}  ({time.monotonic() - started:.0f} s)", flush=True)


def command(results: Path, *options: str) -> list[str]:
    return [sys.executable, *SWEEP, f"results={results}", *options]


def finish(started: "subprocess.Popen[str]") -> tuple[int, str, str]:
    told, errors = started.communicate(timeout=400)
    return started.returncode, told, errors


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(arguments, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check(true: bool, told: Any) -> None:
    if not true:
        sys.exit(f"FAILED: {told}")


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"waited in vain: {condition}")
        time.sleep(0.1)


def results_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/result.json")}


def tasks_submitted(folder: Path) -> int:
    return len(list(folder.glob("slurm/*/*_submitted.pkl")))


def failed_runs_are_told_and_run_again(results: Path) -> None:
    sweep = command(results, *ON_SLURM, "seed=range(0,20)", "updates=20", "hydra.launcher.runs_per_task=10")
    code = "from scripts.slurm_check import failing_sweep; import sys; failing_sweep(sys.argv)"
    with step("20 runs, one raises, one is killed twice: 18 done, both told, exit code 1"):
        status, told, errors = finish(start([sys.executable, "-c", code, *sweep[1:]]))
        check(status == 1 and len(results_in(results)) == 18 == told.count("completed"), (status, told, errors))
        check(f"ValueError: seed {RAISES} raises" in errors and "its process was killed" in errors, errors)
        check("error: of 20 runs 2 failed" in errors, errors)
    print(errors)
    with step("the same command runs the two, and no other"):
        before, submitted = results_in(results), tasks_submitted(results)
        status, told, errors = finish(start(sweep))
        after = results_in(results)
        check(status == 0 and told.count("completed") == 20, (status, told, errors))
        check(len(after) == 20 and before.items() <= after.items(), after)
        check(tasks_submitted(results) == submitted + 1, "more than one task for two runs")
    with step("once more: nothing is submitted"):
        check(finish(start(sweep))[0] == 0 and tasks_submitted(results) == submitted + 1, "submitted again")


def a_run_longer_than_the_time_limit_ends_with_the_same_bits(results: Path) -> None:
    local, requeued = results / "local", results / "requeued"
    longer = ["seed=0", "updates=200000", "batch_size=1", "checkpoint_seconds=5"]
    # Slurm sends the signal 100 seconds before the end of the three minutes, or up to a minute earlier.
    limit = ["hydra.launcher.time_minutes=3", "+hydra.launcher.additional.signal=USR2@100"]
    with step("a run longer than its time limit is requeued, goes on, and ends with the bits of a local one"):
        here, there = start(command(local, *longer)), start(command(requeued, *longer, *ON_SLURM, *limit))
        for process in (here, there):
            status, told, errors = finish(process)
            check(status == 0, (told, errors))
        [log] = requeued.glob("slurm/*/*_log.out")
        requeues = log.read_text().count("Requeued job")
        check(requeues > 0, log.read_text())
        one, other = (RunFolder(next(iter(results_in(folder))).parent).record() for folder in (local, requeued))
        check(stable(one or {}) == stable(other or {}), "other bits")
    print(errors, f"requeued {requeues} times", sep="")


def whoever_watches_may_go_and_lost_tasks_are_made_up_for(results: Path) -> None:
    options = ["seed=range(0,12)", "updates=20000", "batch_size=1", "hydra.launcher.runs_per_task=1"]
    sweep = command(results, *options, *ON_SLURM, "hydra.launcher.tasks=2")
    with step("Ctrl-C leaves the tasks running, the same command finds them again"):
        watching = start(sweep)
        until(lambda: len(results_in(results)) >= 2)
        watching.send_signal(signal.SIGINT)
        status, _, errors = finish(watching)
        check(status == 130 and "scancel" in errors, (status, errors))
        number = errors.split("scancel ")[1].split()[0]
        watching = start(sweep)
        assert watching.stderr
        first = watching.stderr.readline()
        check("found in the queue" in first and tasks_submitted(results) == 2, first)
    print(errors)
    with step("all tasks cancelled: told, exit code 1"):
        subprocess.run(["scancel", number], check=True)
        status, _, errors = finish(watching)
        check(status == 1 and "not done by any task" in errors and len(results_in(results)) < 12, (status, errors))
    print(errors)
    with step("the same command makes up for it, though one task is killed"):
        watching = start(sweep)
        until(lambda: len(tasks("RUNNING")) == 2)
        subprocess.run(["scancel", "--signal=KILL", "--full", tasks("RUNNING")[0]], check=True)
        status, _, errors = finish(watching)
        check(status == 0 and len(results_in(results)) == 12, (status, errors))


def tasks(state: str) -> list[str]:
    return subprocess.check_output(["squeue", "--me", "--array", "-h", f"-t{state}", "-o%i"], text=True).split()


def refusals_are_one_line(results: Path) -> None:
    with step("a partition that does not exist: one line"):
        status, _, errors = finish(start(command(results, *ON_SLURM, "seed=0", "hydra.launcher.partition=nowhere")))
        check(status == 1 and errors.count("\n") == 1 and "invalid partition" in errors, errors)
    print(errors)


def main() -> None:
    up = subprocess.check_output([SLURM, "up"], text=True)
    os.environ["SLURM_CONF"] = up.strip().removeprefix("export SLURM_CONF=")
    results = Path(tempfile.mkdtemp(prefix="slurm-check-"))
    try:
        refusals_are_one_line(results / "refused")
        failed_runs_are_told_and_run_again(results / "failed")
        whoever_watches_may_go_and_lost_tasks_are_made_up_for(results / "lost")
        a_run_longer_than_the_time_limit_ends_with_the_same_bits(results / "limit")
    finally:
        subprocess.run([SLURM, "down"], check=True)
    shutil.rmtree(results)


if __name__ == "__main__":
    main()
