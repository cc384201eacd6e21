"""Sweeps: isolation, a second try, shared folders, the order of runs, what is told."""

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

import data
from data import DataError, text
from experiments.records import files
from experiments.records.folder import CONFIG, FAILED, KEPT, RESULT, RunFolder, stable
from experiments.records.locks import Busy
from experiments.reports.png import has_fonts
from experiments.sweeps import collect, failure, sweep, workers
from experiments.sweeps.arm import Arm, Plan, arms_of
from experiments.sweeps.arms import read_arms, run_arms, run_tuned
from experiments.sweeps.audience import QUIET, Audience, Look
from experiments.sweeps.order import Order
from experiments.training import schema
from experiments.training.identity import Run
from experiments.training.run import run, run_alone
from experiments.training.schema import Optim, Tuning
from models import language_model
from tests.training.test_run import tiny

REAL_WORK = workers.work


def fail_on_some_seeds(log: int, pipe: Connection) -> None:
    """In the worker's own process: seed 2 kills it, seed 3 raises, seed 4 wants more memory than there is."""

    def run_or_fail(wanted: Run) -> dict[str, Any]:
        config = wanted.config
        if config.seed == 2:
            os._exit(9)
        if config.seed == 3:
            raise ValueError("seed 3")
        if config.seed == 4:
            resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
            torch.ones(2**34)
        if config.seed == 5:
            print("a warning", file=sys.stderr)
        return run_alone(wanted)

    with patch("experiments.training.run.run_alone", run_or_fail):
        REAL_WORK(log, pipe)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "work", fail_on_some_seeds)


def test_a_sweep_tunes_then_evaluates_and_failing_runs_touch_no_other(
    failing: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    configs = [tiny(tmp_path, seed=seed, optim=Optim(), tuning=tuning) for seed in range(6)]
    with pytest.raises(failure.SweepError) as raised:
        run_arms(configs, n_jobs=2)
    assert "3 of 9 runs failed" in str(raised.value)
    told = {int(part.split("-s")[1][0]): part for part in ("\n" + raised.value.details).split("\ntiny/")[1:]}
    assert sorted(told) == [2, 3, 4]
    assert "its process died with exit code 9" in told[2]
    assert "ValueError: seed 3" in told[3] and "| Traceback" in told[3]
    assert "can't allocate memory" in told[4]
    for seed, part in told.items():
        assert f"again: layernorm run resume=tiny/layer-s{seed}-" in part
    rows = collect.collect_rows({("tiny", "layer"): Arm(configs[0], range(6))})
    evaluated = [("evaluate", seed) for seed in (0, 1, 5)]
    assert [(row["role"], row["seed"]) for row in rows] == [("tune", 1000)] * 3 + evaluated
    assert "layer-s5-" in (said := capfd.readouterr().err) and ": a warning" in said


def name_the_process(log: int, pipe: Connection) -> None:
    def run_and_warn(wanted: Run) -> dict[str, Any]:
        warnings.warn(f"by process {os.getpid()}", stacklevel=1)
        return run_alone(wanted)

    with patch("experiments.training.run.run_alone", run_and_warn):
        REAL_WORK(log, pipe)


def test_a_process_takes_run_after_run_each_as_if_it_were_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "work", name_the_process)
    monkeypatch.setattr(workers, "RUNS", 2)
    configs = [tiny(tmp_path / norm, norm=norm, seed=seed) for norm in ("layer", "batch") for seed in (0, 1)]
    sweep.run_all([Run(config) for config in configs], n_jobs=1)
    pids = re.findall(r"-s(\d)-\w+: .*by process (\d+)", capfd.readouterr().err)
    assert len(pids) == 4 and len({pid for _, pid in pids}) == 2
    for config in configs:
        alone = run(dataclasses.replace(config, results=str(tmp_path / "alone")))
        assert (found := Run(config).record()) and found["final"] == alone["final"]


def test_arms_that_share_their_tuning_are_all_evaluated(tmp_path: Path) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    arms = [tiny(tmp_path, optim=Optim(), tuning=tuning, evaluations=evaluations) for evaluations in (2, 3)]
    run_arms(arms)
    assert [len(arm.outcome().runs[0]["history"]) for arm in read_arms(arms)] == [2, 3]


