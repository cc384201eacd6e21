"""Measurements that are no training runs: exact properties of the norms, and recurrent dynamics at the start.

Each probe takes (config, data) and gives its metrics, named in METRICS. They use the models and norms of the suite, on
real data where they read any, in float64 so that an identity shows as one. The bounds are in configs/claims.yaml.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log10
from typing import Any

import torch
from torch import Tensor, nn

import models
from experiments import step_time
from experiments.train import train
from models.norms import BatchNorm, LayerNorm, Norm, Unnormalized, feedforward
from models.rnn import CELLS

TRANSFORMATIONS = (
    "matrix_rescaling",
    "matrix_recentring",
    "vector_rescaling",
    "data_rescaling",
    "data_recentring",
    "case_rescaling",
)
# The paper's Table 1: where the output is invariant, in the order of TRANSFORMATIONS; `none` is our control row.
TABLE_1 = {"batch": (1, 0, 1, 1, 1, 0), "weight": (1, 0, 1, 0, 0, 0), "layer": (1, 1, 0, 1, 0, 1), "none": (0,) * 6}
FACTOR = 3.7  # of every re-scaling; a negative one would flip signs, which the table does not mean


def table1(config: Any, data: Any) -> dict[str, float]:
    """How far each transformation of Table 1 moves the outputs of one tanh layer, in units of their spread.

    20 inputs, 12 units, 16 cases, drawn at random, eps = 1e-12; batch norm by its mini-batch. Weight norm is a
    parametrisation of un-normalised sums, so its row comes with norm=none, as `weight_norm_...`.
    """
    metrics = table1_row(config.norm, config.seed)
    if config.norm == "none":
        metrics |= {f"weight_norm_{name}": value for name, value in table1_row("weight", config.seed).items()}
    return metrics


def table1_row(norm: str, seed: int) -> dict[str, float]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    W, X, gain, shift = normal(12, 20) / 20**0.5, normal(16, 20), 1 + 0.3 * normal(12), normal(12)
    row_direction, column_direction = normal(20), normal(20)
    unit = feedforward("none" if norm == "weight" else norm, 12).double()
    unit.eps = 1e-12
    with torch.no_grad():
        if unit.gain is not None:
            unit.gain.copy_(gain)
        if unit.shift is not None:
            unit.shift.copy_(shift)

    def layer(W: Tensor, X: Tensor) -> Tensor:
        if norm == "weight":  # Salimans and Kingma 2016: w = g v / |v|
            W = gain[:, None] * W / W.norm(dim=1, keepdim=True)
        return torch.tanh(unit(X @ W.t())).detach()

    def scaled(matrix: Tensor, rows: Any) -> Tensor:
        out = matrix.clone()
        out[rows] *= FACTOR
        return out

    first, every = 0, slice(None)
    moved = (
        layer(scaled(W, every), X),
        layer(W + row_direction, X),
        layer(scaled(W, first), X),
        layer(W, scaled(X, every)),
        layer(W, X + column_direction),
        layer(W, scaled(X, first)),
    )
    still = layer(W, X)
    changes = [float((y - still).abs().max() / still.std()) for y in moved]
    kept = [change for change, invariant in zip(changes, TABLE_1[norm], strict=True) if invariant]
    others = [change for change, invariant in zip(changes, TABLE_1[norm], strict=True) if not invariant]
    row = dict(zip(TRANSFORMATIONS, changes, strict=True))
    return {**row, "largest_invariant_change": max(kept, default=0.0), "smallest_other_change": min(others)}


def properties(config: Any, data: Any) -> dict[str, float]:
    """What a norm does inside a model that was trained for `updates` steps (statements A1, A4, A5, B2, B3).

    Measured on the first mini-batch, in float64: see the comments for each number.
    """
    model: Any = models.build(config.model, config.norm, data.spec, config.seed)
    train(model, data, config.optim, updates=config.updates, evaluations=0)
    model.double()
    with torch.no_grad():  # generic gains and shifts: at 1 and 0 their place in the computation would not show
        for norm in hidden_norms(model):
            for parameter in (norm.gain, norm.shift):
                if parameter is not None:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    x = data.train_batch(0)[0].double()
    strangers = data.train_batch(1)[0].double()
    mixed = torch.cat([x[:1], strangers[1:]])
    model.train()
    in_training = model(x).detach()
    sums, outputs = record(model, x)
    in_company = model(mixed).detach()
    x.requires_grad_()
    model(x)[0].square().sum().backward()
    assert x.grad is not None
    foreign_gradient = x.grad[1:].abs().max()
    model.eval()
    at_test_time = model(x).detach()
    normalized = [plain(norm, out) for norm, out in zip(hidden_norms(model), outputs, strict=True)]
    return {
        # the same cases through the model in training and at test time
        "train_test_difference": float((in_training - at_test_time).abs().max()),
        # one case among its own mini-batch and among strangers
        "company_effect": float((in_training[0] - in_company[0]).abs().max()),
        # gradient of one case's output with respect to the other cases of its batch
        "foreign_gradient": float(foreign_gradient),
        # normalised sums of a layer, case by case: distance of their mean from 0 and of their variance from 1
        "layer_mean_deviation": max(float(n.mean(1).abs().max()) for n in normalized),
        "layer_variance_deviation": max(float((n.var(1, unbiased=False) - 1).abs().max()) for n in normalized),
        # what is left if one line per case, n = (a - mu) / sigma, must explain all units of a layer
        "common_terms_residual": max(residual(a, n) for a, n in zip(sums, normalized, strict=True)),
        # spread of mu between cases, in units of the spread of the sums
        "terms_between_cases": min(float(a.mean(1).std() / a.std()) for a in sums),
        # next layer's input against f(gain * normalised + shift), and against f(normalised(gain * a + shift))
        "gain_after_difference": order_difference(model, x, after=True),
        "gain_before_difference": order_difference(model, x, after=False),
    }


def hidden_norms(model: Any) -> list[Norm]:
    return list(model.norms[:-1])


def record(model: Any, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Summed inputs and outputs of each hidden norm, each (cases, units)."""
    sums, outputs = [], []

    def hook(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sums.append(inputs[0].detach())
        outputs.append(output.detach())

    handles = [norm.register_forward_hook(hook) for norm in hidden_norms(model)]
    model(x)
    for handle in handles:
        handle.remove()
    return sums, outputs


def plain(norm: Norm, output: Tensor) -> Tensor:
    """A norm's output without its gain and shift."""
    out: Tensor = output if norm.shift is None else output - norm.shift.detach()
    return out if norm.gain is None else out / norm.gain.detach()


def residual(a: Tensor, n: Tensor) -> float:
    """Largest distance of a case's (a, n) pairs from their common line, over all cases; n has spread 1."""
    a, n = a - a.mean(1, keepdim=True), n - n.mean(1, keepdim=True)
    slope = (a * n).sum(1, keepdim=True) / (a * a).sum(1, keepdim=True)
    return float((n - slope * a).abs().max())


def order_difference(model: Any, x: Tensor, after: bool) -> float:
    """Distance of the model's first hidden activations from ones computed by hand, gain after or before normalising."""
    norm, linear = model.norms[0], model.linears[0]
    model.train()
    a = linear(x.detach().flatten(1)).detach()
    actual = torch.relu(norm(a)).detach()
    gain = torch.ones(norm.features, dtype=a.dtype) if norm.gain is None else norm.gain.detach()
    shift = norm.shift.detach()

    def normalize(sums: Tensor) -> Tensor:
        if isinstance(norm, Unnormalized):
            return sums
        dim = 1 if isinstance(norm, LayerNorm) else 0
        centred = sums - sums.mean(dim, keepdim=True)
        scaled: Tensor = centred / (centred.square().mean(dim, keepdim=True) + norm.eps).sqrt()
        return scaled

    by_hand = torch.relu(gain * normalize(a) + shift if after else normalize(gain * a + shift))
    return float((actual - by_hand).abs().max())


def one_case(config: Any, data: Any) -> dict[str, float]:
    """Gradients at batch size 1, on the first ten cases, of the weights whose sums are normalised.

    `largest_weight_gradient` over all of them (0 for batch norm, whose output is then its shift), and
    `smallest_weight_gradient`: the least, over the weight matrices, of their largest gradient.
    """
    model: Any = models.build(config.model, config.norm, data.spec, config.seed).double()
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


def is_output(name: str, model: Any) -> bool:
    last = f"linears.{len(model.linears) - 1}." if hasattr(model, "linears") else "output."
    return name.startswith(last)


def time_steps(config: Any, data: Any) -> dict[str, float]:
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


SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the recurrent weights; they decide between vanishing and exploding
STEPS, BACK = 100, 50


def dynamics(config: Any, data: Any) -> dict[str, float]:
    """Hidden states and their gradients over 100 steps of an untrained recurrent layer reading text.

    For each scale of the recurrent weights: the length of h_50, averaged over the cases, and as log10 the length of the
    gradient, with respect to the whole state carried on from step 50 (h, in an LSTM also c), of a random projection of
    h_100, relative to that with respect to the state of step 100. Reported are also their spreads over the scales: a
    layer with stable dynamics does not care how large its recurrent weights are.
    """
    norms, ratios = [], []
    for scale in SCALES:
        options = replace(config.model, recurrent_scale=scale)
        torch.manual_seed(config.seed)
        layer = CELLS[options.cell](data.spec.outputs, config.norm, STEPS, options).double()
        x, _ = data.train_batch(0)
        _, early = layer(x[:, : STEPS - BACK].t())
        early = tuple(state.detach().requires_grad_() for state in early)
        _, late = layer(x[:, STEPS - BACK : STEPS].t(), early)
        projection = torch.randn(late[0].shape, generator=torch.Generator().manual_seed(config.seed)).double()
        gradients = torch.autograd.grad((late[0] * projection).sum(), [*early, *late], allow_unused=True)
        length_early, length_late = total_norm(gradients[: len(early)]), total_norm(gradients[len(early) :])
        norms.append(float(early[0].detach().norm(dim=1).mean()))
        ratios.append(log10(max(length_early / length_late, 1e-300)))
    named = {f"log10_gradient_ratio_x{scale:g}": ratio for scale, ratio in zip(SCALES, ratios, strict=True)}
    named |= {f"state_norm_x{scale:g}": norm for scale, norm in zip(SCALES, norms, strict=True)}
    return named | {
        "gradient_ratio_spread": max(ratios) - min(ratios),
        "state_norm_spread": log10(max(norms) / min(norms)),
    }


def total_norm(gradients: Sequence[Tensor | None]) -> float:
    """Length of all gradients as one vector; None is 0."""
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())


PROBES: dict[str, Callable[[Any, Any], dict[str, float]]] = {
    "table1": table1,
    "properties": properties,
    "one_case": one_case,
    "time_steps": time_steps,
    "dynamics": dynamics,
    "step_time": step_time.step_time,
}

TABLE_ROW = (*TRANSFORMATIONS, "largest_invariant_change", "smallest_other_change")
METRICS: dict[str, tuple[str, ...]] = {
    "table1": (*TABLE_ROW, *(f"weight_norm_{name}" for name in TABLE_ROW)),
    "properties": (
        "train_test_difference",
        "company_effect",
        "foreign_gradient",
        "layer_mean_deviation",
        "layer_variance_deviation",
        "common_terms_residual",
        "terms_between_cases",
        "gain_after_difference",
        "gain_before_difference",
    ),
    "one_case": ("largest_weight_gradient", "smallest_weight_gradient"),
    "time_steps": ("parameters_added", "statistics_added"),
    "dynamics": (
        "gradient_ratio_spread",
        "state_norm_spread",
        *(f"log10_gradient_ratio_x{s:g}" for s in SCALES),
        *(f"state_norm_x{s:g}" for s in SCALES),
    ),
    "step_time": step_time.METRICS,
}
