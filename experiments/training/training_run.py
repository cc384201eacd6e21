"""A training run: from a configuration and its data to what is recorded; in one process or shared by several."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import models
from experiments.records import files
from experiments.records.folder import CHECKPOINT, METRICS
from experiments.records.rows import AXES
from experiments.training import machine, parallel
from experiments.training.checkpoint import CheckpointFile
from experiments.training.final_tests import test_metrics
from experiments.training.identity import role_of
from experiments.training.machine import pick_device
from experiments.training.schema import Config
from experiments.training.train import Data, Row, train
from models.model import Model
from models.norms import undefined
from models.recurrence import state_norm_drift

Observer = Callable[[list[Row]], None]


def train_model(config: Config, source: data.Data, folder: Path, owner: str, observe: Observer) -> dict[str, Any]:
    """Status, history, final metrics and, in `timing`, what processes before this one spent on the run.

    Only a run in a single process leaves checkpoints in its folder, which say that they are its `owner`'s.
    """
    metrics = MetricsFile(folder / METRICS)
    checkpoint = CheckpointFile(folder / CHECKPOINT, owner) if config.ranks == 1 else None

    def observe_both(history: list[Row]) -> None:
        metrics.update(history)
        observe(history)

    with parallel.processes(config.ranks, take_part, config):
        return trained(config, source, checkpoint, observe_both)


def take_part(config: Config) -> None:
    """What further ranks do: the same on their share of the cases, and leave nothing."""
    machine.prepare(config.threads, config.batch_size // config.ranks, config.kernel)
    trained(config, data.load(config.data, batch_size=config.batch_size, seed=config.seed))


def trained(
    config: Config,
    source: data.Data,
    checkpoint: CheckpointFile | None = None,
    observe: Observer = lambda history: None,
) -> dict[str, Any]:
    device = pick_device(config.device)
    model: Model = models.build(config.model, config.norm, source.spec, config.seed).to(device)
    batches: Data = source.to(device)
    batch_size = config.batch_size
    if config.ranks > 1:
        model, batches = parallel.SharedModel(model), parallel.ShareOfData(batches, config.batch_size)
        # of the cases that are normalised together
        batch_size = config.batch_size if config.norm == "sync_batch" else config.batch_size // config.ranks
    status, progress = train(
        model,
        batches,
        config.optim,
        updates=config.updates,
        evaluations=config.evaluations,
        checkpoint=checkpoint,
        checkpoint_seconds=config.checkpoint_seconds,
        observe=observe,
    )
    if status == "completed" and undefined(model):
        status = "undefined"
    final = summary(progress.history)
    # Runs that choose a learning rate never see the test set.
    if role_of(config) == "evaluate":
        final |= test_metrics(model, batches, batch_size)
    timing = {"cpu_seconds": progress.cpu_seconds, "wall_seconds": progress.wall_seconds}
    return {"status": status, "history": progress.history, "final": final, "timing": timing}


def summary(history: list[Row]) -> Row:
    """The last validation metrics, and `mean_...`: their mean over the run, the measure of speed at equal updates."""
    names = [name for name in history[-1] if name not in AXES]
    means = {f"mean_{name}": sum(row[name] for row in history) / len(history) for name in names}
    final = {name: history[-1][name] for name in names} | means
    if "validation_state_norm" in final:
        final["state_norm_drift"] = state_norm_drift(row["validation_state_norm"] for row in history)
    return final


class MetricsFile:
    """The evaluations so far, one JSON object a line, for whoever watches the run."""

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0
        path.unlink(missing_ok=True)

    def update(self, history: list[Row]) -> None:
        lines = [json.dumps(files.finite(row)) + "\n" for row in history[self.written :]]
        with self.path.open("a") as file:
            file.writelines(lines)
        self.written = len(history)
