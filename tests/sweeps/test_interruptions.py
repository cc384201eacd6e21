"""What is killed or stopped from outside: the fork server, the command itself. No run is lost, no process left."""

import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver, spawn
from pathlib import Path
from typing import Any

import pytest

from experiments.records.folder import CONFIG
from experiments.sweeps import sweep, workers
from experiments.sweeps.audience import Audience
from experiments.sweeps.failure import SweepError
from experiments.training import processes
from experiments.training.errors import told_in_one_line
from experiments.training.identity import Run
from tests.training.test_run import tiny


def once(act: Callable[[], None]) -> Audience:
    """Acts when it is told of the first run that has started."""
    acts = [act]
    return Audience(lambda folder: acts.pop()() if acts else None)


def kill_server() -> None:
    known: Any = forkserver._forkserver
    os.kill(known._forkserver_pid, signal.SIGKILL)
    os.waitid(os.P_PID, known._forkserver_pid, os.WEXITED | os.WNOWAIT)


def test_where_the_fork_server_is_killed_another_takes_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [Run(tiny(tmp_path, seed=seed, updates=1000)) for seed in range(3)]
    sweep.run_all(runs, n_jobs=2, audience=once(kill_server))
    assert all(run.record() for run in runs)
    told = capfd.readouterr().err.splitlines()
    assert told[0] == "the fork server had died; another one is started" and len(told) == 2
    assert told[1].startswith("3 runs in ")  # also the one at work when its server died


def test_where_no_fork_server_lives_what_runs_goes_on_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_for_good() -> None:
        kill_server()
        monkeypatch.setattr(spawn, "_python_exe", b"/bin/false")

    monkeypatch.setattr(processes, "PAUSES", (0.0, 0.0))
    at_work, *others = runs = [Run(tiny(tmp_path, seed=seed, updates=1000)) for seed in range(4)]
    with pytest.raises(SweepError) as raised:
        sweep.run_all(runs, n_jobs=2, audience=once(kill_for_good))
    assert "\n" not in str(raised.value) and "died 3 times in a row" in str(raised.value)
    assert at_work.record() and not any(other.record() for other in others)
    assert [other.folder.state for other in others] == ["failed", "missing", "missing"]  # one has been tried
    monkeypatch.undo()
    sweep.run_all(runs)
    assert all(run.record() for run in runs)


def test_a_run_whose_ranks_find_no_fork_server_is_tried_once_more() -> None:
    assert workers.ending(processes.ServerDied("no fork server")) == workers.AGAIN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_sweep_its_workers_and_their_locks(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [Run(tiny(tmp_path, seed=seed, updates=100_000)) for seed in range(2)]
    before = signal.getsignal(number)

    def interrupt() -> None:
        while runs[0].folder.stamp(CONFIG) is None:
            pass
        os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as ended:
        told_in_one_line(lambda: sweep.run_all(runs, audience=once(interrupt)))
    assert ended.value.code == 128 + number and signal.getsignal(number) in (before, signal.SIG_DFL)
    assert capfd.readouterr().err == "\ninterrupted; the same command goes on where this one stopped\n"
    assert not any(run.folder.held() for run in runs) and runs[0].folder.state == "stopped"
