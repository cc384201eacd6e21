"""Gradients at batch size 1 (statement A3)."""

import models
from data import Data
from experiments.training.schema import Config
from models.mlp import MLP
from models.model import Model

METRICS = ("largest_weight_gradient", "smallest_weight_gradient")


def measure(config: Config, data: Data) -> dict[str, float]:
    """Gradients at batch size 1, on the first ten cases, of the weights whose sums are normalised.

    `largest_weight_gradient` over all of them (0 for batch norm, whose output is then its shift), and
    `smallest_weight_gradient`: the least, over the weight matrices, of their largest gradient.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed).double()
    model.train()
    names = [name for name, p in model.named_parameters() if p.dim() > 1 and not is_output(name, model)]
    largest = dict.fromkeys(names, 0.0)
    for step in range(10):
        x, y = data.train_batch(step)
        model.zero_grad()
        model.loss((x.double() if x.is_floating_point() else x, y), None)[0].backward()
        for name, parameter in model.named_parameters():
            if name in largest and parameter.grad is not None:
                largest[name] = max(largest[name], float(parameter.grad.abs().max()))
    return {"largest_weight_gradient": max(largest.values()), "smallest_weight_gradient": min(largest.values())}


def is_output(name: str, model: Model) -> bool:
    last = f"linears.{len(model.linears) - 1}." if isinstance(model, MLP) else "output."
    return name.startswith(last)
