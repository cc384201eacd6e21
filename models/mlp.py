"""Fully connected classifier of the paper's section 6.6 (784-1000-1000-10 there)."""

from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from . import require
from .classifier import METRICS as METRICS
from .classifier import Classifier
from .kernels.mlp_updates import MLPUpdates, native_updates
from .norms import feedforward, reparametrize
from .options import MLPConfig

Config = MLPConfig


class MLP(Classifier):
    """x: (N, ...) flattened -> logits (N, classes). ReLU, He initialisation."""

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        sizes = [prod(spec.input_shape), *config.hidden_sizes, spec.outputs]
        linears = [nn.Linear(inputs, units, bias=False) for inputs, units in pairwise(sizes)]
        for linear in linears:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        self.linears = nn.ModuleList(linears)
        kinds = [norm] * len(config.hidden_sizes) + [norm if config.normalize == "all" else "none"]
        self.norms = nn.ModuleList(feedforward(kind, size, config) for kind, size in zip(kinds, sizes[1:], strict=True))
        for kind, linear in zip(kinds, linears, strict=True):
            reparametrize(kind, linear, "weight")

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)
        for linear, norm in zip(self.linears[:-1], self.norms[:-1], strict=True):
            h = torch.relu(norm(linear(h)))
        logits: Tensor = self.norms[-1](self.linears[-1](h))
        return logits

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> MLPUpdates | None:
        return native_updates(self, self.linears, self.norms, optimizer, clip_norm)


def build(config: Config, norm: str, spec: Any) -> MLP:
    require(config, spec, "image", "sequence")
    return MLP(config, norm, spec)
