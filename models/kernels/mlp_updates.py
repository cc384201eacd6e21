"""Native training updates of MLPs with none, layer and batch norm."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import kernels
from ..batch_norms import BatchNorm
from ..case_norms import LayerNorm, Norm, Unnormalized
from ..model import State
from . import updates

NORMS: tuple[type[Norm], ...] = (Unnormalized, LayerNorm, BatchNorm)  # in the order of the C++ enumeration


def refusal(model: nn.Module, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer) -> str:
    """Why a model of these layers cannot be trained natively, in one line; empty if it can."""
    every: list[Any] = list(norms)
    if not {type(norm) for norm in every} <= set(NORMS):
        return f"no kernel for the norms {', '.join(sorted({type(norm).__name__ for norm in every}))}"
    if any(getattr(norm, "detach", "none") != "none" or getattr(norm, "ghost_size", 0) for norm in every):
        return "no kernel for detached statistics or ghost batches"
    if len({norm.eps for norm in every}) > 1 or any(norm.shift is None for norm in every):
        return "its norms differ in eps or lack a shift"
    if any(type(linear) is not nn.Linear for linear in linears):
        return "no kernel for weights made from others"
    return updates.refusal(model, optimizer)


def native_updates(
    model: nn.Module, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer, clip_norm: float = 0.0
) -> "MLPUpdates | None":
    """What trains a model whose every layer is relu(norm(W x)), the last without relu, on cross-entropy; or None.

    Raises KernelError if kernel=native demands it in vain.
    """
    able = kernels.settled(refusal(model, linears, norms, optimizer))
    return MLPUpdates(linears, norms, optimizer, clip_norm) if able else None


class MLPUpdates(updates.Updates):
    """Those of an MLP. x: (updates, B, ...), flattened; y (updates, B)."""

    def __init__(
        self, linears: nn.ModuleList, norms: nn.ModuleList, optimizer: Optimizer, clip_norm: float = 0.0
    ) -> None:
        self.norms: list[Any] = list(norms)
        layers: Any = zip(linears, norms, strict=True)
        parameters = [p for linear, norm in layers for p in (linear.weight, norm.gain, norm.shift)]
        super().__init__(parameters, optimizer, clip_norm)

    def call(self, x: Tensor, y: Tensor, optimizer: tuple[Any, ...], state: State) -> State:
        nothing = x.new_empty(0)
        torch.ops.layernorm.mlp_updates(
            x.flatten(2),
            y,
            *optimizer,
            [getattr(norm, name, nothing) for norm in self.norms for name in updates.AVERAGES],
            [NORMS.index(type(norm)) for norm in self.norms],
            self.norms[0].eps,
            next((norm.momentum for norm in self.norms if isinstance(norm, BatchNorm)), 0.0),
            any(isinstance(norm, BatchNorm) and norm.unbiased for norm in self.norms),
            torch.get_num_threads(),
        )
        if y.shape[1] == 1:
            for norm in self.norms:
                if isinstance(norm, BatchNorm):
                    norm.undefined.fill_(True)
        return None
