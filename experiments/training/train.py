"""The one training loop of the suite: plain PyTorch, ignorant of tasks, trackers and configuration."""

import errno
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Row = dict[str, float]  # one evaluation


class Data(Protocol):
    """What the loop needs of a data set: batches that depend on nothing but (seed, step)."""

    test_splits: list[str]

    def train_batch(self, step: int) -> tuple[Tensor, Tensor]: ...
    def batches(self, split: str) -> Iterable[tuple[Tensor, Tensor]]: ...
    def carries_state(self, split: str) -> bool: ...


@dataclass
class Progress:
    """All that changes while a model trains; what a checkpoint holds beside the weights."""

    update: int = 0
    state: Any = None  # of a recurrent model, carried from batch to batch
    loss_sum: float = 0.0  # since the last evaluation
    since: int = 0
    seconds: float = 0.0  # of training alone
    cpu_seconds: float = 0.0
    history: list[Row] = field(default_factory=list)


def decay(schedule: str, fraction: float) -> float:
    """Factor on the learning rate after a fraction of the updates."""
    if schedule == "linear":
        return 1 - fraction
    return 0.5 * (1 + math.cos(math.pi * fraction)) if schedule == "cosine" else 1.0


def make_optimizer(model: nn.Module, optim: Any) -> torch.optim.Optimizer:
    if optim.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=optim.learning_rate, fused=True)
    return torch.optim.SGD(model.parameters(), lr=optim.learning_rate, momentum=optim.momentum, fused=True)


def train(
    model: Any,
    data: Data,
    optim: Any,
    *,
    updates: int,
    evaluations: int,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    observe: Callable[[list[Row]], None] = lambda history: None,
) -> tuple[str, Progress]:
    """Train `model` for `updates` optimiser steps, or go on from `checkpoint` where there is one.

    `observe` sees the history after each evaluation. Returns the status, `completed` or `diverged` (a loss became
    infinite or not a number), and what was measured. Resumed on the same CPU, a run gives the bits of an
    uninterrupted one.
    """
    optimizer = make_optimizer(model, optim)
    progress = (restore(checkpoint, model, optimizer) if checkpoint else None) or Progress()
    due = {round(updates * (k + 1) / evaluations) for k in range(evaluations)}
    saved, cpu = time.monotonic(), time.process_time() - progress.cpu_seconds
    observe(progress.history)
    model.train()
    loss_sum = torch.tensor(progress.loss_sum, device=next(model.parameters()).device)
    started = time.perf_counter()
    for update in range(progress.update, updates):
        loss, progress.state = model.loss(data.train_batch(update), progress.state)
        optimizer.zero_grad()
        loss.backward()
        if optim.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = optim.learning_rate * decay(optim.schedule, update / updates)
        optimizer.step()
        loss_sum += loss.detach()
        progress.update, progress.since = update + 1, progress.since + 1
        if update + 1 in due:
            train_loss = loss_sum.item() / progress.since  # waits for a GPU: the time is read after it
            progress.seconds += time.perf_counter() - started
            row = {"update": update + 1, "seconds": progress.seconds, "train_loss": train_loss}
            row |= prefixed("validation", evaluate(model, data, "validation"))
            progress.history.append(row)
            progress.cpu_seconds, progress.since = time.process_time() - cpu, 0
            loss_sum.zero_()
            observe(progress.history)
            if not all(map(math.isfinite, row.values())):
                return "diverged", progress
            started = time.perf_counter()
        if checkpoint and time.monotonic() - saved > checkpoint_seconds:
            progress.loss_sum = loss_sum.item()
            progress.seconds += time.perf_counter() - started
            progress.cpu_seconds = time.process_time() - cpu
            save(checkpoint, model, optimizer, progress)
            saved, started = time.monotonic(), time.perf_counter()
    return "completed", progress


@torch.no_grad()
def evaluate(model: Any, data: Any, split: str, *, training: bool = False) -> Row:
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


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint by rename: a kill leaves the last one or this one, never half of one."""
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "rng": torch.get_rng_state(),
        "cuda_rng": cuda_rng(),
    }
    partial = path.with_suffix(".partial")
    try:
        torch.save(content, partial)
    except RuntimeError as error:  # so torch tells a full disk
        partial.unlink(missing_ok=True)
        raise OSError(errno.ENOSPC, "no checkpoint could be written, is the disk full?", str(path)) from error
    os.replace(partial, path)


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Load a checkpoint, without pickle; None where there is none or it cannot be read, and the run starts anew."""
    try:
        if zipfile.ZipFile(path).testzip():  # torch itself does not look at the checksums it writes
            raise ValueError("damaged")
        content = torch.load(path, weights_only=True, map_location=next(model.parameters()).device)
        progress = Progress(**content["progress"])
        if shapes(content["model"]) != shapes(model.state_dict()):
            raise ValueError("made by other code")
    except FileNotFoundError:
        return None
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        print(f"{path}: unusable checkpoint ({type(error).__name__}), the run starts anew", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"].cpu())
    if content["cuda_rng"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in content["cuda_rng"]])
    return progress


def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def cuda_rng() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
