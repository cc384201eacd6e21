"""What the norms do inside a trained model (statements A1, A4, A5, B2, B3)."""

import torch
from torch import Tensor, nn

import models
from data import Data
from experiments.training.schema import Config
from experiments.training.train import train
from models.batch_norms import BatchNorm
from models.case_norms import LayerNorm, Norm, Unnormalized
from models.mlp import MLP

MODELS = ("mlp",)
METRICS = (
    "train_test_difference",
    "company_effect",
    "foreign_gradient",
    "layer_mean_deviation",
    "layer_variance_deviation",
    "unit_mean_deviation",
    "unit_variance_deviation",
    "common_terms_residual",
    "terms_between_cases",
    "gain_after_difference",
    "gain_before_difference",
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """What a norm does inside a model that was trained for `updates` steps (statements A1, A4, A5, B2, B3).

    Measured on the first mini-batch, in float64: see the comments for each number.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed)
    assert isinstance(model, MLP)
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
        # the same for each unit over the mini-batch
        "unit_mean_deviation": max(float(n.mean(0).abs().max()) for n in normalized),
        "unit_variance_deviation": max(float((n.var(0, unbiased=False) - 1).abs().max()) for n in normalized),
        # what is left if one line per case, n = (a - mu) / sigma, must explain all units of a layer
        "common_terms_residual": max(residual(a, n) for a, n in zip(sums, normalized, strict=True)),
        # spread of mu between cases, in units of the spread of the sums
        "terms_between_cases": min(float(a.mean(1).std() / a.std()) for a in sums),
        # next layer's input against f(gain * normalised + shift), and against f(normalised(gain * a + shift))
        "gain_after_difference": order_difference(model, x, after=True),
        "gain_before_difference": order_difference(model, x, after=False),
    }


def hidden_norms(model: MLP) -> list[Norm]:
    return [norm for norm in model.norms[:-1] if isinstance(norm, Norm)]


def record(model: MLP, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
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


def order_difference(model: MLP, x: Tensor, after: bool) -> float:
    """Distance of the model's first hidden activations from ones computed by hand, gain after or before normalising."""
    norm, linear = hidden_norms(model)[0], model.linears[0]
    model.train()
    a = linear(x.detach().flatten(1)).detach()
    actual = torch.relu(norm(a)).detach()
    gain = torch.ones(norm.features, dtype=a.dtype) if norm.gain is None else norm.gain.detach()
    assert norm.shift is not None
    shift = norm.shift.detach()

    def normalize(sums: Tensor) -> Tensor:
        if isinstance(norm, Unnormalized):
            return sums
        if not isinstance(norm, BatchNorm | LayerNorm):  # whose normalisation has no formula here
            return plain(norm, norm(sums)).detach()
        dim = 1 if isinstance(norm, LayerNorm) else 0
        centred = sums - sums.mean(dim, keepdim=True)
        scaled: Tensor = centred / (centred.square().mean(dim, keepdim=True) + norm.eps).sqrt()
        return scaled

    by_hand = torch.relu(gain * normalize(a) + shift if after else normalize(gain * a + shift))
    return float((actual - by_hand).abs().max())
