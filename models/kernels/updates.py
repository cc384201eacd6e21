"""Training updates in native code: many in one call, with nothing of Python between them.

The loop of whoever trains, with autograd and PyTorch's optimiser, is the plain reference; this is the same to rounding.
It covers MLPs with none, layer and batch norm, trained by Adam or SGD on the CPU.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from models import Batch, kernels
from models.batch_norms import BatchNorm
from models.case_norms import LayerNorm, Norm, Unnormalized
from models.kernels.library import unavailable

AVERAGES = ("running_mean", "running_variance", "updates")  # of batch norm
CASES_AT_ONCE = 512  # in a call: a second's work at most, so that a run can be interrupted
NORMS: tuple[type[Norm], ...] = (Unnormalized, LayerNorm, BatchNorm)  # in the order of the C++ enumeration


class Batches(Protocol):
    """Where the batch of each update is had."""

    def train_batch(self, step: int) -> Batch: ...


def refusal(model: nn.Module, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer) -> str:
    """Why a model of these layers cannot be trained natively, in one line; empty if it can."""
    every: list[Any] = list(norms)
    if kernels.mode == "reference":
        return "kernel=reference"
    if not {type(norm) for norm in every} <= set(NORMS):
        return f"no kernel for the norms {', '.join(sorted({type(norm).__name__ for norm in every}))}"
    if any(getattr(norm, "detach", "none") != "none" or getattr(norm, "ghost_size", 0) for norm in every):
        return "no kernel for detached statistics or ghost batches"
    if len({norm.eps for norm in every}) > 1 or any(norm.shift is None for norm in every):
        return "its norms differ in eps or lack a shift"
    if any(type(linear) is not nn.Linear for linear in linears):
        return "no kernel for weights made from others"
    if any(getattr(module, f"_{kind}_hooks") for module in model.modules() for kind in kernels.HOOKS):
        return "hooks see no native computation"
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    types = {(tensor.device.type, tensor.dtype) for tensor in tensors}
    if len(types) > 1 or not types <= {("cpu", torch.float32), ("cpu", torch.float64)}:
        return "no kernel for its device or number format"
    if not all(p.requires_grad and p.is_contiguous() for p in model.parameters()):
        return "no kernel for frozen or transposed weights"
    if type(optimizer) not in (Adam, SGD):
        return f"no kernel for {type(optimizer).__name__}"
    return unavailable()


def native_updates(
    model: nn.Module, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer
) -> "Updates | None":
    """What trains a model whose every layer is relu(norm(W x)), the last without relu, on cross-entropy; or None.

    Raises KernelError if kernel=native demands it in vain.
    """
    reason = refusal(model, linears, norms, optimizer)
    if reason and kernels.mode == "native":
        raise kernels.KernelError(f"kernel=native: {reason}")
    kernels.used.add("reference" if reason else "native")
    return None if reason else Updates(linears, norms, optimizer)


class Updates:
    """The updates of a model by an optimiser, whose state is kept where PyTorch keeps it: in its checkpoints too."""

    def __init__(self, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.norms: list[Any] = list(norms)
        layers: Any = zip(linears, norms, strict=True)
        self.parameters = [p for linear, norm in layers for p in (linear.weight, norm.gain, norm.shift)]

    def make(self, data: Batches, steps: range, rate: Callable[[int], float], loss_sum: Tensor) -> int:
        """The first of these updates, each at its rate, on a batch of its own; returns how many.

        The losses are added to `loss_sum`, of the weights' number format, one by one: how many there are in a call
        changes no bit.
        """
        batches: list[Batch] = []
        for step in steps:
            batches.append(data.train_batch(step))
            if len(batches) * len(batches[0][1]) >= CASES_AT_ONCE:
                break
        x = torch.stack([x.flatten(1) for x, _ in batches])
        y = torch.stack([y for _, y in batches])
        group = self.optimizer.param_groups[0]
        adam = isinstance(self.optimizer, Adam)
        states = [self.state_of(p, adam) for p in self.parameters]
        nothing = x.new_empty(0)
        first = [state.get("exp_avg" if adam else "momentum_buffer", nothing) for state in states]
        second = [state.get("exp_avg_sq", nothing) for state in states]
        momentum, squares = group["betas"] if adam else (group["momentum"], 0.0)
        averages = [getattr(norm, name, nothing) for norm in self.norms for name in AVERAGES]
        counts = [state["step"] for state in states if "step" in state]
        torch.ops.layernorm.mlp_updates(
            x,
            y,
            [nothing if p is None else p.detach() for p in self.parameters],
            first,
            second,
            averages,
            [NORMS.index(type(norm)) for norm in self.norms],
            self.norms[0].eps,
            next((norm.momentum for norm in self.norms if isinstance(norm, BatchNorm)), 0.0),
            adam,
            [rate(step) for step in steps[: len(batches)]],
            momentum,
            squares,
            group.get("eps", 0.0),
            int(counts[0]) if adam else 0,
            loss_sum,
            torch.get_num_threads(),
        )
        for count in counts:
            count += len(batches)
        if y.shape[1] == 1:
            for norm in self.norms:
                if isinstance(norm, BatchNorm):
                    norm.undefined.fill_(True)
        return len(batches)

    def state_of(self, parameter: Tensor | None, adam: bool) -> dict[str, Tensor]:
        """What the optimiser keeps of a parameter, begun as it would begin it."""
        if parameter is None:
            return {}
        state: dict[str, Tensor] = self.optimizer.state[parameter]
        if adam and not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        if not adam and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state
