"""The other LSTMs that papers and public code call layer normalised.

They differ in what is normalised and in which cell state is carried on. With n = layer norm, each with its own gain:

    variant            gates                                output uses   carried   found in
    paper              n(W_x x) + n(W_h h) + b              n(c)          c         equations 20-22; models/rnn.py
    inner_bias         n(W_x x + b) + n(W_h h) + b          n(c)          c         the authors' released Theano code
    carried            n(W_x x) + n(W_h h) + b              n(c)          n(c)      PyTorch's fastrnns, TF Addons
    per_gate           n(W_x x + W_h h) for each gate       n(c)          c         labml's annotated implementations
    per_gate_carried   n(W_x x + W_h h) for each gate       n(c)          n(c)      tf.contrib
    cell_only          W_x x + W_h h + b                    n(c)          c         DRAW in the paper, equations 29-31
    no_cell            n(W_x x) + n(W_h h) + b              c             c         DI-engine

Of single gates and of c, n has a shift, too, and so has n(W_x x + b), as in that code: the two b are not quite one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .case_norms import GroupNorm, Norm
from .errors import ModelError
from .norms import recurrent
from .options import RecurrentConfig
from .recurrence import RecurrentLayer, States, keep, row


@dataclass(frozen=True)
class Form:
    gates: str  # "separate", "per_gate" or "none"
    cell: bool = True  # the output sees n(c)
    carried: bool = False  # so does the next step
    inner_bias: bool = False


FORMS = {
    "inner_bias": Form("separate", inner_bias=True),
    "carried": Form("separate", carried=True),
    "per_gate": Form("per_gate"),
    "per_gate_carried": Form("per_gate", carried=True),
    "cell_only": Form("none"),
    "no_cell": Form("separate", cell=False),
}


class LSTMVariant(RecurrentLayer):
    """An LSTM layer of one of FORMS: sequences, states and masks as in `LSTMLayer`."""

    cell, gates, carried = "lstm", 4, 2

    def __init__(self, input_size: int, norm: str, steps: int, config: RecurrentConfig) -> None:
        super().__init__(input_size, norm, steps, config)
        self.form, units = FORMS[config.variant], 4 * config.hidden_size
        self.norm_x: Any = nn.Identity()
        self.norm_h: Any = nn.Identity()
        self.norm_a: Any = nn.Identity()  # of the sum of both terms
        if self.form.gates == "separate":
            self.norm_x, self.norm_h = self.make_norm(4, shift=True), self.make_norm(4, shift=False)
        else:
            per_gate = self.form.gates == "per_gate"
            self.norm_a = gate_norm(units, config) if per_gate else recurrent("none", units, steps=1)
        self.norm_c: Any = self.make_norm(1, shift=True) if self.form.cell else nn.Identity()
        self.bias = nn.Parameter(torch.zeros(units)) if self.form.inner_bias else None
        self.carries_normalized = self.form.carried
        self.bias_forget_gate()

    def terms(self) -> list[list[Norm]]:
        of_c = [self.norm_c] if self.form.cell else []
        return [[self.norm_x], [self.norm_h], of_c] if self.form.gates == "separate" else [[self.norm_a], [], of_c]

    def loop(self, x: Tensor, state: States, mask: Tensor | None) -> tuple[list[Tensor], States]:
        outputs, W_h = [], self.W_h
        for t, x_t in enumerate(self.input_terms(x).unbind(0)):
            state = self.step(x_t, state, W_h, t, row(mask, t))
            outputs.append(state[0])
        return outputs, state

    def step(self, x_t: Tensor, state: States, W_h: Tensor, t: int = 0, inside: Tensor | None = None) -> States:
        """The state after a step whose input has the terms x_t; as in `LSTMLayer`."""
        (h, c), size = state, self.hidden_size
        a = self.norm_a(x_t + self.norm_h(h @ W_h))
        f, i, o = torch.sigmoid(a[:, : 3 * size]).chunk(3, 1)
        c_new = f * c + i * torch.tanh(a[:, 3 * size :])
        seen = self.norm_c(c_new)
        h_new = o * torch.tanh(seen)
        return keep(h_new, h, inside), keep(seen if self.carries_normalized else c_new, c, inside)

    def input_terms(self, x: Tensor) -> Tensor:
        """What the input adds to the gates, of a sequence or of a single step."""
        projected = self.project(x)
        terms: Tensor = self.norm_x(projected) if self.bias is None else self.norm_x(projected + self.bias) + self.bias
        return terms


def gate_norm(units: int, config: RecurrentConfig) -> Norm:
    """Layer norm of each of the four gates by itself: group norm of four groups."""
    if config.detach != "none":
        asked = f"model.detach={config.detach} with model.variant={config.variant}"
        raise ModelError(f"{asked}: the norms of single gates keep their statistics attached; use model.detach=none")
    return GroupNorm(units, gain=1.0 if config.gain is None else config.gain, groups=4)
