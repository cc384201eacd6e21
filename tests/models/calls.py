"""A recurrent layer with what it is called with, and all that a call gives: native and reference are compared by it."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.batch_norms import StepwiseBatchNorm
from models.language_model import Config
from models.recurrence import RecurrentLayer
from models.rnn import RNN
from tests.models.equations import normal
from tests.models.implementation import on

# Relative to the largest value of a tensor, at least to 1. Measured over all tests: 5e-12, where the rounding of
# 30 or 100 steps adds up and where two cases leave batch norm a spread that is nearly zero; elsewhere 1e-13.
EXACT = 1e-9


@dataclass
class Call:
    """A layer and what it is called with."""

    layer: RecurrentLayer
    x: Tensor
    state: tuple[Tensor, ...]
    mask: Tensor | None

    def to(self, dtype: torch.dtype) -> "Call":
        x, *state = (part.to(dtype) if part.is_floating_point() else part for part in (self.x, *self.state))
        return Call(deepcopy(self.layer).to(dtype), x, tuple(state), self.mask)


def call(
    cell: str,
    norm: str,
    length: int = 5,
    batch: int = 6,
    units: int = 8,
    *,
    inputs: int = 3,
    training: bool = True,
    padded: bool = False,
    symbols: bool = False,
    seed: int = 0,
    **options: Any,
) -> Call:
    """In float64, with gains, shifts and averages of their own; the last step is beyond those that have averages.

    Padding lies anywhere; one step is nothing but padding, and the last has a single case.
    """
    torch.manual_seed(seed)
    config = Config(cell=cell, hidden_size=units, **options)
    (layer,) = RNN(inputs, norm, max(1, length - 1), config).double().train(training).layers
    assert isinstance(layer, RecurrentLayer)
    with torch.no_grad():
        for part in layer.children():
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
            if isinstance(part, StepwiseBatchNorm):
                part.running_mean.normal_()
                part.running_variance.uniform_(0.5, 2)
                part.updates.fill_(4)
        if (bias := getattr(layer, "bias", None)) is not None:
            bias.normal_()
    x = torch.randint(inputs, (length, batch)) if symbols else normal(length, batch, inputs)
    mask = torch.rand(length, batch) > 0.3
    mask[length // 2] = False
    mask[-1] = torch.arange(batch) == 0
    return Call(layer, x, tuple(normal(batch, units) for _ in range(layer.carried)), mask if padded else None)


def weigh(part: Tensor) -> Tensor:
    return (part * torch.arange(part.numel()).cos().to(part).view_as(part)).sum()


def leaves(made: Call) -> dict[str, Tensor]:
    """All that may ask for a gradient."""
    inputs = {"x": made.x, **dict(zip(("h_0", "c_0"), made.state, strict=False))}
    return dict(made.layer.named_parameters()) | {name: t for name, t in inputs.items() if t.is_floating_point()}


def everything(kernel: str, made: Call, only: str = "") -> dict[str, Tensor]:
    """What a call gives and leaves behind: outputs, last state, the gradients (or `only` one) and the buffers."""
    on(kernel)
    x, *state = (part.detach() for part in (made.x, *made.state))
    made = Call(deepcopy(made.layer), x, tuple(state), made.mask)
    wanted = leaves(made)
    for name, leaf in wanted.items():
        leaf.requires_grad_(only in ("", name))
    wanted = {name: leaf for name, leaf in wanted.items() if leaf.requires_grad}
    h, last = made.layer(made.x, made.state, made.mask)
    outputs = {"h": h, **{f"last {name}": part for name, part in zip("hc", last, strict=False)}}
    whole = torch.stack([weigh(part) for part in outputs.values()]).sum()
    gradients = torch.autograd.grad(whole, list(wanted.values()))
    found = outputs | {f"d {name}": d for name, d in zip(wanted, gradients, strict=True)}
    return found | {name: buffer.double() for name, buffer in made.layer.named_buffers()}


def error(found: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp(min=1)
    return ((found.double() - expected.double()).abs().max() / scale).item()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = EXACT) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        finite = value.nan_to_num(0, 0, 0).abs().max().item()
        allowed: dict[str, Any] = {"rtol": 0, "atol": tolerance * max(1.0, finite), "equal_nan": True}
        torch.testing.assert_close(found[name], value, **allowed, msg=(name + ": {}").format)


def assert_native_is_the_reference(made: Call, tolerance: float = EXACT) -> None:
    assert_same(everything("native", made), everything("reference", made), tolerance)


def assert_gradients_are_those_of_finite_differences(made: Call) -> None:
    on("native")
    wanted = tuple(leaf.requires_grad_() for leaf in leaves(made).values())

    def outputs(*_: Tensor) -> tuple[Tensor, ...]:
        h, last = made.layer(made.x, made.state, made.mask)
        return h, *last

    assert torch.autograd.gradcheck(outputs, wanted, atol=1e-6)
