"""Recurrent layers with normalised summed inputs: tanh-RNN, LSTM, GRU exactly as the paper writes them.

Equation numbers are those of Ba, Kiros and Hinton (2016). W_x x does not depend on the state, so each layer projects
(and, where the equation has it, normalises) the whole sequence before its loop over time. Where two terms of a sum
would each bring a shift, one is kept. This is the plain reference implementation: one autograd node per operation.
"""

from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import ModelError, kernels
from models.norms import Norm, NormConfig, StepwiseBatchNorm, recurrent, reparametrize

PLAIN = ("none", "weight")  # norms that leave the summed inputs alone
States = tuple[Tensor, ...]  # (h,), in an LSTM (h, c), each (B, hidden_size)


# Forms of the LSTM with layer norm found in papers and public code (models/lstm_variants.py).
VARIANTS = ("paper", "inner_bias", "carried", "per_gate", "per_gate_carried", "cell_only", "no_cell")


@dataclass
class RecurrentConfig(NormConfig):
    """What the language model and the sequence classifier have in common."""

    cell: str = field(default="lstm", metadata={"choices": ("tanh", "lstm", "gru")})
    hidden_size: int = 64
    layers: int = field(default=1, metadata={"maximum": 1000})
    variant: str = field(default="paper", metadata={"choices": VARIANTS})  # cell=lstm with norm=layer only
    gain: float | None = None  # initial gain of the norms; null: 1, for batch norm 0.1
    # Batch norm only: running averages for each time step, or one for all of them.
    statistics: str = field(default="per_step", metadata={"choices": ("per_step", "pooled")})
    recurrent_scale: float = 1.0  # multiplies the initial recurrent weights
    initial_state_std: float = 0.0  # noise on h_0 in training, the same for every norm (Cooijmans et al. use 0.1)


class RecurrentLayer(nn.Module):
    """One layer over a whole sequence; a cell adds its norms and its `loop`."""

    gates: int  # width of the projections in units of hidden_size
    carried: int = 1  # tensors of state: h, or h and c

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.hidden_size, self.initial_state_std = size, config.initial_state_std
        bound = 1 / sqrt(size)  # the range PyTorch gives its own recurrent layers
        self.W_x = nn.Parameter(torch.empty(input_size, self.gates * size).uniform_(-bound, bound))
        self.W_h = nn.Parameter(torch.empty(size, self.gates * size).uniform_(-bound, bound))
        with torch.no_grad():
            self.W_h.mul_(config.recurrent_scale)
        self.norm, self.config = norm, config
        self.steps = steps if config.statistics == "per_step" else 1
        reparametrize(norm, self, "W_x", "W_h", dim=1)

    def make_norm(self, width: int, shift: bool) -> Norm:
        options: Any = {"steps": self.steps, "gain": self.config.gain, "shift": shift}
        return recurrent(self.norm, width * self.hidden_size, self.config, **options)

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


def row(mask: Tensor | None, t: int) -> Tensor | None:
    return None if mask is None else mask[t]


def keep(new: Tensor, old: Tensor, inside: Tensor | None) -> Tensor:
    return new if inside is None else torch.where(inside[:, None], new, old)


class TanhLayer(RecurrentLayer):
    """Equation 4: h_t = tanh(norm(W_h h + W_x x)), one norm on the sum."""

    gates = 1

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__(input_size, norm, steps, config)
        self.norm_a = self.make_norm(1, shift=True)

    def terms(self) -> list[list[Norm]]:
        return [[self.norm_a], [], []]

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        (h,), outputs, W_h = state, [], self.W_h
        for t, x_t in enumerate(self.project(x).unbind(0)):
            inside = row(mask, t)
            a = torch.addmm(x_t, h, W_h)
            h = keep(torch.tanh(self.norm_a(a, t, inside)), h, inside)
            outputs.append(h)
        return outputs, (h,)


