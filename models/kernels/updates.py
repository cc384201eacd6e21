"""Training updates in native code: many in one call, with nothing of Python between them.

The loop of whoever trains, with autograd and PyTorch's optimiser, is the plain reference; this is the same to rounding.
Here is what all models' updates have in common; they are trained by Adam or SGD on the CPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from .. import kernels
from ..model import Batch, Batches, State
from .library import unavailable

AVERAGES = ("running_mean", "running_variance", "updates")  # of batch norm
# In a call: a second's work at most, so that a run can be interrupted.
CASES_AT_ONCE, MULTIPLICATIONS_AT_ONCE = 512, 2**32
OPTIONS = ("weight_decay", "amsgrad", "maximize", "nesterov", "dampening")  # of optimisers, not of these


def refusal(model: nn.Module, optimizer: Optimizer) -> str:
    """Why no model like this can be trained natively, in one line; empty if its layers decide."""
    if kernels.mode == "reference":
        return "kernel=reference"
    if not all(module.training for module in model.modules()):
        return "no kernel for a model of which parts are not being trained"
    if any(getattr(module, f"_{kind}_hooks") for module in model.modules() for kind in kernels.HOOKS):
        return "hooks see no native computation"
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    types = {(tensor.device.type, tensor.dtype) for tensor in tensors}
    if len(types) > 1 or not types <= {("cpu", torch.float32), ("cpu", torch.float64)}:
        return "no kernel for its device or number format"
    if not all(p.requires_grad and p.is_contiguous(memory_format=memory_of(p)) for p in model.parameters()):
        return "no kernel for frozen or transposed weights"
    if type(optimizer) not in (Adam, SGD):
        return f"no kernel for {type(optimizer).__name__}"
    if len(optimizer.param_groups) > 1 or any(optimizer.param_groups[0].get(option) for option in OPTIONS):
        return "no kernel for further options of the optimiser"
    return unavailable()


def memory_of(parameter: Tensor) -> torch.memory_format:
    """How those of a layer lie in memory: of a convolution, with the channels side by side."""
    return torch.channels_last if parameter.dim() == 4 else torch.contiguous_format


class Updates(ABC):
    """The updates of a model by an optimiser, whose state is kept where PyTorch keeps it: in its checkpoints too.

    `parameters`: those of the model in the order of its operator; None, or what needs no gradient, has no state.
    `clip_norm`: the largest norm of the gradient of all of them, as `torch.nn.utils.clip_grad_norm_` has it; 0: any.
    """

    def __init__(self, parameters: list[Any], optimizer: Optimizer, clip_norm: float = 0.0) -> None:
        self.parameters, self.optimizer, self.clip_norm = parameters, optimizer, clip_norm

    @abstractmethod
    def call(self, x: Tensor, y: Tensor, optimizer: tuple[Any, ...], state: State) -> State:
        """One update for each of x and y, (updates, B, ...), that go on from `state`; returns what they end in.

        `optimizer`: what every operator takes next to x and y, from `parameters` to `loss_sum`.
        """

    def make(
        self, data: Batches, steps: range, rate: Callable[[int], float], loss_sum: Tensor, state: State
    ) -> tuple[int, State]:
        """The first of these updates, each at its rate, on a batch of its own; returns how many, and the state.

        The losses are added to `loss_sum`, of the weights' number format, one by one: how many there are in a call
        changes no bit.
        """
        batches: list[Batch] = []
        for step in steps:
            batches.append(data.train_batch(step))
            cases, work = len(batches[0][1]), self.multiplications(batches[0][0])
            if len(batches) * cases >= CASES_AT_ONCE or len(batches) * work >= MULTIPLICATIONS_AT_ONCE:
                break
        x, y = (torch.stack(parts) for parts in zip(*batches, strict=True))
        group = self.optimizer.param_groups[0]
        adam = isinstance(self.optimizer, Adam)
        states = [self.state_of(p, adam) for p in self.parameters]
        counts = [state["step"] for state in states if "step" in state]
        momentum, squares = group["betas"] if adam else (group["momentum"], 0.0)
        nothing = loss_sum.new_empty(0)
        optimizer = (
            [nothing if p is None else p.detach() for p in self.parameters],
            [state.get("exp_avg" if adam else "momentum_buffer", nothing) for state in states],
            [state.get("exp_avg_sq", nothing) for state in states],
            adam,
            [rate(step) for step in steps[: len(batches)]],
            momentum,
            squares,
            group.get("eps", 0.0),
            self.clip_norm,
            int(counts[0]) if adam else 0,
            loss_sum,
        )
        state = self.call(x, y, optimizer, state)
        for count in counts:
            count += len(batches)
        return len(batches), state

    def multiplications(self, x: Tensor) -> int:
        """Of a pass forward over a batch, in round numbers."""
        weights: int = sum(p.numel() for p in self.parameters if p is not None)
        return len(x) * weights

    def state_of(self, parameter: Tensor | None, adam: bool) -> dict[str, Tensor]:
        """What the optimiser keeps of a parameter, begun as it would begin it."""
        if parameter is None or not parameter.requires_grad:
            return {}
        state: dict[str, Tensor] = self.optimizer.state[parameter]
        if adam and not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        if not adam and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state
