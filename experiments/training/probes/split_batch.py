"""Gradients of a mini-batch that several workers share (statement A3)."""

import torch
from torch import Tensor

import models
from data import Data
from experiments.training.schema import Config
from experiments.training.train import train
from models.model import Model

PARTS = 8
MODELS = ("mlp", "cnn", "sequence_classifier")
METRICS = ("gradient_difference",)


def measure(config: Config, data: Data) -> dict[str, float]:
    """Whether the gradient of a mini-batch is the mean of those of its 8 equal parts, each with its own statistics.

    So data-parallel workers that do not synchronise batch norm's statistics compute it. `gradient_difference`: the
    distance of the two over the length of the former, all parameters as one vector, in float64, after `updates` steps.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed)
    train(model, data, config.optim, updates=config.updates, evaluations=0)
    model.double()
    x, y = data.train_batch(config.updates)
    whole = gradient(model, x.double(), y)
    parts = zip(x.double().chunk(PARTS), y.chunk(PARTS), strict=True)
    mean = torch.stack([gradient(model, *part) for part in parts]).mean(0)
    return {"gradient_difference": float((whole - mean).norm() / whole.norm())}


def gradient(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean loss, all parameters in one vector."""
    loss, _ = model.loss((x, y), None)
    return torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, list(model.parameters()))])
