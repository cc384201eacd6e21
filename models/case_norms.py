"""Norms that treat each case on its own: none, layer, RMS, group and instance norm, and what every norm has.

With statistics of its own a case is normalised alike in any mini-batch, in training and at test time.
"""

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ModelError
from .options import own_options

EPS = 1e-5


class Layout(NamedTuple):
    """How the statistics of a norm lie over maps (N, C, H, W), or cases (N, C)."""

    centre: str  # what is subtracted: "mean", or "zero"; "given": with the variance, it comes from elsewhere; or "none"
    sets: int  # Each of so many runs of cases, or of pixels, has statistics of its own,
    groups: int  # and so has each of so many groups of channels in it.


class Norm(nn.Module):
    """Gain and shift of `features` units; `None` where a norm has no gain or its user keeps the shift elsewhere.

    A class with a `name` is `norm=<name>` in every model; its options are in options.py.
    """

    name: ClassVar[str]

    # Its row of the paper's Table 1, if it has one: 1 where a layer's output is invariant under re-scaling and
    # re-centring of the weight matrix, re-scaling of a weight vector, re-scaling and re-centring of the data set,
    # re-scaling of a single case.
    table_1: ClassVar[tuple[int, ...]] = ()

    def __init__(self, features: int, *, gain: float | None = 1.0, shift: bool = True, eps: float = EPS) -> None:
        super().__init__()
        self.features, self.eps = features, eps
        self.gain = None if gain is None else nn.Parameter(torch.full((features,), gain))
        self.shift = nn.Parameter(torch.zeros(features)) if shift else None

    @classmethod
    def chosen(cls, config: Any) -> dict[str, Any]:
        """The norm's own options as a model's configuration has them: keywords of the class."""
        return {option: getattr(config, option) for option in own_options(cls.name)}

    @classmethod
    def feedforward(cls, features: int, config: Any, *, axes: str, map_size: tuple[int, int] | None) -> "Norm":
        """The norm of a feed-forward layer; see `models.norms.feedforward`."""
        return cls(features, **cls.chosen(config))

    @classmethod
    def recurrent(cls, features: int, config: Any, *, steps: int, gain: float | None, shift: bool) -> "Norm":
        """The norm of one term of a recurrent layer; see `models.norms.recurrent`."""
        return cls(features, gain=1.0 if gain is None else gain, shift=shift, **cls.chosen(config))

    @staticmethod
    def reparametrize(module: nn.Module, *weights: str, dim: int) -> None:
        """Make the named weights of a module from others; only a norm of weights does."""

    def layout(self, cases: int, positions: int) -> Layout | None:
        """How it normalises so many cases, for whoever computes `forward` in its place; None: only `forward` can."""
        return None

    def scale(self, normalized: Tensor) -> Tensor:
        """Gain and shift on normalised sums: (N, C, H, W), or (..., features)."""

        def per_unit(parameter: Tensor) -> Tensor:
            return parameter.view(-1, 1, 1) if normalized.dim() == 4 and parameter.dim() == 1 else parameter

        out = normalized if self.gain is None else per_unit(self.gain) * normalized
        return out if self.shift is None else out + per_unit(self.shift)


class Unnormalized(Norm):
    """`norm=none`: adds the shift. a: (N, features, ...) or, recurrent, (..., features)."""

    name = "none"
    table_1 = (0, 0, 0, 0, 0, 0)

    def __init__(self, features: int, *, gain: float = 1.0, shift: bool = True, eps: float = EPS) -> None:
        super().__init__(features, gain=None, shift=shift)

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        return a if self.shift is None else self.scale(a)

    def layout(self, cases: int, positions: int) -> Layout | None:
        return Layout("none", 1, 1)


