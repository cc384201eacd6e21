"""Training on images of another scale (section 5.1: re-scaling the data leaves a normalised layer's output alone)."""

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor

import models
from experiments.train import make_optimizer

BYTE = 255
FIRST, LAST = 20, 20  # updates
CAP = 1e3  # nats; larger losses, and those that are no number, count as this
METRICS = ("loss_curve_difference", "final_loss_difference")


def measure(config: Any, data: Any) -> dict[str, float]:
    """The same training, from the same weights, on images in [0, 1] and on their bytes, in float32.

    `loss_curve_difference`: the largest difference of the training losses of the first 20 updates, in nats;
    `final_loss_difference`: that of the mean training losses of the last 20.
    """
    plain, scaled = (losses(config, data, scale) for scale in (lambda x: x, lambda x: (x * BYTE).round()))
    differences = [capped(a - b) for a, b in zip(plain[:FIRST], scaled[:FIRST], strict=True)]
    final = [sum(curve[-LAST:]) / len(curve[-LAST:]) for curve in (plain, scaled)]
    return {"loss_curve_difference": max(differences), "final_loss_difference": capped(final[0] - final[1])}


def losses(config: Any, data: Any, scale: Callable[[Tensor], Tensor]) -> list[float]:
    """The training loss of each update, at a constant learning rate, of a model that reads scale(x)."""
    model: Any = models.build(config.model, config.norm, data.spec, config.seed)
    optimizer = make_optimizer(model, config.optim)
    curve = []
    for update in range(config.updates):
        x, y = data.train_batch(update)
        loss, _ = model.loss((scale(x), y), None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.detach())
    return [float(loss) for loss in torch.stack(curve)]


def capped(difference: float) -> float:
    return min(abs(difference), CAP) if isfinite(difference) else CAP
