"""Every norm written out in float64, once, for the tests that compare with it: those of norms, of cells and of models.

A norm that is registered needs its equation here; the tables of the tests then hold for it, too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EPS = 1e-5
OF_A_BATCH = ("batch", "renorm", "sync_batch")  # whose statistics cases share
OF_A_CASE = ("layer", "rms", "group", "instance")
GROUPS = 2
UNCORRECTED: dict[str, Any] = {"r_max": 1.0, "d_max": 0.0}  # with which batch renormalisation is batch norm


def over(a: Tensor, *dims: int) -> Tensor:
    """Equations 2 and 3 without gain and shift: (a - mu) / sqrt(sigma^2 + eps), with the biased variance."""
    centred = a - a.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + EPS).sqrt()


def units(a: Tensor) -> tuple[int, ...]:
    """The dimensions of a case of summed inputs a: (..., units), or maps (N, C, H, W)."""
    return (1, 2, 3) if a.dim() == 4 else (-1,)


def grouped(a: Tensor, groups: int = GROUPS) -> Tensor:
    rows = a.reshape(-1, *a.shape[1:]) if a.dim() == 4 else a.reshape(-1, a.shape[-1])
    return over(rows.reshape(len(rows), groups, -1), 2).view(a.shape)


NORMALIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda a: a,
    "weight": lambda a: a,
    "batch": lambda a: over(a, *(d for d in range(a.dim()) if d != 1)),
    "renorm": lambda a: NORMALIZED["batch"](a),  # UNCORRECTED; corrections are in test_batch_renorm.py
    "sync_batch": lambda a: NORMALIZED["batch"](a),
    "layer": lambda a: over(a, *units(a)),
    "rms": lambda a: a / (a.square().mean(units(a), keepdim=True) + EPS).sqrt(),
    "group": grouped,
    "instance": lambda a: over(a, 2, 3) if a.dim() == 4 else 0 * a,  # of a single value
}


def scaled(norm: Any, normalized: Tensor) -> Tensor:
    """Gain and shift of each unit, or of each channel of maps (N, C, H, W)."""
    maps = normalized.dim() == 4
    gain, shift = (
        part.view(-1, 1, 1) if maps and part is not None and part.dim() == 1 else part
        for part in (norm.gain, norm.shift)
    )
    normalized = normalized if gain is None else gain * normalized
    return normalized if shift is None else normalized + shift


def generic(module: Any) -> Any:
    """The module in float64, its gains and shifts moved away from where they start."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.rpartition(".")[2] in ("gain", "shift", "bias"):
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module.double()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def weigh(out: Tensor) -> Tensor:
    """A loss of which no two outputs have the same gradient."""
    return (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(weigh(out), inputs)


def close(a: Any, b: Any, atol: float = 1e-11) -> bool:
    """Whether two tensors, or two sequences of them, agree to the rounding of float64."""
    if isinstance(a, Tensor):
        return torch.allclose(a, b, rtol=1e-9, atol=atol)
    return all(close(x, y, atol) for x, y in zip(a, b, strict=True))
