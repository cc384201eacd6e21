"""The one training loop of the suite: plain PyTorch, ignorant of tasks, trackers and configuration."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from models.model import Batch, Batches, Model, State, Updates

Row = dict[str, float]  # one evaluation


class Splits(Protocol):
    """What an evaluation needs of a data set."""

    def batches(self, split: str) -> Iterable[Batch]: ...
    def carries_state(self, split: str) -> bool: ...


class Data(Splits, Protocol):
    """What the loop and the tests after it need of a data set: batches that depend on nothing but (seed, step)."""

    test_splits: list[str]

    def train_batch(self, step: int) -> Batch: ...


class Optim(Protocol):
    """What the loop needs to know of the optimiser."""

    name: str  # "adam" | "sgd"
    learning_rate: float | None  # None until it is chosen; who trains has one
    momentum: float
    schedule: str  # of `decay`
    clip_norm: float  # 0: no clipping


@dataclass
class Progress:
    """All that changes while a model trains; what a checkpoint holds beside the weights."""

    update: int = 0
    state: State = None  # of a recurrent model, carried from batch to batch
    loss_sum: float = 0.0  # since the last evaluation
    since: int = 0
    seconds: float = 0.0  # of training alone, and of that this process's CPU time
    training_cpu_seconds: float = 0.0
    # What the processes before this one spent on the run, up to the checkpoint it goes on from.
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    history: list[Row] = field(default_factory=list)


class Checkpoint(Protocol):
    """Where a run leaves its state and finds it again."""

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None: ...
    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None: ...


def rate(optim: Optim, fraction: float) -> float:
    """The learning rate after a fraction of the updates."""
    return chosen_rate(optim) * decay(optim.schedule, fraction)


def decay(schedule: str, fraction: float) -> float:
    """Factor on the learning rate after a fraction of the updates."""
    if schedule == "linear":
        return 1 - fraction
    return 0.5 * (1 + math.cos(math.pi * fraction)) if schedule == "cosine" else 1.0


def make_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    if optim.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=chosen_rate(optim), fused=True)
    return torch.optim.SGD(model.parameters(), lr=chosen_rate(optim), momentum=optim.momentum, fused=True)


def chosen_rate(optim: Optim) -> float:
    assert optim.learning_rate is not None
    return optim.learning_rate


def train(
    model: Model,
    data: Data,
    optim: Optim,
    *,
    updates: int,
    evaluations: int,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 20.0,
    observe: Callable[[list[Row]], None] = lambda history: None,
) -> tuple[str, Progress]:
    """Train `model` for `updates` optimiser steps, or go on from `checkpoint` where it has a state.

    `observe` sees the history after each evaluation. Returns the status, `completed` or `diverged` (a loss became
    infinite or not a number), and what was measured. Resumed on the same CPU, a run gives the bits of an
    uninterrupted one.
    """
    optimizer = make_optimizer(model, optim)
    progress = (checkpoint and checkpoint.restore(model, optimizer)) or Progress()
    due = {round(updates * (k + 1) / evaluations) for k in range(evaluations)}
    observe(progress.history)
    model.train()
    loss_sum = next(model.parameters()).new_tensor(progress.loss_sum)
    maker = updates_of(model, optimizer, optim.clip_norm)
    saved, watch = time.monotonic(), Stopwatch(progress)
    while progress.update < updates:
        update = progress.update
        ahead = range(update, min(point for point in (*due, updates) if point > update))
        done, progress.state = maker.make(
            data, ahead, lambda step: rate(optim, step / updates), loss_sum, progress.state
        )
        progress.update, progress.since = update + done, progress.since + done
        if progress.update in due:
            train_loss = loss_sum.item() / progress.since  # waits for a GPU: the time is read after it
            watch.stop()
            row = {"update": progress.update, "seconds": progress.seconds}
            row |= {"cpu_seconds": progress.training_cpu_seconds, "train_loss": train_loss}
            row |= prefixed("validation", evaluate(model, data, "validation"))
            progress.history.append(row)
            progress.since = 0
            loss_sum.zero_()
            observe(progress.history)
            if not all(map(math.isfinite, row.values())):
                return "diverged", progress
            watch.start()
        if checkpoint and time.monotonic() - saved > checkpoint_seconds:
            progress.loss_sum = loss_sum.item()
            watch.stop()
            checkpoint.save(model, optimizer, watch.spent())
            saved = time.monotonic()
            watch.start()
    return "completed", progress


def updates_of(model: Model, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> Updates:
    """In native code, many in a call, where a model has that; else, and as its reference, one by one."""
    return model.native_updates(optimizer, clip_norm) or PlainUpdates(model, optimizer, clip_norm)


def make_all(
    maker: Updates, data: Batches, steps: range, rate: Callable[[int], float], loss_sum: Tensor, state: State = None
) -> State:
    """All of these updates, in as many calls as that takes; the model's state after them."""
    while steps:
        done, state = maker.make(data, steps, rate, loss_sum, state)
        steps = steps[done:]
    return state


class PlainUpdates:
    """Each a batch, its loss, the gradients and the optimiser's step."""

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
        self.model, self.optimizer, self.clip_norm = model, optimizer, clip_norm

    def make(
        self, data: Batches, steps: range, rate: Callable[[int], float], loss_sum: Tensor, state: State
    ) -> tuple[int, State]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate(steps[0])
        loss, state = self.model.loss(data.train_batch(steps[0]), state)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        loss_sum += loss.detach()
        return 1, state


class Stopwatch:
    """Adds to a run's progress the seconds it trains, evaluations and checkpoints aside."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.begun = progress, (time.process_time(), time.perf_counter())
        self.start()

    def start(self) -> None:
        self.started = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        cpu, wall = self.started
        self.progress.training_cpu_seconds += time.process_time() - cpu
        self.progress.seconds += time.perf_counter() - wall

    def spent(self) -> Progress:
        """With what this process has spent as well, on evaluations too: for one that goes on from here."""
        cpu, wall = time.process_time() - self.begun[0], time.perf_counter() - self.begun[1]
        before = self.progress
        return replace(before, cpu_seconds=before.cpu_seconds + cpu, wall_seconds=before.wall_seconds + wall)


@torch.no_grad()
def evaluate(model: Model, data: Splits, split: str, *, training: bool = False) -> Row:
    """Mean of each of the model's metrics over the cases of a split; `training`: normalised as in training."""
    model.train(training)
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    state = None
    for batch in data.batches(split):
        values, state = model.metrics(batch, state if data.carries_state(split) else None)
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.double().sum()
            counts[name] = counts.get(name, 0) + value.numel()
    model.train()
    return {name: total.item() / counts[name] for name, total in sums.items()}


def prefixed(split: str, row: Row) -> Row:
    return {f"{split}_{name}": value for name, value in row.items()}
