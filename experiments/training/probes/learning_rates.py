"""Over how many learning rates a model trains: does a norm widen the range?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite, log, log10

import torch

import models
from data import Data
from experiments.training.schema import Config
from experiments.training.train import train

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # half decades
METRICS = (
    "log10_highest_rate",
    "failed_share",
    "mean_excess_loss",
    "best_loss",
    *(f"loss_at_{rate:g}" for rate in RATES),
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """Validation losses, in nats, after trainings at each of RATES, constant, all from the same weights.

    A training fails if it ends at or above chance, the loss of equally probable outputs, or at no number; then its loss
    counts as chance. `log10_highest_rate`: of the highest rate that does not fail, half a decade below the grid where
    all do; `failed_share`: of the rates; `mean_excess_loss`: how far the mean loss over the rates is above the best.
    """
    chance = log(data.spec.outputs)
    with without_denormals():
        losses = [capped(final_loss(config, data, rate), chance) for rate in RATES]
    working = [rate for rate, loss in zip(RATES, losses, strict=True) if loss < chance]
    return {
        "log10_highest_rate": log10(max(working)) if working else log10(RATES[0]) - 0.5,
        "failed_share": 1 - len(working) / len(RATES),
        "mean_excess_loss": sum(losses) / len(losses) - min(losses),
        "best_loss": min(losses),
        **{f"loss_at_{rate:g}": loss for rate, loss in zip(RATES, losses, strict=True)},
    }


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0: the gradients of units that high rates saturate would take ten times as long."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def final_loss(config: Config, data: Data, rate: float) -> float:
    model = models.build(config.model, config.norm, data.spec, config.seed)
    optim = replace(config.optim, learning_rate=rate, schedule="constant")
    _, progress = train(model, data, optim, updates=config.updates, evaluations=1)
    return progress.history[-1]["validation_loss"]


def capped(loss: float, chance: float) -> float:
    return min(loss, chance) if isfinite(loss) else chance