class LSTMLayer(RecurrentLayer):
    """Equations 20-22: (f, i, o, g) = norm(W_h h) + norm(W_x x) + b; c = s(f) c + s(i) tanh(g); h = s(o) tanh(norm(c)).

    The two norms run over all four gates at once, b is outside them, and c itself is carried un-normalised.
    """

    gates, carried = 4, 2

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__(input_size, norm, steps, config)
        self.norm_x = self.make_norm(4, shift=True)  # its shift is b
        self.norm_h = self.make_norm(4, shift=False)
        # Where sums are left alone c has neither gain nor shift: that is the ordinary LSTM.
        self.norm_c = nn.Identity() if norm in PLAIN else self.make_norm(1, shift=True)

    def terms(self) -> list[list[Norm]]:
        return [[self.norm_x], [self.norm_h], [self.norm_c] if isinstance(self.norm_c, Norm) else []]

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        (h, c), outputs, size, W_h = state, [], self.hidden_size, self.W_h
        plain = self.norm in PLAIN
        for t, x_t in enumerate(self.norm_x(self.project(x), None, mask).unbind(0)):
            inside = row(mask, t)
            a = torch.addmm(x_t, h, W_h) if plain else x_t + self.norm_h(h @ W_h, t, inside)
            f, i, o = torch.sigmoid(a[:, : 3 * size]).chunk(3, 1)
            c_new = f * c + i * torch.tanh(a[:, 3 * size :])
            h_new = o * torch.tanh(c_new if plain else self.norm_c(c_new, t, inside))
            h, c = keep(h_new, h, inside), keep(c_new, c, inside)
            outputs.append(h)
        return outputs, (h, c)


class GRULayer(RecurrentLayer):
    """Equations 26-28: (z, r) = norm(W_h h) + norm(W_x x); h~ = tanh(norm(W x) + s(r) norm(U h));
    h = (1 - s(z)) h + s(z) h~.

    The reset gate acts after U h, and norm(U h) has a shift of its own there. W_x holds W_x and W, W_h holds W_h and U.
    """

    gates = 3

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__(input_size, norm, steps, config)
        self.norm_x, self.norm_h = self.make_norm(2, shift=True), self.make_norm(2, shift=False)
        self.norm_candidate, self.norm_u = self.make_norm(1, shift=True), self.make_norm(1, shift=True)

    def terms(self) -> list[list[Norm]]:
        return [[self.norm_x, self.norm_candidate], [self.norm_h, self.norm_u], []]

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        (h,), outputs, two, W_h = state, [], 2 * self.hidden_size, self.W_h
        projected = self.project(x)
        gates = self.norm_x(projected[..., :two], None, mask).unbind(0)
        candidates = self.norm_candidate(projected[..., two:], None, mask).unbind(0)
        for t, (gates_t, candidate_t) in enumerate(zip(gates, candidates, strict=True)):
            inside = row(mask, t)
            a = h @ W_h
            z, r = torch.sigmoid(gates_t + self.norm_h(a[:, :two], t, inside)).chunk(2, 1)
            candidate = torch.tanh(candidate_t + r * self.norm_u(a[:, two:], t, inside))
            h = keep(torch.lerp(h, candidate, z), h, inside)
            outputs.append(h)
        return outputs, (h,)


CELLS: dict[str, type[RecurrentLayer]] = {"tanh": TanhLayer, "lstm": LSTMLayer, "gru": GRULayer}


def lstm_variant(config: RecurrentConfig, norm: str) -> type[RecurrentLayer]:
    from models.lstm_variants import LSTMVariant  # built on this module

    if config.cell != "lstm" or norm != "layer":
        asked = f"model.variant={config.variant} with model.cell={config.cell} norm={norm}"
        raise ModelError(f"{asked}: the variants are forms of the LSTM with layer norm; use model.variant=paper")
    return LSTMVariant


class RNN(nn.Module):
    """Stacked recurrent layers: x (T, B, input_size) or (T, B) one-hot integers -> (T, B, hidden_size), state."""

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__()
        sizes = [input_size] + [config.hidden_size] * (config.layers - 1)
        layer = CELLS[config.cell] if config.variant == "paper" else lstm_variant(config, norm)
        self.layers = nn.ModuleList(layer(size, norm, steps, config) for size in sizes)

    def forward(self, x: Tensor, state: Any = None, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        states = []
        for layer, carried in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, carried = layer(x, carried, mask)
            states.append(tuple(s.detach() for s in carried))
        return x, states
