"""Recurrent dynamics at the start of training (statement B4)."""

from collections.abc import Sequence
from dataclasses import replace
from math import log10
from typing import Any

import torch
from torch import Tensor

from data import Data, DataError
from experiments.training.probes.parts.histogram import histogram
from experiments.training.schema import Config
from models.rnn import CELLS

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the recurrent weights; they decide between vanishing and exploding
STEPS, BACK = 100, 50
MODELS = ("language_model",)
METRICS = (
    "gradient_ratio_spread",
    "state_norm_spread",
    *(f"log10_gradient_ratio_x{scale:g}" for scale in SCALES),
    *(f"state_norm_x{scale:g}" for scale in SCALES),
)


def measure(config: Config, data: Data) -> dict[str, Any]:
    """Hidden states and their gradients over 100 steps of an untrained recurrent layer reading text.

    For each scale of the recurrent weights: the length of h_50, averaged over the cases, and as log10 the length of the
    gradient, with respect to the whole state carried on from step 50 (h, in an LSTM also c), of a random projection of
    h_100, relative to that with respect to the state of step 100. Reported are also their spreads over the scales: a
    layer with stable dynamics does not care how large its recurrent weights are. The histograms are of the lengths of
    h_1 to h_50 of all cases.
    """
    if data.spec.input_shape[0] < STEPS:
        raise DataError(f"data.sequence_length={data.spec.input_shape[0]}: method=dynamics reads {STEPS} steps")
    norms, ratios, histograms = [], [], {}
    for scale in SCALES:
        options = replace(config.model, recurrent_scale=scale)
        torch.manual_seed(config.seed)
        layer = CELLS[options.cell](data.spec.outputs, config.norm, STEPS, options).double()
        x, _ = data.train_batch(0)
        states, early = layer(x[:, : STEPS - BACK].t())
        early = tuple(state.detach().requires_grad_() for state in early)
        _, late = layer(x[:, STEPS - BACK : STEPS].t(), early)
        projection = torch.randn(late[0].shape, generator=torch.Generator().manual_seed(config.seed)).double()
        gradients = torch.autograd.grad((late[0] * projection).sum(), [*early, *late], allow_unused=True)
        length_early, length_late = total_norm(gradients[: len(early)]), total_norm(gradients[len(early) :])
        histograms[f"state_norms_x{scale:g}"] = histogram(states.norm(dim=2))
        norms.append(float(early[0].detach().norm(dim=1).mean()))
        ratios.append(log10(max(length_early / length_late, 1e-300)))
    found = {f"log10_gradient_ratio_x{scale:g}": ratio for scale, ratio in zip(SCALES, ratios, strict=True)}
    found |= {f"state_norm_x{scale:g}": norm for scale, norm in zip(SCALES, norms, strict=True)}
    return found | {
        "gradient_ratio_spread": max(ratios) - min(ratios),
        "state_norm_spread": log10(max(norms) / min(norms)),
        "histograms": histograms,
    }


def total_norm(gradients: Sequence[Tensor | None]) -> float:
    """Length of all gradients as one vector; None is 0."""
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())
