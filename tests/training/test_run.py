"""Runs, records and sweeps: identity, idempotence, resume, isolation. On synthetic data, in seconds."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import data
import models
from data import mnist, text
from experiments.records import files
from experiments.records.folder import RunFolder, stable
from experiments.sweeps.arm import Arm
from experiments.sweeps.arms import run_arms
from experiments.training import schema
from experiments.training.run import run
from experiments.training.schema import Config, Optim, Tuning
from models import language_model, mlp, sequence_classifier


def tiny(results: Path, **changes: Any) -> Config:
    base = Config(
        model=mlp.Config(hidden_sizes=[8]),
        data=mnist.Config(source="synthetic", validation_size=50, test_size=50),
        optim=Optim(learning_rate=0.01),
        experiment="tiny",
        scale="smoke",
        updates=6,
        evaluations=2,
        batch_size=8,
        results=str(results),
        tracking="none",
        n_jobs=2,
    )
    return dataclasses.replace(base, **changes)


def recorded(results: Path) -> dict[str, Any]:
    """The only record below a folder."""
    (path,) = results.rglob("result.json")
    record = RunFolder(path.parent).record()
    assert record
    return record


def test_a_run_is_run_once(tmp_path: Path) -> None:
    first = run(tiny(tmp_path))
    path = files.run_folder(tmp_path, schema.scientific(tiny(tmp_path))) / "result.json"
    written = path.stat().st_mtime_ns
    assert run(tiny(tmp_path)) == first and path.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"norm": "none"}, {"batch_size": 4}, {"optim": Optim(learning_rate=0.02)}, {"updates": 7}]
)
def test_another_science_is_another_run(change: dict[str, Any], tmp_path: Path) -> None:
    base, other = schema.scientific(tiny(tmp_path)), schema.scientific(tiny(tmp_path, **change))
    assert files.run_id(base) != files.run_id(other)


def test_what_records_leave_unsaid_is_the_default() -> None:
    parts = (("model", models.available()), ("data", data.available()))
    later = {
        f"{part}.{option}": unset
        for part, nodes in parts
        for node in nodes.values()
        for option, unset in schema.later(node).items()
    }
    assert {"ranks": Config.ranks, **later} == files.UNSAID


@pytest.mark.parametrize("change", [{"n_jobs": 7}, {"tracking": "wandb"}, {"threads": 2}, {"device": "auto"}])
def test_infrastructure_is_not_part_of_a_runs_identity(change: dict[str, Any], tmp_path: Path) -> None:
    base, other = schema.scientific(tiny(tmp_path)), schema.scientific(tiny(tmp_path, **change))
    assert files.run_id(base) == files.run_id(other)


def test_the_users_file_counts_by_content_not_by_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("to be or not to be " * 200)
    second.write_text(first.read_text())
    one, two = (text.identified(text.Config(path=str(path))) for path in (first, second))
    model = language_model.Config(hidden_size=4)
    ids = [files.run_id(schema.scientific(tiny(tmp_path, model=model, data=data))) for data in (one, two)]
    assert ids[0] == ids[1]
    second.write_text("that is the question " * 200)
    changed = schema.scientific(tiny(tmp_path, model=model, data=text.identified(text.Config(path=str(second)))))
    assert files.run_id(changed) != ids[0]


def test_results_do_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    alone = run(tiny(tmp_path / "alone", seed=1))
    run(tiny(tmp_path / "after", norm="batch"))
    assert stable(run(tiny(tmp_path / "after", seed=1))) == stable(alone)


def test_norms_of_single_values_are_undefined_and_a_wild_rate_diverges(tmp_path: Path) -> None:
    ghosts = mlp.Config(hidden_sizes=[8], ghost_size=1)
    undefined: list[dict[str, Any]] = [
        {"norm": "batch", "batch_size": 1},
        {"norm": "batch", "model": ghosts},
        {"norm": "instance"},
    ]
    assert [run(tiny(tmp_path, **changes))["status"] for changes in undefined] == ["undefined"] * 3
    wild = Optim(name="sgd", learning_rate=1e30, schedule="constant")
    record = run(tiny(tmp_path, norm="none", optim=wild, updates=20))
    assert record["status"] == "diverged" and record["final"]["train_loss"] is None


def test_tuning_runs_never_see_the_test_set(tmp_path: Path) -> None:
    config = tiny(tmp_path, optim=Optim(), tuning=Tuning([1e-7, 1e-2, 1e4], [1000], []), updates=60)
    arm = Arm(config, [0])
    trials = [run(trial.config) for trial in arm.trials]
    assert len(trials) == 3 and not [name for trial in trials for name in trial["final"] if name.startswith("test")]
    arm.look()
    assert [run.config.optim.learning_rate for run in arm.evaluations] == [1e-2]


def test_a_tuning_seed_is_never_evaluated_and_a_tuning_record_never_taken_for_an_evaluation(tmp_path: Path) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    with pytest.raises(schema.ConfigError, match="seed=1000 is one of"):
        run_arms([tiny(tmp_path, seed=1000, optim=Optim(), tuning=tuning)])
    trial = tiny(tmp_path, seed=1000, tuning=tuning)
    assert "test_loss" not in run(trial)["final"]
    assert "test_loss" in run(dataclasses.replace(trial, tuning=Tuning(seeds=[7])))["final"]


def test_variants_of_the_test_split_tell_what_they_cost(tmp_path: Path) -> None:
    rows = mnist.Config(source="synthetic", layout="rows", test_lengths=[35], validation_size=50, test_size=50)
    final = run(tiny(tmp_path, model=sequence_classifier.Config(hidden_size=4), data=rows))["final"]
    assert final["test_rows_35_error_increase"] == pytest.approx(final["test_rows_35_error"] - final["test_error"])


def test_metrics_are_flushed_as_the_run_goes_and_null_where_not_finite(tmp_path: Path) -> None:
    config, seen = tiny(tmp_path), []
    path = files.run_folder(tmp_path, schema.scientific(config)) / "metrics.jsonl"
    run(config, lambda history: seen.append(len(path.read_text().splitlines())))
    assert seen == [0, 1, 2]
    assert files.finite({"loss": [float("nan"), 1.0]}) == {"loss": [None, 1.0]}


def test_killed_and_started_again_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = {"updates": "4000", "evaluations": "40", "batch_size": "8", "checkpoint_seconds": "0.05"}
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        "model=mlp",
        "model.hidden_sizes=[32]",
        "data.source=synthetic",
        "tracking=none",
        "optim.learning_rate=0.01",
        *(f"{k}={v}" for k, v in config.items()),
    ]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, f"results={killed}"], stdout=subprocess.DEVNULL)
    while not list(killed.rglob("checkpoint.pt")) or len(next(killed.rglob("metrics.jsonl")).read_text()) < 300:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(killed.rglob("result.json"))
    for folder in (killed, whole):
        subprocess.run([*command, f"results={folder}"], check=True, stdout=subprocess.DEVNULL)
    resumed, uninterrupted = (recorded(folder) for folder in (killed, whole))
    assert stable(resumed) == stable(uninterrupted)
    assert not list(killed.rglob("checkpoint.pt"))


SWEEP = [
    sys.executable,
    "-m",
    "experiments.run",
    "-m",
    "model.hidden_sizes=[16]",
    "data.source=synthetic",
    "tracking=none",
    "optim.learning_rate=0.01",
    "norm=none,layer",
]


def test_the_command_line_sweeps_lists_and_ranges(tmp_path: Path) -> None:
    command = [*SWEEP, "seed=range(0,2)", "updates=4", f"results={tmp_path}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.count(" 2/2 ") == 2  # a line for each arm, with its curve
    lines = done.stdout.splitlines()
    assert sorted(line.split()[0].split("/")[1][:-11] for line in lines) == [
        "layer-s0",
        "layer-s1",
        "none-s0",
        "none-s1",
    ]
    assert all("completed" in line and "test_error=" in line for line in lines)


def test_a_sweep_stopped_by_ctrl_c_says_so_at_once_and_goes_on_later(tmp_path: Path) -> None:
    command = [*SWEEP, "seed=0,1", "updates=8000", "batch_size=1", f"results={tmp_path}"]
    # A shell starts its background jobs with SIGINT ignored, and so may be whoever runs these tests.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.rglob("metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130 and "the same command goes on where this one stopped" in told
    assert told.strip().count("\n") == 0
    subprocess.run([*command, "updates=4"], check=True, stdout=subprocess.DEVNULL)
