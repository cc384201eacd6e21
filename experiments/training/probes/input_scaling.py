"""Training on images of another scale (section 5.1: re-scaling the data leaves a normalised layer's output alone)."""

from math import isfinite

import torch

import models
from data import Data
from experiments.training.probes.parts.layer import TINY
from experiments.training.schema import Config
from experiments.training.train import make_optimizer
from models.case_norms import EPS, Norm

BYTE = 255.0
FIRST, LAST = 20, 20  # updates
CAP = 1e3  # nats; larger differences, and those that are no number, count as this
MODELS = ("mlp", "cnn", "sequence_classifier")
METRICS = ("loss_curve_difference", "final_loss_difference", "exact_loss_curve_difference")


def measure(config: Config, data: Data) -> dict[str, float]:
    """The same training, from the same weights, on images in [0, 1] and on their bytes, in nats.

    `loss_curve_difference`: the largest difference of the training losses of the first 20 updates;
    `final_loss_difference`: that of the mean training losses of the last 20;
    `exact_loss_curve_difference`: the first once more in float64 at eps = 1e-12. In float32 at the EPS of all models a
    unit whose sum is all but 0 may be on in one training and off in the other, and from then on the curves part.
    """
    ones, bytes_ = (losses(config, data, scale, config.updates) for scale in (1.0, BYTE))
    exact = [losses(config, data, scale, min(FIRST, config.updates), torch.float64, TINY) for scale in (1.0, BYTE)]
    return {
        "loss_curve_difference": largest_difference(ones[:FIRST], bytes_[:FIRST]),
        "final_loss_difference": capped(mean(ones[-LAST:]) - mean(bytes_[-LAST:])),
        "exact_loss_curve_difference": largest_difference(*exact),
    }


def losses(
    config: Config, data: Data, scale: float, updates: int, dtype: torch.dtype = torch.float32, eps: float = EPS
) -> list[float]:
    """The training loss of each update, at a constant learning rate, on images in [0, scale]."""
    model = models.build(config.model, config.norm, data.spec, config.seed).to(dtype)
    for module in model.modules():
        if isinstance(module, Norm):
            module.eps = eps
    optimizer = make_optimizer(model, config.optim)
    curve = []
    for update in range(updates):
        x, y = data.train_batch(update)
        loss, _ = model.loss(((x * BYTE).round().to(dtype) * (scale / BYTE), y), None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.detach())
    return [float(loss) for loss in curve]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def largest_difference(a: list[float], b: list[float]) -> float:
    return max(capped(x - y) for x, y in zip(a, b, strict=True))


def capped(difference: float) -> float:
    return min(abs(difference), CAP) if isfinite(difference) else CAP
