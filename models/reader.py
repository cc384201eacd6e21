"""Attentive reader of the paper's section 6.2 (Hermann et al. 2015), in one direction: who is meant by a query?"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import require
from .classifier import METRICS as METRICS
from .classifier import Classifier, graded
from .model import Batch, State
from .norms import recurrent, reparametrize
from .options import ReaderConfig
from .recurrence import state_norm
from .rnn import RNN

Config = ReaderConfig


class Term(nn.Module):
    """norm(W a), one term of a sum, with a shift or without: a (T, N, size); mask (T, N) as in recurrent layers."""

    def __init__(self, config: Config, norm: str, *, steps: int = 1, shift: bool = False) -> None:
        super().__init__()
        size = config.hidden_size
        self.linear = nn.Linear(size, size, bias=False)
        reparametrize(norm, self.linear, "weight")
        self.norm = recurrent(norm, size, config, steps=steps, gain=config.gain, shift=shift)

    def forward(self, a: Tensor, mask: Tensor | None = None) -> Tensor:
        term: Tensor = self.norm(self.linear(a), None, mask)
        return term


class Reader(Classifier):
    """x: (N, 2, T), symbols of document and query, negative on padding -> logits (N, entities).

    With y(t) the states of one recurrent net over the document and u the last state of another over the query:
    m(t) = tanh(W_ym y(t) + W_um u), s = softmax over t of w_ms m(t), r = sum of s(t) y(t), g = tanh(W_rg r + W_ug u),
    logits = W_g g. As Hermann et al. have it, but for a shift in m and in g.
    """

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        size, (_, steps) = config.hidden_size, spec.input_shape
        self.state_norm = config.state_norm
        self.embedding = nn.Embedding(spec.symbols, config.embedding_size)
        self.document, self.query = (RNN(config.embedding_size, norm, steps, config) for _ in range(2))
        term = partial(Term, config, norm if config.normalize == "all" else "none")
        self.W_ym, self.W_um = term(steps=steps if config.statistics == "per_step" else 1, shift=True), term()
        self.W_rg, self.W_ug = term(shift=True), term()
        self.w_ms, self.output = (nn.Linear(size, units, bias=False) for units in (1, spec.outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x)[0]

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the state after each document (N, hidden_size)."""
        document, query = x.unbind(1)
        y, inside = states(document, self.embedding, self.document)
        u = states(query, self.embedding, self.query)[0][-1:]
        m = torch.tanh(self.W_ym(y, inside) + self.W_um(u))
        s = torch.softmax(self.w_ms(m).masked_fill(~inside[..., None], -torch.inf), 0)
        r = (s * y).sum(0, keepdim=True)
        g = torch.tanh(self.W_rg(r) + self.W_ug(u))
        return self.output(g[0]), y[-1]

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Where asked for, also `state_norm` per case, of the state after the document."""
        x, entities = batch
        logits, last = self.read(x)
        measured = {"state_norm": state_norm(last)} if self.state_norm else {}
        return {**graded(logits, entities), **measured}, None


def states(symbols: Tensor, embedding: nn.Embedding, rnn: nn.Module) -> tuple[Tensor, Tensor]:
    """h (T, N, hidden_size) over symbols (N, steps), T being the end of the longest, and where they are no padding.

    On padding h stands still: the last is that after the end of each.
    """
    inside = symbols >= 0
    longest = int(inside.sum(1).max())
    symbols, inside = symbols[:, :longest].t(), inside[:, :longest].t()
    h, _ = rnn(embedding(symbols.clamp(min=0)), mask=inside)
    return h, inside


def build(config: Config, norm: str, spec: Any) -> Reader:
    require(config, spec, "cloze")
    return Reader(config, norm, spec)
