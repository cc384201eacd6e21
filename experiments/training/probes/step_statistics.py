"""Do the summed inputs of a recurrent net vary with the time step (statement A)?"""

from typing import Any

import torch
from torch import Tensor

import models
from data import Data
from experiments.training.probes.parts.histogram import histogram
from experiments.training.schema import Config
from experiments.training.train import train
from models.language_model import LanguageModel
from models.recurrence import RecurrentLayer
from models.sequence_classifier import SequenceClassifier

LATER = 10  # steps after which the start of a sequence is over
SMALLEST = 1e-300  # instead of 0 in a denominator
MODELS = ("language_model", "sequence_classifier")
METRICS = (
    "mean_movement_share",
    "deviation_ratio",
    "later_mean_movement_share",
    "later_deviation_ratio",
)


def measure(config: Config, data: Data) -> dict[str, Any]:
    """The summed inputs W_x x + W_h h of a trained net's first layer, before any norm, at each step of the validation
    sequences, of which every one starts at a state of 0.

    What they are of the units is said in `mean_movement_share` and `deviation_ratio`; here is the mean over the units,
    over all steps and, `later_...`, without the first 10, in which every sequence is at its start. Means of finitely
    many cases differ between steps even where nothing varies: so each number is taken from two halves of the cases
    that know nothing of each other. The histogram is of the units' shares.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed)
    assert isinstance(model, LanguageModel | SequenceClassifier)
    train(model, data, config.optim, updates=config.updates, evaluations=0)
    model.double().eval()
    sums = summed_inputs(model, data)
    shares = mean_movement_share(sums)
    return {
        "mean_movement_share": float(shares.mean()),
        "deviation_ratio": float(deviation_ratio(sums).log().mean().exp()),
        "later_mean_movement_share": float(mean_movement_share(sums[LATER:]).mean()),
        "later_deviation_ratio": float(deviation_ratio(sums[LATER:]).log().mean().exp()),
        "histograms": {"mean_movement_shares": histogram(shares)},
    }


@torch.no_grad()
def summed_inputs(model: LanguageModel | SequenceClassifier, data: Data) -> Tensor:
    """(T, cases, gates * hidden_size) of the first layer, float64."""
    layer, found = model.rnn.layers[0], []
    assert isinstance(layer, RecurrentLayer)
    for x, _ in data.batches("validation"):
        x = x.t() if data.spec.kind == "text" else x.transpose(0, 1).double()
        if isinstance(model, LanguageModel) and model.embedding is not None:
            x = model.embedding(x)
        h, _ = layer(x)
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
        found.append(layer.project(x) + before @ layer.W_h)
    return torch.cat(found, 1)


def mean_movement_share(sums: Tensor) -> Tensor:
    """Of each unit, the share of the variance of its summed inputs, over steps and cases, that is a movement of their
    mean over the steps: sums (T, cases, units) -> (units,).

    The movement is the covariance, over the steps, of the means of two halves of the cases; without any its
    expectation is 0, where the variance of one mean would be that mean's own error.
    """
    first, second = (half.mean(1) for half in halves(sums))
    moved = ((first - first.mean(0)) * (second - second.mean(0))).mean(0)
    return moved / sums.var((0, 1), unbiased=False).clamp(min=SMALLEST)


def deviation_ratio(sums: Tensor) -> Tensor:
    """Of each unit, the standard deviation of its summed inputs over the cases at the step where it is largest over
    that at the step where it is smallest: sums (T, cases, units) -> (units,).

    One half of the cases says which steps these are, the other half how large they are.
    """
    first, second = (half.std(1) for half in halves(sums))
    largest, smallest = (second.gather(0, at[None])[0] for at in (first.argmax(0), first.argmin(0)))
    return largest.clamp(min=SMALLEST) / smallest.clamp(min=SMALLEST)


def halves(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Every other case each."""
    return sums[:, ::2], sums[:, 1::2]
