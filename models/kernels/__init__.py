"""Recurrent layers in native code: one call forward over a whole sequence, one backward through time.

models/rnn.py is the plain reference; this is the same to rounding, several times faster. It covers tanh-RNN, LSTM and
GRU with none, layer and batch norm, the forms of models/lstm_variants.py and detached statistics, in float32 and
float64 on the CPU. DERIVATION.md has the formulas.

library.py compiles it, for this machine's processor, into a cache that all later runs share.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..batch_norms import StepwiseBatchNorm
from ..case_norms import GroupNorm, LayerNorm, Norm, Unnormalized
from ..errors import KernelError as KernelError
from ..options import KERNELS
from .library import unavailable as unavailable

CELLS = ("tanh", "lstm", "gru")  # in the order of the C++ enumeration, as are
NORMS: tuple[type[Norm], ...] = (Unnormalized, LayerNorm, StepwiseBatchNorm, GroupNorm)
# What is compiled: cell, norms of W_x x and W_h h, norm of c. Groups are the gates, each of the sum of both terms.
FORMS = {
    *((cell, norm, Unnormalized) for cell in ("tanh", "gru") for norm in NORMS[:3]),
    *(("lstm", norm, norm) for norm in NORMS[:3]),
    ("lstm", GroupNorm, LayerNorm),
    ("lstm", Unnormalized, LayerNorm),
    ("lstm", LayerNorm, Unnormalized),
}
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
    if "cell" not in vars(type(layer)):
        return f"no kernel for {type(layer).__name__}"
    terms = layer.terms()
    norms = [norm for term in terms for norm in term]
    children = [child for child in layer.children() if type(child) is not nn.Identity]
    if (layer.cell, *kinds(terms)) not in FORMS or set(children) != set(norms):
        return f"no kernel for the norms {', '.join(sorted({type(child).__name__ for child in children}))}"
    if isinstance(norms[0], GroupNorm) and (terms[1] or norms[0].groups != layer.gates or layer.hidden_size == 1):
        return "no kernel for groups other than the gates of one sum, of several units each"
    normed = [norm for norm in norms if not isinstance(norm, Unnormalized)]
    if len({(norm.eps, norm.training, getattr(norm, "detach", "none")) for norm in normed}) > 1:
        return "its norms differ in eps, in detached statistics or in being trained"
    if any((norm.gain is None) != isinstance(norm, Unnormalized) for norm in norms):
        return "no kernel for a norm without a gain"
    if any(getattr(child, f"_{kind}_hooks") for child in layer.children() for kind in HOOKS):
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
    """Whether this layer runs natively on x. Raises KernelError where `native` was demanded in vain.

    `auto` leaves single steps to the reference: to lay out the weights for one takes up to 1.8 times as long.
    """
    single = mode == "auto" and len(x) == 1
    return settled("a single step" if single else refusal(layer, x))


def settled(reason: str) -> bool:
    """Whether native code runs, given the reason why it cannot, if there is one; `used` knows then what does.

    Raises KernelError where `native` was demanded in vain.
    """
    if reason and mode == "native":
        raise KernelError(f"kernel=native: {reason}")
    used.add("reference" if reason else "native")
    return not reason


def kinds(terms: list[list[Norm]]) -> tuple[type[Norm], ...]:
    """The norms of W_x x and W_h h, which are of one kind where there is a kernel, and that of c."""
    of_x, of_h, of_c = terms
    return *{type(norm) for norm in of_x + of_h}, *({type(norm) for norm in of_c} or {Unnormalized})


def form_of(layer: Any, terms: list[list[Norm]]) -> tuple[int, ...]:
    """What C++ knows of a layer: cell, norms, whether norm(c) is carried, which statistics pass no gradient."""
    detach = getattr(next(norm for term in reversed(terms) for norm in term), "detach", "none")
    constants = detach in ("mean", "both"), detach in ("std", "both")
    return CELLS.index(layer.cell), *map(NORMS.index, kinds(terms)), layer.carries_normalized, *constants


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
        form, statistics, mask, given, eps = call
        x, weights = x.contiguous(), (W_x.contiguous(), W_h.contiguous())
        parameters = tuple(parameter.contiguous() for parameter in parameters)
        h, c, workspace = torch.ops.layernorm.recurrence(
            form, x, *weights, parameters, statistics, mask, given, eps, h_0.contiguous(), c_0.contiguous()
        )
        ctx.call = form, given, eps
        ctx.save_for_backward(x, *weights, *parameters, *statistics, mask, h, c, workspace)
        return h[1:], c[-1].clone() if len(c) else c

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise KernelError("a native kernel has no second derivative; kernel=reference has")
        form, given, eps = ctx.call
        x, W_x, W_h, *rest = ctx.saved_tensors
        parameters, statistics, (mask, h, c, workspace) = rest[:6], rest[6:9], rest[9:]
        sequence = form, x, W_x, W_h, parameters, statistics, mask, given, eps, h, c, workspace
        d_x, d_W_x, d_W_h, *d_parameters, d_h_0, d_c_0 = torch.ops.layernorm.recurrence_backward(
            *sequence, d_outputs.contiguous(), d_c.contiguous(), ctx.needs_input_grad[1]
        )
        found = (d_x if ctx.needs_input_grad[1] else None, d_W_x, d_W_h, d_h_0, d_c_0, *d_parameters)
        needed = zip(found, ctx.needs_input_grad[1:], strict=True)
        return None, *(d if need and d is not None and d.numel() else None for d, need in needed)


def run(layer: Any, x: Tensor, state: tuple[Tensor, ...], mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the layer's `forward` returns: h (T, B, hidden_size) and the state after the last step."""
    terms = layer.terms()
    norm: Norm = [norm for term in terms for norm in term][-1]  # what it says of statistics, all normalised terms do
    nothing = layer.W_h.new_empty(0)
    parameters = [joined(part, nothing) for part in parts(layer)]
    statistics = [statistics_of(term, x, nothing) for term in terms]
    of_a_batch = isinstance(norm, StepwiseBatchNorm)
    given = of_a_batch and not norm.training
    inside = torch.empty(0, dtype=torch.bool) if mask is None else mask.contiguous()
    h_0, c_0 = state if len(state) == 2 else (*state, nothing)
    call = form_of(layer, terms), statistics, inside, given, norm.eps
    inputs, W_x = x, layer.W_x
    if (bias := getattr(layer, "bias", None)) is not None:
        inputs, W_x = with_bias(x, W_x, bias)
        parameters[1] = parameters[1] + bias
    h, c = Recurrence.apply(call, inputs, W_x, layer.W_h, h_0, c_0, *parameters)
    if of_a_batch and norm.training:
        update_averages(terms, statistics, mask, x.shape[1])
    last = h[-1].clone()  # not a view: whoever carries the state on would keep the whole sequence
    return h, (last, c) if len(state) == 2 else (last,)


def with_bias(x: Tensor, W_x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and weights whose product is W_x x + bias: every row has it, or a further input, which is always 1."""
    return (F.pad(x, (0, 1), value=1.0), torch.cat([W_x, bias[None]])) if x.is_floating_point() else (x, W_x + bias)


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
    if isinstance(term[0], (LayerNorm, GroupNorm)):
        return nothing.new_empty(2, length, term[0].groups if isinstance(term[0], GroupNorm) else len(term), batch)
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
