"""The training loop: what interruption, divergence, schedules and clipping do."""

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import data
import models
from data import mnist, text
from experiments.training import train as loop
from experiments.training.checkpoint import CheckpointFile
from experiments.training.train import Progress, decay, evaluate, train
from models import cnn, language_model, mlp, sequence_classifier
from models.model import Model

UPDATES, EVALUATIONS = 9, 3
IMAGES = mnist.Config(source="synthetic", crop=20, validation_size=60)
ROWS = mnist.Config(source="synthetic", crop=20, layout="rows", validation_size=60)
TEXT = text.Config(corpus="synthetic", sequence_length=8, validation_size=1000)
RUNS: dict[str, tuple[Any, Any, str]] = {
    "mlp": (mlp.Config(hidden_sizes=[12]), IMAGES, "layer"),
    "cnn": (cnn.Config(depth=2, width=4), IMAGES, "layer"),
    "carried state": (language_model.Config(hidden_size=8), TEXT, "batch"),
    "noise": (sequence_classifier.Config(hidden_size=8, cell="gru", initial_state_std=0.1), ROWS, "layer"),
}
every_run = pytest.mark.parametrize("name", RUNS)


def optim(**options: Any) -> Any:
    defaults = {"name": "adam", "learning_rate": 0.01, "momentum": 0.9, "schedule": "linear", "clip_norm": 1.0}
    return SimpleNamespace(**{**defaults, **options})


OWNER = "this run"


def start(name: str) -> tuple[Any, Any]:
    model, source, norm = RUNS[name]
    loaded = data.load(source, batch_size=4, seed=0)
    return models.build(model, norm, loaded.spec, 0), loaded


def go(model: Any, source: Any, checkpoint: Path | None = None, seconds: float = 0) -> tuple[str, Progress]:
    return train(
        model,
        source,
        optim(clip_norm=1.0 if isinstance(model, cnn.CNN) else 0.0),
        updates=UPDATES,
        evaluations=EVALUATIONS,
        checkpoint=CheckpointFile(checkpoint, OWNER) if checkpoint else None,
        checkpoint_seconds=seconds,
    )


def untimed(progress: Progress) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in progress.history]


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Unlucky:
    """A data set whose user presses Ctrl-C before each of the given updates, once."""

    def __init__(self, source: Any, updates: set[int]) -> None:
        self.source, self.left = source, updates

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def train_batch(self, step: int) -> Any:
        if step in self.left:
            self.left.remove(step)
            raise KeyboardInterrupt
        return self.source.train_batch(step)


# Interruption


@every_run
def test_a_run_interrupted_again_and_again_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    uninterrupted, source = start(name)
    _, expected = go(uninterrupted, source)
    unlucky, begun = Unlucky(source, {1, 4, 8}), time.perf_counter()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            go(start(name)[0], unlucky, tmp_path / "checkpoint.pt")
    spent = time.perf_counter() - begun
    model, _ = start(name)
    torch.manual_seed(99)  # the stream of random numbers, too, goes on where it was
    status, progress = go(model, unlucky, tmp_path / "checkpoint.pt")
    assert status == "completed" and not unlucky.left
    assert same(model, uninterrupted)
    assert untimed(progress) == untimed(expected)
    assert 0 == expected.wall_seconds < progress.wall_seconds < spent and progress.cpu_seconds > 0


def test_an_observer_that_stops_the_run_does_not_change_it(tmp_path: Path) -> None:
    uninterrupted, source = start("carried state")
    _, expected = train(uninterrupted, source, optim(), updates=UPDATES, evaluations=EVALUATIONS)
    seen: list[int] = []

    def stop_once(history: list[Any]) -> None:
        seen.append(len(history))
        if seen.count(2) == 1 and seen[-1] == 2:
            raise KeyboardInterrupt

    options: Any = {
        "updates": UPDATES,
        "evaluations": EVALUATIONS,
        "checkpoint": CheckpointFile(tmp_path / "checkpoint.pt", OWNER),
        "checkpoint_seconds": 0,
        "observe": stop_once,
    }
    with pytest.raises(KeyboardInterrupt):
        train(start("carried state")[0], source, optim(), **options)
    model, _ = start("carried state")
    _, progress = train(model, source, optim(), **options)
    assert seen == [0, 1, 2, 1, 2, 3]  # from the checkpoint before the second evaluation
    assert same(model, uninterrupted) and untimed(progress) == untimed(expected)


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    model, source = start("mlp")
    _, expected = go(model, source, tmp_path / "checkpoint.pt")
    again, _ = start("mlp")
    status, progress = go(again, source, tmp_path / "checkpoint.pt")
    assert status == "completed" and same(again, model) and progress.history == expected.history


def test_checkpoints_are_as_rare_as_asked(tmp_path: Path) -> None:
    go(*start("mlp"), tmp_path / "checkpoint.pt", seconds=1000)
    assert not list(tmp_path.iterdir())


