"""Recurrent layers in native code: one call forward over a whole sequence, one backward through time.

models/rnn.py is the plain reference; this is the same to rounding, several times faster. It covers tanh-RNN, LSTM and
GRU with none, layer and batch norm in float32 and float64 on the CPU. DERIVATION.md has the formulas.

library.py compiles it, for this machine's processor, into a cache that all later runs share.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.kernels.library import unavailable
from models.norms import LayerNorm, Norm, StepwiseBatchNorm, Unnormalized

MODES = ("auto", "native", "reference")
NORMS: tuple[type[Norm], ...] = (Unnormalized, LayerNorm, StepwiseBatchNorm)  # in the order of the C++ enumeration
CELLS = ("TanhLayer", "LSTMLayer", "GRULayer")
mode = "auto"


class KernelError(RuntimeError):
    """A layer that has no native kernel, where one was demanded; one line with the reason."""


def use(chosen: str) -> None:
    """Which implementation recurrent layers run on from now on: `auto` takes the native one where there is one."""
    global mode
    if chosen not in MODES:
        raise ValueError(f"kernel={chosen}: choose one of {', '.join(MODES)}")
    mode = chosen
    if mode == "native" and unavailable():
        raise KernelError(f"kernel=native: {unavailable()}")


def refusal(layer: nn.Module, x: Tensor) -> str:
    """Why this layer cannot run natively on x, in one line; empty if it can."""
    if mode == "reference":
        return "kernel=reference"
    norms = [child for child in layer.children() if isinstance(child, Norm)]
    if type(layer).__name__ not in CELLS:
        return f"no kernel for {type(layer).__name__}"
    if any(type(norm) is not type(norms[0]) or type(norm) not in NORMS for norm in norms):
        return f"no kernel for the norms {', '.join(type(norm).__name__ for norm in norms)}"
    if len({(norm.eps, norm.training) for norm in norms}) > 1:
        return "its norms differ in eps or in being trained"
    if any(norm._forward_hooks or norm._forward_pre_hooks for norm in norms):
        return "hooks on its norms see no native computation"
    weight = layer.W_h
    if x.device.type != "cpu" or weight.device.type != "cpu":
        return f"no kernel for device {x.device}"
    if weight.dtype not in (torch.float32, torch.float64) or (x.is_floating_point() and x.dtype != weight.dtype):
        return f"no kernel for {x.dtype} inputs and {weight.dtype} weights"
    return unavailable()


def applies(layer: nn.Module, x: Tensor) -> bool:
    """Whether this layer runs natively on x. Raises KernelError where `native` was demanded in vain."""
    reason = refusal(layer, x)
    if reason and mode == "native":
        raise KernelError(f"kernel=native: {reason}")
    return not reason


class Recurrence(torch.autograd.Function):
    """h of every step and c after the last, from x, the weights, h_0, c_0 and the gains and shifts of x, h and c."""

    @staticmethod
    def forward(
        ctx: Any,
        call: tuple[Any, ...],
        x: Tensor,
        W_x: Tensor,
        W_h: Tensor,
        h_0: Tensor,
        c_0: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        cell, norm, statistics, mask, given, eps = call
        x, weights = x.contiguous(), (W_x.contiguous(), W_h.contiguous())
        parameters = tuple(parameter.contiguous() for parameter in parameters)
        h, c, workspace = torch.ops.layernorm.recurrence(
            cell, norm, x, *weights, parameters, statistics, mask, h_0.contiguous(), c_0.contiguous(), given, eps
        )
        ctx.call = cell, norm, given, eps
        ctx.save_for_backward(x, *weights, *parameters, *statistics, mask, h, c, workspace)
        return h[1:], c[-1] if len(c) else c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        cell, norm, given, eps = ctx.call
        x, W_x, W_h, *rest = ctx.saved_tensors
        parameters, statistics, (mask, h, c, workspace) = rest[:6], rest[6:9], rest[9:]
        d_x, d_W_x, d_W_h, *d_parameters, d_h_0, d_c_0 = torch.ops.layernorm.recurrence_backward(
            cell,
            norm,
            x,
            W_x,
            W_h,
            parameters,
            statistics,
            mask,
            h,
            c,
            workspace,
            given,
            eps,
            d_outputs.contiguous(),
            d_c.contiguous(),
            ctx.needs_input_grad[1],
        )
        found = (d_x if ctx.needs_input_grad[1] else None, d_W_x, d_W_h, d_h_0, d_c_0, *d_parameters)
        needed = zip(found, ctx.needs_input_grad[1:], strict=True)
        return None, *(d if need and d is not None and d.numel() else None for d, need in needed)


def run(layer: Any, x: Tensor, state: tuple[Tensor, ...], mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the layer's `forward` returns: h (T, B, hidden_size) and the state after the last step."""
    terms = layer.terms()
    norms: list[Norm] = [norm for term in terms for norm in term]
    nothing = layer.W_h.new_empty(0)
    sizes = [*[layer.gates * layer.hidden_size] * 2, layer.hidden_size]
    parameters, statistics = [], []
    for term, size in zip(terms, sizes, strict=True):
        gains = [norm.gain for norm in term if norm.gain is not None]
        shifts = [nothing.new_zeros(norm.features) if norm.shift is None else norm.shift for norm in term]
        parameters += [joined(gains, nothing), joined(shifts, nothing) if shifts else nothing.new_zeros(size)]
        statistics.append(statistics_of(term, x, nothing))
    given = isinstance(norms[0], StepwiseBatchNorm) and not norms[0].training
    inside = torch.empty(0, dtype=torch.bool) if mask is None else mask.contiguous()
    call = CELLS.index(type(layer).__name__), NORMS.index(type(norms[0])), statistics, inside, given, norms[0].eps
    h_0, c_0 = state if len(state) == 2 else (*state, nothing)
    h, c = Recurrence.apply(call, x, layer.W_x, layer.W_h, h_0, c_0, *parameters)  # type: ignore[no-untyped-call]
    if isinstance(norms[0], StepwiseBatchNorm) and norms[0].training:
        update_averages(terms, statistics, mask, x.shape[1])
    return h, (h[-1], c) if len(state) == 2 else (h[-1],)


def joined(parts: list[Any], nothing: Tensor) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else nothing


def statistics_of(term: list[Norm], x: Tensor, nothing: Tensor) -> Tensor:
    """Room for mean and 1 / sqrt(variance + eps) of each step, or, of batch norm at test time, what is in it."""
    length, batch = x.shape[:2]
    if not term or isinstance(term[0], Unnormalized):
        return nothing
    if isinstance(term[0], LayerNorm):
        return nothing.new_empty(2, length, len(term), batch)
    if term[0].training:
        return nothing.new_empty(2, length, sum(norm.features for norm in term))
    parts = [norm.statistics_at(length) for norm in term if isinstance(norm, StepwiseBatchNorm)]
    return torch.cat(parts, -1).contiguous()


def update_averages(terms: list[list[Any]], statistics: list[Tensor], mask: Tensor | None, batch: int) -> None:
    counts = torch.tensor(batch) if mask is None else mask.sum(1, keepdim=True)
    for term, found in zip(terms, statistics, strict=True):
        start = 0
        for norm in term:
            mean, inverse = found[..., start : start + norm.features]
            norm.update(mean, inverse, counts)
            norm.undefined |= (counts == 1).any()
            start += norm.features
