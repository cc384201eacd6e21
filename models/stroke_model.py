"""Prediction of pen strokes, point by point: the network of Graves (2013), his equations 1 to 4 and 18 to 26.

Deep LSTM layers with skip connections, from the input to all of them and from all of them to the output, whose values
are the parameters of a density of the next step: a mixture of bivariate Gaussians of (dx, dy) and a Bernoulli variable
of whether a stroke ends there.
"""

from dataclasses import replace
from math import log, pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import require
from .model import Batch, Model, State
from .options import StrokeModelConfig
from .recurrence import state_norm
from .rnn import RNN

Config = StrokeModelConfig
METRICS = ("loss", "sequence_nats", "end_error")

LARGEST_LOG_SIGMA = 6.0  # and, negative, the smallest
LARGEST_RHO = 0.99  # a correlation of 1 has no density


class StrokeModel(Model):
    """Batches are (x, y), each (B, T, 3) steps (dx, dy, end), y one ahead of x."""

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        steps, features = spec.input_shape
        self.mixtures, self.state_norm = config.mixtures, config.state_norm
        sizes = [features] + [features + config.hidden_size] * (config.layers - 1)
        self.rnns = nn.ModuleList(RNN(size, norm, steps, replace(config, layers=1)) for size in sizes)
        self.output = nn.Linear(config.layers * config.hidden_size, 1 + 6 * config.mixtures)

    def forward(self, x: Tensor) -> Tensor:
        """Steps (T, B, 3) -> parameters (T, B, 1 + 6 mixtures) of the density of the next."""
        parameters: Tensor = self.output(torch.cat(self.states(x), -1))
        return parameters

    def states(self, x: Tensor) -> list[Tensor]:
        """h (T, B, hidden_size) of every layer."""
        found: list[Tensor] = []
        for rnn in self.rnns:
            h, _ = rnn(torch.cat([x, *found[-1:]], -1))
            found.append(h)
        return found

    def loss(self, batch: Batch, state: State = None) -> tuple[Tensor, State]:
        """Nats a step."""
        x, y = (part.transpose(0, 1) for part in batch)
        return negative_log_density(self(x), y).mean(), None

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Per step `loss` in nats and `end_error`, whether the likelier of end and no end is wrong.

        Per sequence `sequence_nats`, the sum of its losses; where asked for also `state_norm`, of the last layer.
        """
        x, y = (part.transpose(0, 1) for part in batch)
        states = self.states(x)
        parameters = self.output(torch.cat(states, -1))
        losses = negative_log_density(parameters, y)
        values = {
            "loss": losses,
            "sequence_nats": losses.sum(0),
            "end_error": (parameters[..., 0] > 0) != (y[..., 2] > 0),
        }
        if self.state_norm:
            values["state_norm"] = state_norm(states[-1][-1])
        return values, None


def negative_log_density(parameters: Tensor, steps: Tensor) -> Tensor:
    """-log Pr(step) in nats (...,), Graves's equation 26, of steps (..., 3) and parameters (..., 1 + 6 mixtures).

    Those are the logit of an end, then of every Gaussian its weight's logit, the means of dx and dy, the logarithms of
    their standard deviations, and what the correlation is the tanh of (equations 18 to 22).
    """
    end, mixture = parameters[..., 0], parameters[..., 1:]
    weight, mean_x, mean_y, log_x, log_y, correlation = mixture.chunk(6, -1)
    log_x, log_y = (logarithm.clamp(-LARGEST_LOG_SIGMA, LARGEST_LOG_SIGMA) for logarithm in (log_x, log_y))
    rho = LARGEST_RHO * correlation.tanh()
    x, y = (steps[..., :1] - mean_x) * (-log_x).exp(), (steps[..., 1:2] - mean_y) * (-log_y).exp()
    rest = 1 - rho**2
    log_gaussian = -(x**2 + y**2 - 2 * rho * x * y) / (2 * rest) - log_x - log_y - 0.5 * rest.log() - log(2 * pi)
    log_place = torch.logsumexp(weight.log_softmax(-1) + log_gaussian, -1)
    return F.binary_cross_entropy_with_logits(end, steps[..., 2], reduction="none") - log_place


def build(config: Config, norm: str, spec: Any) -> StrokeModel:
    require(config, spec, "strokes")
    return StrokeModel(config, norm, spec)