@pytest.mark.parametrize("options", [{"debug": "nan"}, {"resume": "layer-s0-0"}])
def test_what_is_for_single_runs_is_refused_in_a_sweep(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(schema.ConfigError, match="is for single runs; leave it out, or -m"):
        run_arms([tiny(tmp_path, **options)])


def test_before_the_first_run_obstacles_are_looked_for_and_without_one_none_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_arms([tiny(tmp_path)])
    monkeypatch.setattr(data, "load", lambda config, **options: 1 / 0)
    run_arms([tiny(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        run_arms([tiny(tmp_path), tiny(tmp_path, seed=1)])


def test_what_a_killed_process_left_in_the_folder_of_a_finished_run_goes(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    run(config)
    for name in (CONFIG, "lock", "checkpoint.pt"):
        (Run(config).folder.path / name).touch()
    sweep.run_all([Run(config)])
    assert {path.name for path in Run(config).folder.path.iterdir()} == set(KEPT)


def test_what_failed_in_a_sweep_is_not_tried_again_by_its_other_tasks_but_by_the_next(tmp_path: Path) -> None:
    wanted = Run(tiny(tmp_path))
    wanted.folder.fail({"sweep": "1", "attempts": 2, "reason": "no reason", "log": []})
    with pytest.raises(failure.SweepError) as raised:
        sweep.run_all([wanted], token="1")
    assert "no reason" in raised.value.details and wanted.record() is None
    sweep.run_all([wanted], token="2")
    assert wanted.record() and not (wanted.folder.path / FAILED).exists()


def test_two_sweeps_on_one_folder_divide_the_work(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "experiments.run", "-m", "model.hidden_sizes=[16]", "data.source=synthetic"),
        *("tracking=none", "optim.learning_rate=0.01", "norm=none,layer", "seed=range(0,8)", "n_jobs=2"),
        *("updates=200", f"results={tmp_path}"),
    ]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], told
    here = [int(error.split(" runs in ")[0].split()[-1]) if " runs in " in error else 0 for _, error in told]
    assert sum(here) == 16
    assert len(list(tmp_path.rglob("result.json"))) == 16
    assert all(len(out.splitlines()) == 16 for out, _ in told)
    made = {str(path): path.suffix for path in (tmp_path / "sweeps").iterdir()}
    assert sorted(made.values()) == sorted([".csv", ".svg", *([".png"] if has_fonts() else [])])
    assert all(made.keys() <= {*error.splitlines()} for _, error in told)
    left = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert left == {"result.json", "metrics.jsonl"}


def test_a_run_in_other_hands_is_refused_alone_and_waited_for_in_a_sweep(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    wanted = Run(config)
    with wanted.folder.hold():
        assert wanted.folder.state == "running"
        with pytest.raises(Busy, match="is being run by another process"):
            run(config)
    assert not wanted.folder.held()
    command = f"""
import sys, time, pathlib
from experiments.records.folder import RunFolder
with RunFolder(pathlib.Path({str(wanted.folder.path)!r})).hold():
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin and other.stdout and other.stdout.readline()
    started = sweep.Sweep(lambda run, record: (), lambda: 1, (0, 1), "", QUIET)
    started.add([wanted])
    assert not started.fill() and started.elsewhere
    started.look_elsewhere()
    assert started.elsewhere
    other.stdin.close()  # it ends, and with it the lock
    other.wait()
    sweep.run_all([wanted])
    assert wanted.record()


def test_each_run_is_heard_of_as_it_ends(tmp_path: Path) -> None:
    configs, heard = [tiny(tmp_path, seed=seed) for seed in range(3)], list[str]()

    @contextmanager
    def watched(sweep: object) -> Iterator[Look]:
        yield lambda: seen.append(len(heard))

    seen = list[int]()
    run_arms(configs, n_jobs=1, audience=Audience(display=watched, hear=lambda record: heard.append(record["run"])))
    assert sorted(heard) == sorted(Run(config).id for config in configs)
    assert seen == sorted(seen) and {0, 1, 2, 3} == {*seen}
    run_arms(configs, audience=Audience(hear=lambda record: heard.append(record["run"])))  # found done
    assert len(heard) == 6


def test_a_damaged_record_is_named_and_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(tmp_path)
    first = run(config)
    path = Run(config).folder.path / RESULT
    whole = path.read_text()
    for damaged in (whole[:300], whole.replace('"completed"', '"diverged"'), "", "[]"):
        path.write_text(damaged)
        assert Run(config).record() is None and Run(config).folder.state == "unreadable"
        assert stable(run(config)) == stable(first)
        assert f"{path}: damaged or another run's, the run is done again" in capsys.readouterr().err
    assert stable(RunFolder(path.parent).record() or {}) == stable(first)


def test_an_interrupted_run_is_resumed_by_its_id(tmp_path: Path) -> None:
    from experiments.run import recorded

    config = tiny(tmp_path, seed=3)
    with pytest.raises(schema.ConfigError, match=r"resume=layer-s3-0: no such run below"):
        recorded(str(tmp_path), "layer-s3-0")
    whole = run(config)
    name = Run(config).id
    with pytest.raises(schema.ConfigError, match="this run is done"):
        recorded(str(tmp_path), name)
    (Run(config).folder.path / RESULT).unlink()
    with pytest.raises(InterruptedError):
        run(config, interrupt)
    assert Run(config).folder.state == "stopped"
    again = recorded(str(tmp_path), f"tiny/{name}")
    assert again == config and stable(run(again)) == stable(whole)


@pytest.mark.parametrize("experiment", ["../../../escape", "/tmp/escape", "..", "tiny/../../escape"])
def test_what_a_start_file_says_leads_nowhere_else(experiment: str, tmp_path: Path) -> None:
    """Nor does the name of an experiment, nor a link in the place of a run's folder."""
    from experiments.run import recorded

    config, results = tiny(tmp_path / "results"), tmp_path / "results"
    with pytest.raises(files.SuiteError, match="a name without /"):
        Run(tiny(results, experiment=experiment))
    with pytest.raises(InterruptedError):
        run(config, interrupt)
    folder = Run(config).folder.path
    start = json.loads((folder / CONFIG).read_text())
    start["options"] |= {"experiment": experiment, "results": str(tmp_path)}
    (folder / CONFIG).write_text(json.dumps(start))
    with pytest.raises(files.SuiteError, match=r"another run's|a name without /"):
        recorded(str(results), folder.name)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(files.SuiteError, match="is a link that leaves"):
        recorded(str(results), folder.name)


def interrupt(history: list[dict[str, float]]) -> None:
    raise InterruptedError


def test_an_arm_tunes_chooses_once_and_evaluates(tmp_path: Path) -> None:
    """The rate is kept when it is chosen; who reads asks for it there, or of the tuning runs themselves."""
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    configs = [tiny(tmp_path, optim=Optim(), tuning=tuning, seed=seed) for seed in (0, 1, 1)]
    (arm,) = arms_of(configs)
    assert arm.seeds == [0, 1] and not arm.evaluations and Plan([arm]).total == 3 + 2
    run_arms(configs)
    (kept,) = (tmp_path / "rates").rglob("*.json")
    (seen,) = read_arms(configs)
    losses = {trial.config.optim.learning_rate: (trial.kept or {})["final"]["validation_loss"] for trial in seen.trials}
    best = min(losses, key=lambda rate: losses[rate] or 0.0)
    assert {run.config.optim.learning_rate for run in seen.evaluations} == {best}
    assert seen.counts() == {"done": 5} and len(seen.outcome().runs) == 2
    for damage in ("", "[]", '{"learning_rate": null}'):
        kept.write_text(damage)
        assert read_arms(configs)[0].counts() == {"done": 5}
    (seen.trials[0].folder.path / RESULT).unlink()
    kept.unlink()
    assert read_arms(configs)[0].counts() == {"done": 2, "missing": 3}


def test_a_run_reads_the_text_its_configuration_was_made_for_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is resumed from, and whatever becomes of the file during a sweep."""
    from experiments.run import recorded

    monkeypatch.chdir(tmp_path)
    own, elsewhere = tmp_path / "mine.txt", tmp_path / "elsewhere" / "mine.txt"
    own.write_text("to be or not to be " * 200)
    source = text.identified(text.Config(path="mine.txt", sequence_length=8, validation_size=100, test_size=100))
    configs = [tiny(tmp_path, model=language_model.Config(hidden_size=4), data=source, seed=seed) for seed in range(3)]
    with pytest.raises(InterruptedError):
        run(configs[0], interrupt)
    elsewhere.parent.mkdir()
    elsewhere.write_text("that is the question " * 200)
    monkeypatch.chdir(elsewhere.parent)
    assert run(recorded(str(tmp_path), Run(configs[0]).id))["data_digest"] == source.digest

    @contextmanager
    def overwritten(sweep: object) -> Iterator[Look]:
        own.write_text(elsewhere.read_text())  # after the sweep has looked at it, before the first run
        yield lambda: None

    with pytest.raises(failure.SweepError) as raised:
        run_arms(configs, n_jobs=1, audience=Audience(display=overwritten))
    assert raised.value.details.count("mine.txt is another text than this run was made for") >= 2
    assert [Run(config).record() is not None for config in configs] == [True, False, False]
    with pytest.raises(DataError, match="is another text"):
        run(recorded(str(tmp_path), Run(configs[1]).id))


def test_a_run_that_is_refused_is_none_that_was_stopped(tmp_path: Path) -> None:
    own = tmp_path / "mine.txt"
    own.write_text("to be or not to be " * 200)
    source = text.identified(text.Config(path=str(own), sequence_length=8, validation_size=100, test_size=100))
    config = tiny(tmp_path, model=language_model.Config(hidden_size=4), data=source)

    def overwrite(folder: Path) -> None:  # after the command has looked at the text, before the run reads it
        own.write_text("that is the question " * 200)

    def interrupt_later(history: list[dict[str, float]]) -> None:
        if history:
            raise InterruptedError

    for state in ("missing", "stopped"):
        with pytest.raises(DataError, match="is another text"):
            run_tuned(config, tell=overwrite)
        assert Run(config).folder.state == state  # what is there of an earlier attempt stays
        own.write_text("to be or not to be " * 200)
        with pytest.raises(InterruptedError):
            run_tuned(config, interrupt_later)


def test_no_copied_file_changes_the_choice_of_a_rate(tmp_path: Path) -> None:
    """Neither another trial's record in a trial's place nor the choice that was made for another arm."""
    tuning = Tuning([1e-4, 1e-2, 1e2], [1000], [])
    arms = [tiny(tmp_path, norm=norm, optim=Optim(), tuning=tuning, updates=40) for norm in ("layer", "none")]
    run_arms(arms)
    layer, none = read_arms(arms)
    worst, best, _ = [trial.folder.path / RESULT for trial in layer.trials]
    worst.write_bytes(best.read_bytes())
    kept = layer.choice_file.read_text()
    layer.choice_file.unlink()
    assert read_arms(arms)[0].counts() == {"done": 2, "unreadable": 1, "missing": 1}  # no rate can be chosen
    run_arms(arms)
    assert layer.choice_file.read_text() == kept
    none.choice_file.write_text(kept.replace("0.01", "7.0"))
    assert [run.config for run in read_arms(arms)[1].evaluations] == [run.config for run in none.evaluations]


def test_long_runs_go_first_and_unknown_ones_before_them(tmp_path: Path) -> None:
    quick, slow, new = (Run(tiny(tmp_path, norm=norm)) for norm in ("none", "layer", "batch"))
    order = Order()
    for one in (quick, slow):
        order.timed(one, 1.0 if one is quick else 9.0)
    for one in (quick, slow, quick, new):
        order.push(one)
    order.push(quick, last=True)
    assert order.expected(1) == pytest.approx(1 + 1 + 9 + 5 + 2 * 5)  # an unknown kind takes the mean, 5
    assert list(drained(order)) == [new, slow, quick, quick, quick]


def drained(order: Order) -> Iterator[Run]:
    while (one := order.pop()) is not None:
        yield one


def test_each_of_several_tasks_begins_with_kinds_of_its_own(tmp_path: Path) -> None:
    kinds = [Run(tiny(tmp_path, updates=updates)) for updates in (1, 2, 3, 4)]
    firsts = []
    for k in range(2):
        order = Order(share=(k, 2))
        for one in kinds:
            order.push(one)
        firsts.append([one.config.updates for one in drained(order)])
    assert firsts == [[1, 3, 2, 4], [2, 4, 1, 3]]
