"""Gradients of a mini-batch that several processes share (statement A3)."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import models
from data import Batch, Data, Spec
from experiments.training import parallel
from experiments.training.schema import Config
from experiments.training.train import train
from models.model import Model

Arrays = Sequence[NDArray[np.generic]]  # a batch, as processes hand it on
RANKS = (2, 4)
METRICS = tuple(f"gradient_difference_{ranks}" for ranks in RANKS)


def measure(config: Config, data: Data) -> dict[str, float]:
    """How far the gradient of 2 and of 4 data-parallel processes is from that of one, at the same mini-batch.

    The processes are real ones; each has its share of the cases and the model as it is after `updates` steps. Of all
    parameters as one vector the distance over the length of the single process's gradient, in float64.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed)
    train(model, data, config.optim, updates=config.updates, evaluations=0)
    model.double()
    x, y = data.train_batch(config.updates)
    batch = x.double() if x.is_floating_point() else x, y
    alone = gradient(deepcopy(model), batch)
    found = {}
    for name, ranks in zip(METRICS, RANKS, strict=True):
        cases = [part.numpy() for part in batch]
        with parallel.processes(ranks, take_part, config, data.spec, cases):
            found[name] = float((gradient_of_share(deepcopy(model), cases) - alone).norm() / alone.norm())
    return found


def take_part(config: Config, spec: Spec, cases: Arrays) -> None:
    """What the other processes do; their weights are made those of the first."""
    torch.set_num_threads(1)
    gradient_of_share(models.build(config.model, config.norm, spec, config.seed).double(), cases)


def gradient_of_share(model: Model, cases: Arrays) -> Tensor:
    """The gradient this process's optimiser would see."""
    x, y = (torch.from_numpy(part)[parallel.rows(len(part))] for part in cases)
    return gradient(parallel.SharedModel(model), (x, y))


def gradient(model: Model, batch: Batch) -> Tensor:
    """Of the mean loss, all parameters in one vector."""
    model.loss(batch, None)[0].backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
