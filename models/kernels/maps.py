"""The norm of feature maps with the ReLU after it, and the border of a torus, natively where no gradient is asked for.

`torch.relu(norm(a))` and `torch.cat` are the plain reference; this is the same to rounding. It wants maps on the CPU
whose channels lie side by side in memory ("channels last").
"""

from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..batch_norms import BatchNorm
from ..case_norms import GroupNorm, InstanceNorm, LayerNorm, Layout, Norm, RMSNorm, Unnormalized
from ..sync_batch_norm import SyncBatchNorm
from ..weight_norm import WeightNorm
from .library import unavailable
from .updates import AVERAGES

NORMS: tuple[type[Norm], ...] = (
    *(Unnormalized, WeightNorm, LayerNorm, RMSNorm),
    *(GroupNorm, InstanceNorm, BatchNorm, SyncBatchNorm),
)
CENTRES = ("none", "given", "mean", "zero")  # of a layout, in the order of the C++ enumeration


def relu_of_norm(norm: Any, a: Tensor) -> Tensor:
    """relu(norm(a)) of a: (N, C) or (N, C, H, W)."""
    layout = layout_of(norm, len(a), a[:1, :1].numel()) if fits(a) and not hooked(norm) else None
    if layout is None:
        return torch.relu(norm(a))
    if layout.centre == "given":
        statistics = torch.stack([norm.running_mean, (norm.running_variance + norm.eps).rsqrt()])
    else:
        statistics = a.new_empty(2, layout.sets, layout.groups)
    numbers = CENTRES.index(layout.centre), norm.eps, getattr(norm, "momentum", 0.0)
    y: Tensor = torch.ops.layernorm.relu_of_norm(a, scales(norm), averages(norm), statistics, *numbers)
    return y


def wrapped(x: Tensor) -> Tensor:
    """x (N, C, H, W) with its opposite sides repeated beyond its border: (N, C, H + 2, W + 2)."""
    if fits(x):
        y: Tensor = torch.ops.layernorm.wrapped(x)
        return y
    x = torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2)
    return torch.cat([x[..., -1:], x, x[..., :1]], 3)


def fits(a: Tensor) -> bool:
    """Whether native code may make something of a for which nobody asks a gradient."""
    memory = torch.channels_last if a.dim() == 4 else torch.contiguous_format
    return (
        kernels.mode != "reference"
        and not torch.is_grad_enabled()
        and a.device.type == "cpu"
        and a.dtype in (torch.float32, torch.float64)
        and a.dim() in (2, 4)
        and a.numel() > 0
        and a.is_contiguous(memory_format=memory)
        and not unavailable()
    )


def hooked(norm: Norm) -> bool:
    """Whether someone wants to see what the norm computes."""
    return any(getattr(norm, f"_{kind}_hooks") for kind in kernels.HOOKS)


def layout_of(norm: Any, cases: int, positions: int) -> Layout | None:
    """How a norm treats maps that it is about to normalise; None where native code cannot."""
    layout: Layout | None = norm.layout(cases, positions) if type(norm) in NORMS else None
    if layout and layout.centre == "mean" and cases * positions * norm.features == layout.sets * layout.groups:
        for name, buffer in norm.named_buffers():  # single values are normalised
            if name == "undefined":
                buffer |= norm.training
    return layout


def scales(norm: Any) -> list[Tensor]:
    """Gain and shift; empty where there is none."""
    return [torch.empty(0) if scale is None else scale.detach() for scale in (norm.gain, norm.shift)]


def averages(norm: Any) -> list[Tensor]:
    """What a norm averages in training; nothing otherwise."""
    if isinstance(norm, BatchNorm) and norm.training:
        return [getattr(norm, name) for name in AVERAGES]
    return [torch.empty(0)] * len(AVERAGES)
