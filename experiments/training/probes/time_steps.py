"""What a recurrent model must store for longer sequences (statement A2)."""

from dataclasses import replace

import models
from data import Data
from experiments.training.schema import Config
from models.batch_norms import BatchNorm

MODELS = ("language_model",)
METRICS = ("parameters_added", "statistics_added")


def measure(config: Config, data: Data) -> dict[str, float]:
    """What a recurrent model needs more when its sequences are twice as long: parameters, and stored statistics."""
    (steps,) = data.spec.input_shape

    def count(length: int) -> tuple[int, int]:
        spec = replace(data.spec, input_shape=(length,))
        model = models.build(config.model, config.norm, spec, config.seed)
        batch_norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        stored = sum(norm.running_mean.numel() + norm.running_variance.numel() for norm in batch_norms)
        return sum(p.numel() for p in model.parameters()), stored

    (parameters, statistics), (more_parameters, more_statistics) = count(steps), count(2 * steps)
    return {
        "parameters_added": float(more_parameters - parameters),
        "statistics_added": float(more_statistics - statistics),
    }