class LayerNorm(Norm):
    """`norm=layer`: statistics of each case over its own units (equation 3), the same in training and at test time.

    a: (..., features), or (N, C, H, W) with features = C and `axes` one of LAYER_AXES ("unit" needs `map_size`).
    `detach`, one of DETACH, leaves the output as it is and takes statistics for constants in the backward pass.
    """

    name = "layer"
    table_1 = (1, 1, 0, 1, 0, 1)

    def __init__(
        self,
        features: int,
        *,
        gain: float = 1.0,
        shift: bool = True,
        eps: float = EPS,
        axes: str = "channel",
        map_size: tuple[int, int] | None = None,
        detach: str = "none",
    ) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps)
        self.axes, self.detach = axes, detach
        if axes == "unit" and map_size is not None:
            self.gain = nn.Parameter(torch.full((features, *map_size), gain))
            self.shift = nn.Parameter(torch.zeros(features, *map_size)) if shift else None

    @classmethod
    def feedforward(cls, features: int, config: Any, *, axes: str, map_size: tuple[int, int] | None) -> Norm:
        return cls(features, axes=axes, map_size=map_size, **cls.chosen(config))

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        if self.detach != "none":
            return self.scale(self.normalized_by_constants(a))
        if a.dim() != 4:
            return F.layer_norm(a, (self.features,), self.gain, self.shift, self.eps)
        if self.axes == "channel":
            return F.group_norm(a, 1, self.gain, self.shift, self.eps)
        if self.axes == "unit":
            return F.layer_norm(a, a.shape[1:], self.gain, self.shift, self.eps)
        return F.layer_norm(a.movedim(1, -1), (self.features,), self.gain, self.shift, self.eps).movedim(-1, 1)

    def layout(self, cases: int, positions: int) -> Layout | None:
        if self.detach != "none" or self.axes == "unit":
            return None
        return Layout("mean", cases * positions if self.axes == "pixel" else cases, 1)

    def normalized_by_constants(self, a: Tensor) -> Tensor:
        dims = case_dims(a, self.axes)
        mean = a.mean(dims, keepdim=True)
        inverse = ((a - mean).square().mean(dims, keepdim=True) + self.eps).rsqrt()
        mean = mean.detach() if self.detach in ("mean", "both") else mean
        return (a - mean) * (inverse.detach() if self.detach in ("std", "both") else inverse)


class RMSNorm(Norm):
    """`norm=rms`: layer norm without the mean, g * a / sqrt(mean a^2) + b (Zhang and Sennrich 2019, with a shift).

    a: (..., features), or (N, C, H, W): over all units of the layer, a gain per channel.
    """

    name = "rms"
    table_1 = (1, 0, 0, 1, 0, 1)  # Zhang and Sennrich (2019)

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        mean_square = a.square().mean(case_dims(a, "channel"), keepdim=True)
        return self.scale(a * (mean_square + self.eps).rsqrt())

    def layout(self, cases: int, positions: int) -> Layout | None:
        return Layout("zero", cases, 1)


class GroupNorm(Norm):
    """`norm=group`: layer norm within each of `groups` groups of channels, or of units (Wu and He 2018).

    a: (..., features), or (N, C, H, W). Where a group has a single value, the output
    is the shift, no gradient reaches the weights below, and `undefined` remembers it, as in batch norm at batch size 1.
    Raises ModelError where the groups do not divide the features.
    """

    name = "group"
    table_1 = LayerNorm.table_1

    undefined: Tensor

    def __init__(
        self, features: int, *, gain: float = 1.0, shift: bool = True, eps: float = EPS, groups: int = 4
    ) -> None:
        if features % groups:
            raise ModelError(f"model.groups={groups} does not divide the {features} units of a layer")
        super().__init__(features, gain=gain, shift=shift, eps=eps)
        self.groups = groups
        self.register_buffer("undefined", torch.tensor(False))

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        cases = a if a.dim() == 4 else a.reshape(-1, self.features)
        if cases.shape[1:].numel() > self.groups:
            return F.group_norm(cases, self.groups, self.gain, self.shift, self.eps).view(a.shape)
        self.undefined |= self.training
        return self.scale(a * 0)

    def layout(self, cases: int, positions: int) -> Layout | None:
        return Layout("mean", cases, self.groups)


class InstanceNorm(GroupNorm):
    """`norm=instance`: statistics of each channel of each case over its positions (Ulyanov et al. 2016).

    a: (N, C, H, W). Elsewhere, and on maps of one position, a channel has a single value.
    """

    name = "instance"
    table_1 = (1, 1, 1, 1, 1, 1)  # of single values: the output is constant

    def __init__(self, features: int, *, gain: float = 1.0, shift: bool = True, eps: float = EPS) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps, groups=features)


def case_dims(a: Tensor, axes: str) -> tuple[int, ...]:
    """The dimensions of `a` over which a case has its statistics."""
    if a.dim() != 4:
        return (-1,)
    return (1,) if axes == "pixel" else (1, 2, 3)
