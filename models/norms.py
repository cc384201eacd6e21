"""Normalisation of summed inputs: the one axis that every model of the suite shares.

A norm turns summed inputs `a` into what the non-linearity sees. Ba, Kiros and Hinton (2016), equations 2-4:

    none        a + b                         no statistics; the shift is the layer's ordinary bias
    batch       g * (a - mu) / sigma + b      mu, sigma of each unit over the cases of the mini-batch
    sync_batch  g * (a - mu) / sigma + b      of each unit over the mini-batches of all processes that train the model
    layer       g * (a - mu) / sigma + b      mu, sigma of each case over the units of the layer
    rms         g * a / root mean square + b  of each case over the units of the layer
    group       g * (a - mu) / sigma + b      of each case over each group of units or channels
    instance    g * (a - mu) / sigma + b      of each case and channel over its positions
    weight      a + b, with W = g V / |V|     no statistics of a; each unit's weights have the length g

so the shift always belongs to the norm and a layer's linear part has none: a bias inside the normalised sum would
be cancelled (batch) or break the invariances of the paper's Table 1 (layer). sigma^2 is the biased variance, and one
EPS inside the square root serves all norms. Gains and shifts are constants at the start and draw no random numbers,
so that one seed gives every norm the same initial weights; weight norm's gain starts at |V|, which leaves W as drawn.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models import ModelError
from models.batch_norms import MOMENTUM, BatchNorm, StepwiseBatchNorm, StepwiseSyncBatchNorm, SyncBatchNorm
from models.case_norms import (
    DETACH,
    EPS,
    LAYER_AXES,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Norm,
    RMSNorm,
    Unnormalized,
    WeightNorm,
)

__all__ = [
    "DETACH",
    "EPS",
    "LAYER_AXES",
    "MOMENTUM",
    "NORMS",
    "BatchNorm",
    "FeedforwardNormConfig",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Norm",
    "NormConfig",
    "RMSNorm",
    "StepwiseBatchNorm",
    "StepwiseSyncBatchNorm",
    "SyncBatchNorm",
    "Unnormalized",
    "WeightNorm",
    "feedforward",
    "recurrent",
    "reparametrize",
    "undefined",
]

NORMS: dict[str, type[Norm]] = {
    "none": Unnormalized,
    "batch": BatchNorm,
    "layer": LayerNorm,
    "rms": RMSNorm,
    "group": GroupNorm,
    "instance": InstanceNorm,
    "weight": WeightNorm,
    "sync_batch": SyncBatchNorm,
}


@dataclass
class NormConfig:
    """What single norms can be asked for in every model; the others have no use for it."""

    detach: str = field(default="none", metadata={"choices": DETACH})  # layer: statistics that pass no gradient back
    groups: int = 4  # group: into so many the units of a layer, or its channels, are divided


@dataclass
class FeedforwardNormConfig(NormConfig):
    # batch: so many cases of a mini-batch share statistics, as on one of several devices; 0: all of them
    ghost_size: int = field(default=0, metadata={"minimum": 0})


def feedforward(
    norm: str,
    features: int,
    config: FeedforwardNormConfig | None = None,
    *,
    axes: str = "channel",
    map_size: tuple[int, int] | None = None,
) -> Norm:
    """The norm of a feed-forward layer: (N, features), or (N, features, H, W) of a convolution, map_size=(H, W)."""
    config = config or FeedforwardNormConfig()
    if norm == "layer":
        return LayerNorm(features, axes=axes, map_size=map_size, detach=config.detach)
    if norm == "batch":
        return BatchNorm(features, ghost_size=config.ghost_size)
    return of_each_case(norm, features, 1.0, True, config)


def recurrent(
    norm: str,
    features: int,
    config: NormConfig | None = None,
    *,
    steps: int,
    gain: float | None = None,
    shift: bool = True,
) -> Norm:
    """The norm of one term of a recurrent layer; `steps`: time steps with statistics of their own (batch norm only).

    The gain starts at 1, for batch norm at 0.1: Cooijmans et al. (2016, section 4) found that larger gains let the
    gradient through saturated units vanish.
    """
    if norm in ("batch", "sync_batch"):
        stepwise = StepwiseBatchNorm if norm == "batch" else StepwiseSyncBatchNorm
        return stepwise(features, steps=steps, gain=0.1 if gain is None else gain, shift=shift)
    return of_each_case(norm, features, 1.0 if gain is None else gain, shift, config or NormConfig())


def of_each_case(norm: str, features: int, gain: float, shift: bool, config: NormConfig) -> Norm:
    if norm == "layer":
        return LayerNorm(features, gain=gain, shift=shift, detach=config.detach)
    if norm == "group":
        if features % config.groups:
            raise ModelError(f"model.groups={config.groups} does not divide the {features} units of a layer")
        return GroupNorm(features, gain=gain, shift=shift, groups=config.groups)
    return NORMS[norm](features, gain=gain, shift=shift)


def reparametrize(norm: str, module: nn.Module, *weights: str, dim: int = 0) -> None:
    """With `norm=weight`, W = g V / |V| for the named weights of a module (Salimans and Kingma 2016); else nothing.

    A unit's weights lie along all dimensions but `dim`.
    """
    if norm == "weight":
        for name in weights:
            parametrize.register_parametrization(module, name, LengthTimesDirection(dim))


class LengthTimesDirection(nn.Module):
    """W = V * (g / |V|). As g starts at |V|, that factor starts at exactly 1: W is V bit for bit, in V's memory layout.

    PyTorch's own parametrisation computes |V| in two ways, and starts an ulp away.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, V: Tensor) -> Tensor:
        return V * (g / self.lengths(V))

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        return self.lengths(W), W

    def lengths(self, V: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(V, dim=[d for d in range(V.dim()) if d != self.dim], keepdim=True)
        return lengths


def undefined(model: nn.Module) -> bool:
    """Whether a norm had to normalise a single value by itself anywhere in `model` during training."""
    return any(bool(module.undefined) for module in model.modules() if isinstance(module, BatchNorm | GroupNorm))
