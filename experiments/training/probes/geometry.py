"""Section 5.2 of the paper, the geometry of one generalized linear layer with normalised summed inputs, as numbers.

The layer has 16 units with Gaussian outputs of variance 1, log p(t | x) = -|t - y|^2 / 2 + ..., y = norm(W x), so that
the covariance in equations 12 and 13 is the identity. x is a mini-batch of images pooled to 5 x 5 numbers, t a code of
16 random numbers for each class. float64, eps = 1e-12. W is what training moves: with weight norm its V.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from data import Data
from experiments.training.probes.parts.layer import Layer, generic_layer
from experiments.training.schema import Config
from experiments.training.train import Optim, make_optimizer

UNITS, SIDE = 16, 5
FACTORS = (2.0, 4.0, 0.5)
INPUT_FACTOR = 10.0
SMALLEST = 1e-300  # instead of 0 in a denominator
MODELS = ("mlp", "cnn")
METRICS = (
    "gradient_law_deviation",
    "fisher_law_deviation",
    "fisher_row_deviation",
    "gradient_weight_cosine",
    "largest_row_cosine",
    "largest_norm_decrease",
    "norm_growth",
    "effective_rate_decay",
    "gain_metric_change",
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """How far the layer is from each law; see the comments for each number."""
    draw = torch.Generator().manual_seed(config.seed)
    layer = generic_layer(config.norm, SIDE**2 * data.spec.input_shape[0], UNITS, draw)
    codes = torch.randn(data.spec.outputs, UNITS, generator=draw, dtype=torch.float64)
    batches = [(pooled(x), codes[y]) for x, y in map(data.train_batch, range(config.updates))]
    x, target = batches[0]
    W = layer.weights.detach().clone()
    slope, metric = gradient(layer, x, target), fisher(layer, x)
    doubled = W.clone()
    doubled[0] *= 2
    inputs = W.shape[1]
    first = (slice(0, inputs),) * 2  # the Fisher block of the first unit's weights
    row_metric = fisher(layer.with_weights(doubled), x)[first]
    laws = {
        # where W is d times as large: d * gradient against gradient, d^2 * Fisher block against Fisher block
        "gradient_law_deviation": max(
            distance(d * gradient(layer.with_weights(d * W), x, target), slope) for d in FACTORS
        ),
        "fisher_law_deviation": max(distance(d**2 * fisher(layer.with_weights(d * W), x), metric) for d in FACTORS),
        # the paper's "if the norm of the weight vector w_i doubles": one row, and its own block
        "fisher_row_deviation": distance(4 * row_metric, metric[first]),
        # whether the gradient is orthogonal to the weights: of the whole matrix, and of the unit where it is least so
        "gradient_weight_cosine": float(cosine(slope.flatten(), W.flatten())),
        "largest_row_cosine": float(cosine(slope, W).max()),
        # what ten times as large inputs change in the metric along the gains
        "gain_metric_change": distance(gain_metric(layer.with_weights(W), INPUT_FACTOR * x), gain_metric(layer, x)),
    }
    return laws | descent(layer, batches, config.optim)


def descent(layer: Layer, batches: Sequence[tuple[Tensor, Tensor]], optim: Optim) -> dict[str, float]:
    """How the length of W moves under plain gradient descent on successive mini-batches, one step for each.

    `largest_norm_decrease`: by which part it shrinks in the step where it shrinks most, negative if it always grows;
    `norm_growth`: last length over first; `effective_rate_decay`: the factor on the effective learning rate, 1 / |W|^2
    in units of the first, the paper's "implicit" early stopping.
    """
    optimizer = make_optimizer(layer, optim)
    lengths = [float(layer.weights.detach().norm())]
    for x, target in batches:
        optimizer.zero_grad()
        loss(layer, x, target).backward()
        optimizer.step()
        lengths.append(float(layer.weights.detach().norm()))
    growth = lengths[-1] / lengths[0]
    return {
        "largest_norm_decrease": max(1 - after / before for before, after in pairwise(lengths)),
        "norm_growth": growth,
        "effective_rate_decay": growth**-2,
    }


def pooled(images: Tensor) -> Tensor:
    """(N, C, H, W) float32 -> (N, 25 C) float64, means over the cells of a 5 x 5 grid, scaled to a mean square of 1.

    The scale makes summed inputs of order 1, beside which eps = 1e-12 is nothing.
    """
    means = adaptive_avg_pool2d(images, SIDE).flatten(1).double()
    return means / means.square().mean().sqrt()


def loss(layer: Layer, x: Tensor, target: Tensor) -> Tensor:
    """-log p(t | x) in nats without its constant, averaged over the cases."""
    errors: Tensor = layer(x) - target
    return errors.square().sum(1).mean() / 2


def gradient(layer: Layer, x: Tensor, target: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(loss(layer, x, target), layer.weights)
    return slope


def fisher(layer: Layer, x: Tensor) -> Tensor:
    """The Fisher block of the weights (units * inputs, units * inputs): J^T J for J = dy / dW, averaged over cases.

    With batch norm y depends on the whole mini-batch, and so J goes through its statistics (equation 14's chi).
    """
    y = layer(x).flatten()
    every = torch.eye(len(y), dtype=y.dtype)
    (jacobian,) = torch.autograd.grad(y, layer.weights, every, is_grads_batched=True)
    J = jacobian.flatten(1)
    return J.t() @ J / len(x)


@torch.no_grad()
def gain_metric(layer: Layer, x: Tensor) -> Tensor:
    """The Fisher metric along the gains, mean (dy / dg)^2 over units and cases (supplement, equations 32-35).

    y = g * something + b in every layer, so dy / dg = (y - b) / g; without a norm, g is the length of a unit's weights.
    """
    slopes: Tensor = (layer(x) - layer.norm.shift) / layer.magnitudes
    return slopes.square().mean()


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|; 0 where both are."""
    return float((a - b).norm() / b.norm().clamp(min=SMALLEST))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """|<a, b>| / (|a| |b|) along the last dimension; 0 where one of them is."""
    products: Tensor = (a * b).sum(-1)
    lengths: Tensor = a.norm(dim=-1) * b.norm(dim=-1)
    return products.abs() / lengths.clamp(min=SMALLEST)
