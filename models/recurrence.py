"""What all recurrent layers share: their options, their weights and state, and how they meet a sequence.

W_x x does not depend on the state, so each layer projects (and, where the equation has it, normalises) the whole
sequence before its loop over time.
"""

from collections.abc import Iterable
from math import isfinite, log10, nan, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels
from .batch_norms import StepwiseBatchNorm
from .case_norms import Norm, Unnormalized
from .norms import NORMS, recurrent, reparametrize
from .options import RecurrentConfig

# norms that leave the summed inputs alone
PLAIN = tuple(name for name, norm in NORMS.items() if issubclass(norm, Unnormalized))
SMALLEST = 1e-300  # instead of a length of 0
States = tuple[Tensor, ...]  # (h,), in an LSTM (h, c), each (B, hidden_size)


class RecurrentLayer(nn.Module):
    """One layer over a whole sequence; a cell adds its norms and its `loop`."""

    cell: str  # in models.kernels; the layer that says it has a native kernel, one derived from that has not
    gates: int  # width of the projections in units of hidden_size
    carried: int = 1  # tensors of state: h, or h and c
    carries_normalized: bool = False  # c is normalised for the next step, too

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.hidden_size, self.initial_state_std = size, config.initial_state_std
        bound = 1 / sqrt(size)  # the range PyTorch gives its own recurrent layers
        self.W_x = nn.Parameter(torch.empty(input_size, self.gates * size).uniform_(-bound, bound))
        self.W_h = nn.Parameter(torch.empty(size, self.gates * size).uniform_(-bound, bound))
        with torch.no_grad():
            self.W_x.mul_(config.input_scale)
            if config.recurrent_init == "orthogonal":
                for gate in self.W_h.split(size, 1):
                    gate.copy_(nearest_orthogonal(gate))
            self.W_h.mul_(config.recurrent_scale)
        self.norm, self.config = norm, config
        self.steps = steps if config.statistics == "per_step" else 1
        reparametrize(norm, self, "W_x", "W_h", dim=1)

    def make_norm(self, width: int, shift: bool) -> Norm:
        options: Any = {"steps": self.steps, "gain": self.config.gain, "shift": shift}
        return recurrent(self.norm, width * self.hidden_size, self.config, **options)

    def bias_forget_gate(self) -> None:
        """Let the shift of an LSTM's forget gate, the first of its gates, start higher by `forget_bias`."""
        ((norm,), *_) = self.terms()
        assert norm.shift is not None
        with torch.no_grad():
            norm.shift[: self.hidden_size] += self.config.forget_bias

    def initial_state(self, batch: int) -> States:
        zeros = self.W_h.new_zeros(batch, self.hidden_size)
        h = torch.randn_like(zeros) * self.initial_state_std if self.training and self.initial_state_std else zeros
        return (h,) if self.carried == 1 else (h, zeros)

    def project(self, x: Tensor) -> Tensor:
        """W_x x for a sequence: x (T, B, input_size), or (T, B) integers that stand for one-hot vectors."""
        return x @ self.W_x if x.is_floating_point() else F.embedding(x, self.W_x)

    def forward(self, x: Tensor, state: States | None = None, mask: Tensor | None = None) -> tuple[Tensor, States]:
        """Outputs h (T, B, hidden_size) and the state after the last step.

        mask (T, B) is true inside a sequence; on padding the state stands still.
        """
        state = state or self.initial_state(x.shape[1])
        if kernels.applies(self, x):
            return kernels.run(self, x, state, mask)
        outputs, state = self.loop(x, state, mask)
        for module in self.children():
            if isinstance(module, StepwiseBatchNorm):
                module.flush()
        return torch.stack(outputs), state

    def terms(self) -> list[list[Norm]]:
        """The norms along the columns of W_x x (or of its sum with W_h h), along those of W_h h, and that of c."""
        raise TypeError("a recurrent layer needs a cell")

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        """h for each step and the state after the last; x, state and mask as in `forward`."""
        raise TypeError("a recurrent layer needs a cell")


def nearest_orthogonal(W: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a square one, its polar factor: random as W is, and nothing more is drawn."""
    U, _, V = torch.linalg.svd(W)
    nearest: Tensor = U @ V
    return nearest


def state_norm(h: Tensor) -> Tensor:
    """Euclidean length of each state (B, hidden_size), divided by sqrt(hidden_size): (B,), for tanh cells 1 at most."""
    lengths: Tensor = h.norm(dim=1) / sqrt(h.shape[1])
    return lengths


def state_norm_drift(norms: Iterable[float]) -> float:
    """How far such lengths move while a net is trained: log10 of the largest over the smallest of those finite."""
    finite = [max(norm, SMALLEST) for norm in norms if isfinite(norm)]
    return log10(max(finite) / min(finite)) if finite else nan


def row(mask: Tensor | None, t: int) -> Tensor | None:
    return None if mask is None else mask[t]


def keep(new: Tensor, old: Tensor, inside: Tensor | None) -> Tensor:
    return new if inside is None else torch.where(inside[:, None], new, old)