@every_run
def test_a_checkpoint_needs_no_pickle_and_leaves_no_other_file(name: str, tmp_path: Path) -> None:
    go(*start(name), tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["progress"]["update"] == UPDATES
    assert (content["progress"]["state"] is not None) == (name == "carried state")


class Code:
    """Unpickled, it leaves a trace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder / "executed"),)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A whole file with other content."""

    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


def to_double(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.double() for name, weight in weights.items()}


def of_other_shape(content: dict[str, Any]) -> None:
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "overwritten": lambda path: path.write_bytes(b"not a checkpoint" * 100),
    "of something else": lambda path: torch.save({"weights": torch.zeros(3)}, path),
    "code": lambda path: torch.save({"progress": Code(path.parent)}, path),
    "of another run or other code": changed(lambda content: content.update(owner="another")),
    "moments of another shape": changed(of_other_shape),  # which native code would read beyond their end
    "moments missing": changed(lambda content: content["optimizer"]["state"][0].pop("exp_avg_sq")),
    "a moment too many": changed(lambda content: content["optimizer"]["state"].update({99: {}})),
    "weights of another type": changed(lambda content: content["model"].update(to_double(content["model"]))),
    "random state missing": changed(lambda content: content.pop("rng")),
    "random state of another length": changed(lambda content: content.update(rng=content["rng"][:9])),
    "progress incomplete": changed(lambda content: content["progress"].update(extra=1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_with_a_damaged_checkpoint_the_run_starts_anew(
    damage: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (model, source) = tmp_path / "checkpoint.pt", start("noise")
    _, expected = go(model, source, path)
    damage(path)
    again, _ = start("noise")
    _, progress = go(again, source, path, seconds=1000)
    assert same(again, model) and untimed(progress) == untimed(expected)
    assert "unusable checkpoint" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, (model, source) = tmp_path / "checkpoint.pt", start("mlp")
    go(model, source, path)
    before = path.read_bytes()

    def killed(content: Any, to: Path) -> None:
        to.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        CheckpointFile(path, OWNER).save(model, loop.make_optimizer(model, optim()), Progress())
    assert path.read_bytes() == before


# The loop, on a model whose gradient is 1 everywhere


class Slope(Model):
    """loss = sum of 4 weights + the batch's number; its state counts the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(4))

    def loss(self, batch: Any, state: Any) -> Any:
        assert self.training
        return self.weights.sum() - self.weights.detach().sum() + batch, (state or 0) + 1

    def metrics(self, batch: Any, state: Any) -> Any:
        assert not self.training and not torch.is_grad_enabled()
        return {"number": batch, "batches_before": torch.tensor([float(state or 0)])}, (state or 0) + 1


class Numbers:
    test_splits = ("test",)

    def __init__(self, carries: bool = False) -> None:
        self.carries = carries

    def train_batch(self, step: int) -> Tensor:
        return torch.tensor(float(step))

    def batches(self, split: str) -> Iterator[Tensor]:
        yield from (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0]))

    def carries_state(self, split: str) -> bool:
        return self.carries


def descend(updates: int = 10, evaluations: int = 1, **options: Any) -> tuple[Slope, Progress]:
    model: Any = Slope()
    source: Any = Numbers()
    choice = optim(**{"name": "sgd", "learning_rate": 0.5, "momentum": 0.0, "clip_norm": 0.0, **options})
    status, progress = train(model, source, choice, updates=updates, evaluations=evaluations)
    assert status == "completed"
    return model, progress


def test_schedules_fall_from_1_to_nearly_0() -> None:
    for schedule in ("linear", "cosine"):
        factors = [decay(schedule, update / 100) for update in range(100)]
        assert factors[0] == 1 and factors == sorted(factors, reverse=True)
        assert factors[50] == pytest.approx(0.5) and 0 < factors[-1] < 0.011
    assert {decay("constant", update / 100) for update in range(100)} == {1}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_each_update_takes_its_own_learning_rate(schedule: str) -> None:
    model, _ = descend(schedule=schedule)
    way = 0.5 * sum(decay(schedule, update / 10) for update in range(10))
    assert torch.allclose(model.weights, torch.full((4,), -way))


@pytest.mark.parametrize("clip_norm, length", [(0.0, 2.0), (100.0, 2.0), (0.1, 0.1)])
def test_clipping_bounds_the_gradient(clip_norm: float, length: float) -> None:
    model, _ = descend(updates=1, clip_norm=clip_norm)
    assert model.weights.norm().item() == pytest.approx(0.5 * length, rel=1e-4)


def test_momentum_is_that_of_sgd() -> None:
    model, _ = descend(updates=2, momentum=0.9, schedule="constant")
    assert torch.allclose(model.weights, torch.full((4,), -0.5 * (1 + 1.9)))


@pytest.mark.parametrize("updates, evaluations, expected", [(10, 2, [5, 10]), (7, 3, [2, 5, 7]), (2, 5, [1, 2])])
def test_evaluations_are_spread_evenly_and_one_is_last(updates: int, evaluations: int, expected: list[int]) -> None:
    _, progress = descend(updates=updates, evaluations=evaluations)
    assert [row["update"] for row in progress.history] == expected
    losses = [sum(range(a, b)) / (b - a) for a, b in zip([0, *expected], expected, strict=False)]
    assert [row["train_loss"] for row in progress.history] == losses  # the mean since the last evaluation


@pytest.mark.parametrize("carries", [True, False])
def test_evaluation_averages_over_cases_and_carries_state_only_where_data_do(carries: bool) -> None:
    model: Any = Slope()
    source: Any = Numbers(carries)
    row = evaluate(model, source, "validation")
    assert row == {"number": 4.0, "batches_before": 0.5 * carries}
    assert model.training


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_run_that_diverges_stops_and_says_so(norm: str) -> None:
    source = data.load(IMAGES, batch_size=4, seed=0)
    model: Any = models.build(mlp.Config(hidden_sizes=[8]), norm, source.spec, 0)
    wild = optim(name="sgd", learning_rate=1e30, clip_norm=0.0)
    status, progress = train(model, source, wild, updates=20, evaluations=10)
    assert status == "diverged" and progress.update < 20
    assert [math.isfinite(row["train_loss"]) for row in progress.history][-1:] == [False]
