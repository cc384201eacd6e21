"""Recurrent layers with normalised summed inputs: tanh-RNN, LSTM, GRU exactly as the paper writes them.

Equation numbers are those of Ba, Kiros and Hinton (2016). Where two terms of a sum would each bring a shift, one is
kept. This is the plain reference implementation: one autograd node per operation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .case_norms import Norm
from .errors import ModelError
from .lstm_variants import LSTMVariant
from .model import State
from .options import RecurrentConfig
from .recurrence import PLAIN, RecurrentLayer, States, keep, row


class TanhLayer(RecurrentLayer):
    """Equation 4: h_t = tanh(norm(W_h h + W_x x)), one norm on the sum."""

    cell, gates = "tanh", 1

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

    cell, gates, carried = "lstm", 4, 2

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__(input_size, norm, steps, config)
        self.norm_x = self.make_norm(4, shift=True)  # its shift is b
        self.norm_h = self.make_norm(4, shift=False)
        # Where sums are left alone c has neither gain nor shift: that is the ordinary LSTM.
        self.norm_c = nn.Identity() if norm in PLAIN else self.make_norm(1, shift=True)
        self.bias_forget_gate()

    def terms(self) -> list[list[Norm]]:
        return [[self.norm_x], [self.norm_h], [self.norm_c] if isinstance(self.norm_c, Norm) else []]

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        outputs, W_h = [], self.W_h
        for t, x_t in enumerate(self.input_terms(x, mask).unbind(0)):
            state = self.step(x_t, state, W_h, t, row(mask, t))
            outputs.append(state[0])
        return outputs, state

    def input_terms(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """norm(W_x x) + b, of a sequence; but for norms of a batch also of a single step, x (B, input_size)."""
        terms: Tensor = self.norm_x(self.project(x), None, mask)
        return terms

    def step(self, x_t: Tensor, state: States, W_h: Tensor, t: int = 0, inside: Tensor | None = None) -> States:
        """The state after step t, whose input has the terms x_t (B, 4 hidden_size).

        W_h is the layer's; whoever makes many steps looks it up once, for weight norm makes it anew each time.
        """
        (h, c), size, plain = state, self.hidden_size, self.norm in PLAIN
        a = torch.addmm(x_t, h, W_h) if plain else x_t + self.norm_h(h @ W_h, t, inside)
        f, i, o = torch.sigmoid(a[:, : 3 * size]).chunk(3, 1)
        c_new = f * c + i * torch.tanh(a[:, 3 * size :])
        h_new = o * torch.tanh(c_new if plain else self.norm_c(c_new, t, inside))
        return keep(h_new, h, inside), keep(c_new, c, inside)


class GRULayer(RecurrentLayer):
    """Equations 26-28: (z, r) = norm(W_h h) + norm(W_x x); h~ = tanh(norm(W x) + s(r) norm(U h));
    h = (1 - s(z)) h + s(z) h~.

    The reset gate acts after U h, and norm(U h) has a shift of its own there. W_x holds W_x and W, W_h holds W_h and U.
    """

    cell, gates = "gru", 3

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

    def forward(self, x: Tensor, state: State = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        before: Sequence[States | None] = state or [None] * len(self.layers)
        states = []
        for layer, carried in zip(self.layers, before, strict=True):
            x, carried = layer(x, carried, mask)
            states.append(tuple(s.detach() for s in carried))
        return x, states
