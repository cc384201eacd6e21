"""Recurrent layers in native code: one call forward over a whole sequence, one backward through time.

models/rnn.py is the plain reference; this is the same to rounding, several times faster. It covers tanh-RNN, LSTM and
GRU with none, layer and batch norm in float32 and float64 on the CPU. DERIVATION.md has the formulas.

library.py compiles it, for this machine's processor, into a cache that all later runs share.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models import KernelError as KernelError
from models.batch_norms import StepwiseBatchNorm
from models.case_norms import LayerNorm, Norm, Unnormalized
from models.kernels.library import unavailable as unavailable
from models.options import KERNELS

NORMS: tuple[type[Norm], ...] = (Unnormalized, LayerNorm, StepwiseBatchNorm)  # in the order of the C++ enumeration
CELLS = ("TanhLayer", "LSTMLayer", "GRULayer")  # of models/rnn.py, likewise
HOOKS = ("forward", "forward_pre", "backward", "backward_pre")
mode = "auto"
used: set[str] = set()  # the implementations that recurrent layers ran on since `use` was called


def use(chosen: str) -> None:
    """Which implementation recurrent layers run on from now on: `auto` takes the native one where there is one."""
    global mode
    if chosen not in KERNELS:
        raise ValueError(f"kernel={chosen}: choose one of {', '.join(KERNELS)}")
    mode = chosen
    used.clear()


def refusal(layer: Any, x: Tensor) -> str:
    """Why this layer cannot run natively on x, in one line; empty if it can."""
    if mode == "reference":
        return "kernel=reference"
    if type(layer).__name__ not in CELLS or type(layer).__module__ != "models.rnn":
        return f"no kernel for {type(layer).__name__}"
    norms = [norm for term in layer.terms() for norm in term]
    kinds = {type(child) for child in layer.children()} - ({nn.Identity} if layer.norm == "none" else set())
    if len(kinds) > 1 or not kinds <= set(NORMS):
        return f"no kernel for the norms {', '.join(sorted(kind.__name__ for kind in kinds))}"
    if len({(norm.eps, norm.training) for norm in norms}) > 1:
        return "its norms differ in eps or in being trained"
    if any(getattr(norm, "detach", "none") != "none" for norm in norms):
        return "no kernel for detached statistics"
    if any((norm.gain is None) != isinstance(norm, Unnormalized) for norm in norms):
        return "no kernel for a norm without a gain"
    if any(getattr(norm, f"_{kind}_hooks") for norm in norms for kind in HOOKS):
        return "hooks on its norms see no native computation"
    if x.device.type != "cpu" or layer.W_h.device.type != "cpu":
        return f"no kernel for device {x.device}"
    types = {tensor.dtype for tensor in (*layer.parameters(), *layer.buffers()) if tensor.is_floating_point()}
    if not types <= {torch.float32, torch.float64} or len({*types, x.dtype} - {torch.int64}) > 1:
        return f"no kernel for {x.dtype} inputs and {' and '.join(sorted(map(str, types)))} weights"
    if torch.is_autocast_enabled("cpu"):
        return "no kernel for autocast"
    if x.numel() == 0:
        return "no kernel for empty sequences"
    return unavailable()


def applies(layer: Any, x: Tensor) -> bool:
    """Whether this layer runs natively on x. Raises KernelError where `native` was demanded in vain."""
    reason = refusal(layer, x)
    if reason and mode == "native":
        raise KernelError(f"kernel=native: {reason}")
    used.add("reference" if reason else "native")
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
            cell, norm, x, *weights, parameters, statistics, mask, given, eps, h_0.contiguous(), c_0.contiguous()
        )
        ctx.call = cell, norm, given, eps
        ctx.save_for_backward(x, *weights, *parameters, *statistics, mask, h, c, workspace)
        return h[1:], c[-1].clone() if len(c) else c

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise KernelError("a native kernel has no second derivative; kernel=reference has")
        cell, norm, given, eps = ctx.call
        x, W_x, W_h, *rest = ctx.saved_tensors
        parameters, statistics, (mask, h, c, workspace) = rest[:6], rest[6:9], rest[9:]
        sequence = cell, norm, x, W_x, W_h, parameters, statistics, mask, given, eps, h, c, workspace
        d_x, d_W_x, d_W_h, *d_parameters, d_h_0, d_c_0 = torch.ops.layernorm.recurrence_backward(
            *sequence, d_outputs.contiguous(), d_c.contiguous(), ctx.needs_input_grad[1]
        )
        found = (d_x if ctx.needs_input_grad[1] else None, d_W_x, d_W_h, d_h_0, d_c_0, *d_parameters)
        needed = zip(found, ctx.needs_input_grad[1:], strict=True)
        return None, *(d if need and d is not None and d.numel() else None for d, need in needed)


def run(layer: Any, x: Tensor, state: tuple[Tensor, ...], mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the layer's `forward` returns: h (T, B, hidden_size) and the state after the last step."""
    terms = layer.terms()
    norms: list[Norm] = [norm for term in terms for norm in term]
    nothing = layer.W_h.new_empty(0)
    parameters = [joined(part, nothing) for part in parts(layer)]
    statistics = [statistics_of(term, x, nothing) for term in terms]
    given = isinstance(norms[0], StepwiseBatchNorm) and not norms[0].training
    inside = torch.empty(0, dtype=torch.bool) if mask is None else mask.contiguous()
    call = CELLS.index(type(layer).__name__), NORMS.index(type(norms[0])), statistics, inside, given, norms[0].eps
    h_0, c_0 = state if len(state) == 2 else (*state, nothing)
    h, c = Recurrence.apply(call, x, layer.W_x, layer.W_h, h_0, c_0, *parameters)
    if isinstance(norms[0], StepwiseBatchNorm) and norms[0].training:
        update_averages(terms, statistics, mask, x.shape[1])
    last = h[-1].clone()  # not a view: whoever carries the state on would keep the whole sequence
    return h, (last, c) if len(state) == 2 else (last,)


def parts(layer: Any) -> list[list[Tensor]]:
    """The gains, then the shifts side by side in each term of W_x x, W_h h and c; zeros where there is no shift."""
    sizes = [*[layer.gates * layer.hidden_size] * 2, layer.hidden_size]
    found: list[list[Tensor]] = []
    for term, size in zip(layer.terms(), sizes, strict=True):
        shifts = [layer.W_h.new_zeros(norm.features) if norm.shift is None else norm.shift for norm in term]
        found += [[norm.gain for norm in term if norm.gain is not None], shifts or [layer.W_h.new_zeros(size)]]
    return found


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
    """BatchNorm.update of every norm."""
    steps = next(len(found[0]) for found in statistics if found.numel())
    counts = torch.full((steps,), batch) if mask is None else mask.sum(1)
    single = bool((counts == 1).any())
    for term, found in zip(terms, statistics, strict=True):
        start = 0
        for norm in term:
            averages = norm.running_mean, norm.running_variance, norm.updates
            torch.ops.layernorm.update_averages(found, start, counts, *averages, norm.eps, norm.momentum)
            if single:
                norm.undefined.fill_(True)
            start += norm.features
