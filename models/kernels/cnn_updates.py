"""Native training updates of convolutional nets, with every norm of models/norms.py but those of weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from .. import kernels
from ..model import State
from . import maps, updates


def refusal(model: Any, optimizer: Optimizer) -> str:
    """Why a models.cnn.CNN cannot be trained natively, in one line; empty if it can."""
    norms = norms_of(model)
    if model.blocks:
        return "no kernel for shortcuts"
    if unknown := {type(norm).__name__ for norm in norms if type(norm) not in maps.NORMS}:
        return f"no kernel for the norms {', '.join(sorted(unknown))}"
    if any(norm.layout(0, 1) is None for norm in norms):
        return "no kernel for detached or unbiased statistics, gains of units or statistics of several processes"
    if len({norm.eps for norm in norms}) > 1:
        return "its norms differ in eps"
    if any(parametrize.is_parametrized(layer) for layer in layers_of(model)):
        return "no kernel for weights made from others"
    return updates.refusal(model, optimizer)


def native_updates(model: Any, optimizer: Optimizer, clip_norm: float = 0.0) -> "CNNUpdates | None":
    """What trains a models.cnn.CNN; None where the plain loop has to.

    Raises KernelError if kernel=native demands it in vain.
    """
    return CNNUpdates(model, optimizer, clip_norm) if kernels.settled(refusal(model, optimizer)) else None


def layers_of(model: Any) -> list[Any]:
    return [*model.convs, *([] if model.hidden is None else [model.hidden])]


def norms_of(model: Any) -> list[Any]:
    """That of each of `layers_of`."""
    return [*model.norms, *([] if model.hidden_norm is None else [model.hidden_norm])]


class CNNUpdates(updates.Updates):
    """Those of a CNN. x: (updates, B, C, H, W); y: (updates, B)."""

    def __init__(self, model: Any, optimizer: Optimizer, clip_norm: float = 0.0) -> None:
        self.model, self.norms = model, norms_of(model)
        layers = zip(layers_of(model), self.norms, strict=True)
        parameters = [p for layer, norm in layers for p in (layer.weight, norm.gain, norm.shift)]
        self.strides = [layer.stride[0] if isinstance(layer, nn.Conv2d) else 0 for layer in layers_of(model)]
        super().__init__([*parameters, model.output.weight, model.output_bias.shift], optimizer, clip_norm)

    def call(self, x: Tensor, y: Tensor, optimizer: tuple[Any, ...], state: State) -> State:
        layouts: list[int] = []
        for norm, positions in zip(self.norms, self.positions(x[0]), strict=True):
            layout = maps.layout_of(norm, x.shape[1], positions)
            assert layout
            layouts += [maps.CENTRES.index(layout.centre), layout.sets, layout.groups]
        torch.ops.layernorm.cnn_updates(
            x,
            y,
            *optimizer,
            [average for norm in self.norms for average in maps.averages(norm)],
            layouts,
            self.strides,
            self.norms[0].eps,
            getattr(self.norms[0], "momentum", 0.0),
            self.model.circular,
            self.model.pooled,
        )
        return None

    def positions(self, x: Tensor) -> list[int]:
        """Of each layer's maps; one of fully connected units."""
        found, (height, width) = [], x.shape[2:]
        for stride in self.strides:
            height, width = (-(-size // stride) if stride else 1 for size in (height, width))
            found.append(height * width)
        return found

    def multiplications(self, x: Tensor) -> int:
        layers = zip(layers_of(self.model), self.positions(x), strict=True)
        of_a_case: int = sum(layer.weight.numel() * positions for layer, positions in layers)
        return len(x) * of_a_case
