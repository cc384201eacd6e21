"""One generalized linear layer in float64, through the suite's own norms: what section 5 of the paper speaks of."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from models.norms import feedforward, reparametrize

TINY = 1e-12  # eps where an identity of the equations, which have none, is to show


class Layer(nn.Module):
    """norm(W x), x (N, inputs) -> (N, units)."""

    def __init__(self, norm: str, inputs: int, units: int, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=False)
        reparametrize(norm, self.linear, "weight")
        self.norm = feedforward(norm, units)
        self.norm.eps = eps
        self.double()

    @property
    def weights(self) -> Tensor:
        """The parameter (units, inputs) that training moves: with weight norm its V, else W itself."""
        weights: Tensor = self.linear.weight
        if is_parametrized(self.linear):
            weights = self.linear.get_parameter("parametrizations.weight.original1")
        return weights

    @property
    def magnitudes(self) -> Tensor:
        """What scales each unit, (units,): its gain, with weight norm its g, with neither the length of its weights."""
        if self.norm.gain is not None:
            return self.norm.gain
        if is_parametrized(self.linear):
            return self.linear.get_parameter("parametrizations.weight.original0").flatten()
        lengths: Tensor = self.weights.norm(dim=1)
        return lengths

    def with_weights(self, weights: Tensor) -> Self:
        with torch.no_grad():
            self.weights.copy_(weights)
        return self

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(x))
        return out


def generic_layer(norm: str, inputs: int, units: int, draw: torch.Generator, eps: float = TINY) -> Layer:
    """A layer with random weights of length about 1, gains around 1 and shifts around 0, the same for every norm."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    with torch.no_grad():
        layer = Layer(norm, inputs, units, eps).with_weights(normal(units, inputs) / inputs**0.5)
        gains, shifts = 1 + 0.3 * normal(units), normal(units)
        if norm != "none":
            layer.magnitudes.copy_(gains)
        assert layer.norm.shift is not None
        layer.norm.shift.copy_(shifts)
    return layer
