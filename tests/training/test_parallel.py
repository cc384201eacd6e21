"""Data-parallel runs: gradients, whole runs by `ranks=` and by torchrun, and what happens when a rank dies."""

import csv
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from experiments.records import files
from experiments.sweeps.arms import run_arms
from experiments.training import parallel, schema, torchrun
from experiments.training.processes import ParallelError
from experiments.training.run import run
from models import ModelError
from models.norms import recurrent
from models.sync_batch_norm import StepwiseSyncBatchNorm, SyncBatchNorm
from tests.training.ranks import BATCH, MODELS, build, cases, fail, learn, of_all_ranks, of_large_means
from tests.training.test_run import tiny

RANKS = 2
WANTED = [(name, norm) for name in MODELS for norm in ("layer", "batch", "sync_batch")]


@cache
def shared() -> dict[tuple[str, str], dict[str, Any]]:
    """What two processes learn together, of every model and norm tested here."""
    with parallel.processes(RANKS, of_all_ranks, WANTED):
        return of_all_ranks(WANTED)


def distance(a: dict[str, Any], b: dict[str, Any], what: str = "gradients") -> float:
    a_all, b_all = (np.concatenate([part.ravel() for part in found[what]]) for found in (a, b))
    return float(np.linalg.norm(a_all - b_all) / np.linalg.norm(b_all))


@pytest.mark.parametrize("name, norm", WANTED)
def test_two_processes_have_the_gradient_of_one_unless_batch_norm_is_left_unsynchronised(name: str, norm: str) -> None:
    found, alone = shared()[name, norm], learn(build(name, norm), cases(name))
    if norm == "batch":
        assert distance(found, alone) > 0.02
    else:
        assert distance(found, alone) < 1e-12 and found["loss"] == pytest.approx(alone["loss"], rel=1e-12)
    if norm == "sync_batch":  # running averages too, of whole mini-batches
        assert distance(found, alone, "buffers") < 1e-12


def test_unsynchronised_processes_are_ghost_batches() -> None:
    ghosts = learn(build("mlp", "batch", ghost_size=BATCH // RANKS), cases("mlp"))
    assert distance(shared()["mlp", "batch"], ghosts) < 1e-12


def test_synchronised_statistics_are_sound_where_means_are_large() -> None:
    with parallel.processes(RANKS, of_large_means):
        found = of_large_means()
    expected = [part[: BATCH // RANKS] for part in of_large_means()]
    assert all(np.allclose(mine, theirs, atol=5e-3) for mine, theirs in zip(found, expected, strict=True))


def test_alone_synchronised_batch_norm_is_batch_norm_and_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_gather", "all_reduce", "broadcast"):
        monkeypatch.setattr(dist, name, None)
    for name in MODELS:
        sync, batch = (learn(build(name, norm), cases(name)) for norm in ("sync_batch", "batch"))
        exact = 1e-12 if name == "lstm" else 0.0  # batch norm has a kernel there
        assert distance(sync, batch) <= exact and distance(sync, batch, "buffers") <= exact
    assert isinstance(recurrent("sync_batch", 4, steps=2), StepwiseSyncBatchNorm)


def test_padding_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.sync_batch_norm.processes", lambda: 2)
    with pytest.raises(ModelError, match=r"^norm=sync_batch: sequences with padding [^\n]+$"):
        recurrent("sync_batch", 4, steps=2)(torch.randn(3, 4), 0, torch.tensor([True, False, True]))
    assert issubclass(StepwiseSyncBatchNorm, SyncBatchNorm)


# Whole runs


@pytest.mark.parametrize("norm", ["layer", "batch", "sync_batch"])
def test_a_run_of_two_ranks_ends_where_that_of_one_does_unless_statistics_differ(norm: str, tmp_path: Path) -> None:
    one, two = (run(tiny(tmp_path, norm=norm, updates=20, ranks=ranks)) for ranks in (1, 2))
    assert two["config"]["ranks"] == 2 and "ranks" not in one["config"] and one["run"] != two["run"]
    assert one["final"].keys() == two["final"].keys() and two["status"] == "completed"
    close = {name: value == pytest.approx(one["final"][name], rel=1e-3) for name, value in two["final"].items()}
    assert not close["test_loss"] if norm == "batch" else all(close.values())
    folder = files.run_folder(tmp_path, schema.scientific(tiny(tmp_path, norm=norm, updates=20, ranks=2)))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_single_process_keeps_the_identity_it_had_before_there_were_ranks() -> None:
    folder = Path(__file__).parents[2] / "results" / "reference" / "laptop"
    arms = json.loads((folder / "configs.json").read_text())["arms"]
    with (folder / "runs.csv").open() as file:
        row = next(
            row for row in csv.DictReader(file) if row["experiment"] == "mlp_batch4" and row["role"] == "evaluate"
        )
    config = arms["mlp_batch4"][row["arm"]]
    config |= {"seed": int(row["seed"]), "evaluations": int(row["evaluations"])}
    config["optim"] |= {"learning_rate": float(row["learning_rate"])}
    assert files.run_id(config) == row["run"] != files.run_id(config | {"ranks": 2})


def test_a_sweep_runs_arms_of_several_ranks(tmp_path: Path) -> None:
    configs = [tiny(tmp_path, ranks=ranks, seed=seed) for ranks in (1, 2) for seed in (0, 1)]
    run_arms(configs, n_jobs=2)
    assert len(list(tmp_path.rglob("result.json"))) == 4


def test_torchrun_starts_the_ranks_of_a_run_and_of_those_that_tune_it(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    options = ["norm=sync_batch", "updates=6", "batch_size=8", "model.hidden_sizes=[8]", "data.source=synthetic"]
    tuning = [
        "optim.learning_rate=null",
        "tuning.learning_rates=[0.001,0.01]",
        "tuning.seeds=[1000]",
        "tuning.further_seeds=[]",
    ]
    command = [*start, "experiments.run", *options, *tuning, "tracking=none", f"results={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and "completed" in done.stdout
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert sorted(record["role"] for record in found) == ["evaluate", "tune", "tune"]
    assert all(record["config"]["ranks"] == 2 for record in found)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 9, "ranks": 2}, "batch_size=9: 2 ranks cannot share it; take a multiple of 2"),
        ({"method": "table1", "ranks": 2}, "ranks=2: method=table1 is no training run; leave ranks out"),
    ],
)
def test_what_cannot_be_shared_is_told_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParallelError, match=f"^{message}$"):
        run_arms([tiny(tmp_path, **changes)])


def test_torchrun_and_ranks_must_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    assert torchrun.as_started(tiny(tmp_path)).ranks == 4
    with pytest.raises(ParallelError, match=r"^ranks=2: torchrun started 4; leave ranks out$"):
        torchrun.as_started(tiny(tmp_path, ranks=2))


# A rank that dies


@pytest.mark.parametrize("how, reason", [("killed", "its process died"), ("raises", "ValueError: no more")])
def test_a_rank_that_ends_ends_the_run_with_its_reason(how: str, reason: str) -> None:
    with pytest.raises(ParallelError, match=f"^rank 2: {reason}$"), parallel.processes(3, fail, how):
        fail(how)
    assert not dist.is_initialized()


def test_an_error_of_rank_0_is_its_own() -> None:
    with pytest.raises(RuntimeError, match=r"^mine$"), parallel.processes(2, fail, "waits"):
        raise RuntimeError("mine")
    with pytest.raises(ModelError, match="ghost_size=3 does not divide"), parallel.processes(2, fail, "waits"):
        build("mlp", "batch", ghost_size=3).loss(cases("mlp")[0], None)
