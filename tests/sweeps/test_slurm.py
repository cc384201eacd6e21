"""Sweeps on a cluster: with its tasks as local processes, or with stand-ins for Slurm's commands; in seconds.

A real Slurm: scripts/slurm_check.py.
"""

import dataclasses
import shutil
import signal
import subprocess
import sys
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from data import text
from experiments.sweeps import cluster, compose, slurm, workers
from experiments.sweeps.arms import read_arms
from experiments.sweeps.failure import SweepError
from experiments.sweeps.options import register
from experiments.sweeps.slurm import Array, ClusterError, Options
from experiments.training import processes
from experiments.training.identity import Run
from experiments.training.run import run, run_alone
from experiments.training.schema import ConfigError, Optim, Tuning
from models import language_model
from tests.training.test_run import tiny

LOCAL = Options(cluster="local", cpus=1, runs_per_task=3, tasks=2)
REAL_WORK = workers.work


class FailingTask(slurm.Task):
    """A task whose run of seed 1 raises."""

    def __call__(self) -> None:
        with patch.object(workers, "work", fail_on_seed_1):
            super().__call__()


def fail_on_seed_1(log: int, pipe: Connection) -> None:
    def run_or_fail(wanted: Run) -> dict[str, Any]:
        if wanted.config.seed == 1:
            raise ValueError("seed 1")
        return run_alone(wanted)

    with patch("experiments.training.run.run_alone", run_or_fail):
        REAL_WORK(log, pipe)


@pytest.mark.parametrize(
    ("words", "n_jobs", "missing", "count"),
    [([], 0, 20, 8), ([], 0, 5000, 128), (["gpus=1"], 0, 20, 2), (["gpus=1"], 3, 20, 6), (["tasks=1"], 0, 20, 4)],
)
def test_a_sweep_is_as_fast_as_the_tasks_it_will_have(words: list[str], n_jobs: int, missing: int, count: int) -> None:
    chosen = compose.launcher(["hydra/launcher=slurm", *(f"hydra.launcher.{word}" for word in words)])
    assert chosen.at_once(missing, dataclasses.replace(tiny(Path()), n_jobs=n_jobs)) == count


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Stand-ins for Slurm's commands, first on the PATH."""
    for name, script in {"sbatch": "exit 1", "srun": "", "squeue": "", **scripts}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_tasks_divide_a_sweep_and_given_again_it_submits_what_is_missing_then_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    configs = [tiny(tmp_path, seed=seed, optim=Optim(), tuning=tuning, n_jobs=0) for seed in (0, 1, 2)]
    monkeypatch.setattr(slurm, "Task", FailingTask)
    with pytest.raises(SweepError, match="of 6 runs 1 failed") as raised:
        cluster.run_arms(configs, LOCAL)
    assert "layer-s1" in raised.value.details and "ValueError: seed 1" in raised.value.details
    assert len(list(tmp_path.rglob("*_submitted.pkl"))) == 2
    (arm,) = read_arms(configs)
    assert arm.counts() == {"done": 5, "failed": 1} and [run["config"]["seed"] for run in arm.outcome().runs] == [0, 2]
    submitted = []
    monkeypatch.setattr(Array, "submit", lambda array, configs, count, n_jobs: submitted.append(count))
    with pytest.raises(SweepError, match="of 6 runs 1 failed"):
        cluster.run_arms(configs, LOCAL)
    run(arm.evaluations[1].config)
    cluster.run_arms(configs, LOCAL)
    assert submitted == [1]


def test_a_task_compiles_what_its_node_lacks_and_what_it_warns_of_reaches_who_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(tmp_path, monkeypatch, compiler="echo 'ld: cannot find -lthis' >&2; exit 1")
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cluster, "check_sweep", lambda configs: None)  # here there are kernels
    config = tiny(
        tmp_path / "results",
        model=language_model.Config(hidden_size=4),
        data=text.Config(corpus="synthetic", sequence_length=4, validation_size=1000, test_size=1000),
        norm="layer",
    )
    cluster.run_arms([config, dataclasses.replace(config, seed=1)], LOCAL)
    told = "warning: recurrent layers run on the slow reference implementation: ld: cannot find -lthis"
    assert capsys.readouterr().err.count(told) == 1


def test_runs_that_no_task_has_ended_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path, monkeypatch, sbatch="echo Submitted batch job 12")
    with pytest.raises(SweepError, match="of 2 runs 2 not done; the same command submits them again") as raised:
        cluster.run_arms([tiny(tmp_path / "results", seed=seed) for seed in (0, 1)], Options())
    assert raised.value.details.count("not done by any task") == 2


def test_tasks_still_in_the_queue_are_watched_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = f"[ -e {tmp_path}/asked ] || echo RUNNING None; touch {tmp_path}/asked"
    commands(tmp_path, monkeypatch, squeue=once, sbatch=f"touch {tmp_path}/submitted")
    with pytest.raises(SweepError):
        cluster.run_arms([tiny(tmp_path / "results")], Options())
    assert not (tmp_path / "submitted").exists()


def test_a_queue_that_cannot_be_asked_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = Array(Options(), tmp_path / "sweep")
    commands(tmp_path, monkeypatch, squeue="printf 'RUNNING None\\nPENDING Resources\\nRUNNING None\\n'")
    assert array.states() == Counter({"RUNNING": 2, "PENDING Resources": 1})
    commands(tmp_path, monkeypatch, squeue="exit 1")
    assert array.states() is None
    commands(tmp_path, monkeypatch, squeue="")
    assert array.states() == Counter()


def test_what_sbatch_refuses_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "sbatch: error: invalid partition specified: x\nsbatch: error: Submission failed: no"
    commands(tmp_path, monkeypatch, sbatch=f"echo '{told}' >&2; exit 1")
    with pytest.raises(ClusterError, match=r"^sbatch: invalid partition specified: x; Submission failed: no$"):
        cluster.run_arms([tiny(tmp_path / "results")], Options(partition="x"))


def test_without_a_cluster_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ClusterError, match=r"^no sbatch here: log in"):
        cluster.run_arms([tiny(tmp_path)], Options())


def test_a_queue_that_does_not_answer_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands(tmp_path, monkeypatch, squeue="exit 1")
    with pytest.raises(ClusterError, match=r"^squeue does not answer"):
        cluster.run_arms([tiny(tmp_path / "results")], Options())
    assert not (tmp_path / "results" / "slurm").exists()


def test_options_are_typed_and_checked(tmp_path: Path) -> None:
    register()
    chosen = compose.launcher(["hydra/launcher=slurm", "hydra.launcher.cpus=2", "+hydra.launcher.additional.qos=long"])
    assert chosen.options == Options(cpus=2, additional={"qos": "long"})
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.tasks=0: must be at least 1"):
        cluster.run_arms([tiny(tmp_path)], Options(tasks=0))


def test_a_sweep_is_named_by_all_that_is_asked_for(tmp_path: Path) -> None:
    one, other = tiny(tmp_path), dataclasses.replace(tiny(tmp_path), seed=1)
    assert cluster.folder_for([one]) == cluster.folder_for([tiny(tmp_path)]) != cluster.folder_for([one, other])


def test_workers_outlive_the_signal_that_announces_the_end() -> None:
    with processes.ignored(*slurm.SIGNALS):
        process = subprocess.Popen(["sleep", "60"])
    for number in slurm.SIGNALS:
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_task_is_ready_for_signals_before_torch_is_imported() -> None:
    code = "import sys, experiments.sweeps.slurm; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
