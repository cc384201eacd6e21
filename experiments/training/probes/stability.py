"""What high learning rates do to a recurrent net while it trains: does it diverge, does its state?"""

from dataclasses import replace
from math import log

import models
from data import Data
from experiments.training.probes.learning_rates import capped, without_denormals
from experiments.training.schema import Config
from experiments.training.train import evaluate, train
from models.recurrence import state_norm_drift

RATES = (0.1, 0.3, 1.0, 3.0)
MODELS = ("language_model", "sequence_classifier")
METRICS = (
    "diverged_share",
    "largest_state_norm_drift",
    *(f"loss_at_{rate:g}" for rate in RATES),
    *(f"state_norm_at_{rate:g}" for rate in RATES),
    *(f"state_norm_drift_at_{rate:g}" for rate in RATES),
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """Trainings at each of RATES, constant, all from the same weights.

    `diverged_share`: of the rates, those whose training ends at no number, or at chance (the loss of equally probable
    outputs) and above; `loss_at_...`: its last validation loss in nats, at most chance. `state_norm_at_...`: the mean
    length of the last state, at the last evaluation; `state_norm_drift_at_...`: log10 of the largest of these lengths
    over the smallest, over the evaluations and the untrained net; `largest_state_norm_drift`: the largest of the rates.
    """
    chance = log(data.spec.outputs)
    with without_denormals():
        courses = {rate: course(config, data, rate) for rate in RATES}
    losses = {rate: capped(loss, chance) for rate, (loss, _) in courses.items()}
    drifts = {rate: state_norm_drift(lengths) for rate, (_, lengths) in courses.items()}
    return {
        "diverged_share": sum(loss >= chance for loss in losses.values()) / len(RATES),
        "largest_state_norm_drift": max(drifts.values()),
        **{f"loss_at_{rate:g}": loss for rate, loss in losses.items()},
        **{f"state_norm_at_{rate:g}": lengths[-1] for rate, (_, lengths) in courses.items()},
        **{f"state_norm_drift_at_{rate:g}": drift for rate, drift in drifts.items()},
    }


def course(config: Config, data: Data, rate: float) -> tuple[float, list[float]]:
    """The last validation loss of a training, and the length of the last state before it and at each evaluation.

    A rate that is too high drives the units into saturation with the first updates, where the length stands still: from
    the first evaluation on this would pass for stability.
    """
    options = replace(config.model, state_norm=True)
    model = models.build(options, config.norm, data.spec, config.seed)
    before = evaluate(model, data, "validation")["state_norm"]
    optim = replace(config.optim, learning_rate=rate, schedule="constant")
    _, progress = train(model, data, optim, updates=config.updates, evaluations=config.evaluations)
    lengths = [before, *(row["validation_state_norm"] for row in progress.history)]
    return progress.history[-1]["validation_loss"], lengths
