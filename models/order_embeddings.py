"""Order embeddings (Vendrov et al. 2016; section 6.1): what is more general lies above, coordinate by coordinate.

A text is read by a recurrent net (here a GRU, equations 26-28, where alone norms are), and embedded as v = |h| / ||h||
with its last state h. A pair, u below v, is penalised by E(u, v) = ||max(0, v - u)||^2, which is 0 where v is nowhere
above u, and is to be told from the pairs that either makes with others of the mini-batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import require
from .errors import ModelError
from .model import Batch, Model, State
from .options import OrderEmbeddingsConfig
from .recurrence import state_norm
from .rnn import RNN

Config = OrderEmbeddingsConfig
METRICS = ("loss", "recall_at_1", "recall_at_10", "mean_rank", "median_rank", "log_rank")
MARGIN = 0.05
# Numbers of a word's vector start within +-WORD, as in the code of Vendrov et al. From a standard deviation of 1, which
# is PyTorch's, nets without a norm and with layer norm rank worse, by a factor of 2.6 and 1.3 on a tuning seed.
WORD = 0.1
ROWS = 128  # of penalties at once: so many x M x D numbers


class OrderEmbeddings(Model):
    """Batches x (B, T) and y (B, T + 1 + A): a text and one above it, symbols from 1 on and 0 for padding; the number
    of the upper one; those of others that are above x, padded with -1."""

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        (steps,) = spec.input_shape
        self.embedding = nn.Embedding(spec.outputs, config.embedding_size)
        nn.init.uniform_(self.embedding.weight, -WORD, WORD)
        self.rnn = RNN(config.embedding_size, norm, steps, config) if config.encoder == "rnn" else None
        self.state_norm = config.state_norm

    def last_state(self, texts: Tensor) -> Tensor:
        """h (N, hidden_size) after the last word of each text (N, T); without a net, the sum of its words' vectors."""
        words, inside = self.embedding(texts.t()), texts.t() > 0
        if self.rnn is None:
            total: Tensor = (words * inside[..., None]).sum(0)
            return total
        h, _ = self.rnn(words, mask=inside)
        last: Tensor = h[-1]
        return last

    def forward(self, texts: Tensor) -> Tensor:
        """v (N, hidden_size) for each text (N, T)."""
        return F.normalize(self.last_state(texts).abs())

    def penalties(self, batch: Batch) -> Tensor:
        """E (B, B) of every x below every y."""
        x, y = batch
        return penalties(*self(torch.cat([x, y[:, : x.shape[1]]])).chunk(2))

    def loss(self, batch: Batch, state: State = None) -> tuple[Tensor, State]:
        return contrasts(self.penalties(batch)).mean(), None

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Per case `loss`, and of the rank of its y among those of the batch, from 1 on, `recall_at_1` and
        `recall_at_10` (1 where it is that or less), `mean_rank` and `log_rank` (to base 2); of the batch `median_rank`.
        Where asked for, also `state_norm` per case."""
        x, y = batch
        E = self.penalties(batch)
        numbers = y[:, x.shape[1] :]
        rank = ranks(E, numbers[:, 0], numbers[:, 1:]).to(E.dtype)
        recalls = {f"recall_at_{k}": (rank <= k).to(E.dtype) for k in (1, 10)}
        of_ranks = {"mean_rank": rank, "median_rank": rank.median(), "log_rank": rank.log2()}
        of_states = {"state_norm": state_norm(self.last_state(x))} if self.state_norm else {}
        return {"loss": contrasts(E), **recalls, **of_ranks, **of_states}, None


def penalties(u: Tensor, v: Tensor) -> Tensor:
    """E (N, M) of each u (N, D) below each v (M, D): the squared length of max(0, v - u)."""
    return torch.cat([(v - some[:, None]).relu().square().sum(2) for some in u.split(ROWS)])


def contrasts(E: Tensor) -> Tensor:
    """The loss of each pair (B,): max(0, MARGIN + E(u, v) - E(u', v')), summed over the two pairs that it makes with
    another one, (u, v') and (u', v), and averaged over all those others.

    Vendrov et al. sum over all of them, so that a gradient is clipped at another length here.
    """
    own, same = E.diagonal(), torch.eye(len(E), dtype=torch.bool, device=E.device)
    above = (MARGIN + own[:, None] - E).relu().masked_fill(same, 0).sum(1)
    below = (MARGIN + own - E).relu().masked_fill(same, 0).sum(0)
    return (above + below) / (len(E) - 1)


def ranks(E: Tensor, numbers: Tensor, ancestors: Tensor) -> Tensor:
    """The place (B,) of each case's y, from 1 on, among the different y of a batch, by E (B, B); ties count against it.

    numbers (B,) tells them apart; what is among the case's other ancestors (B, A) is left out.
    """
    own, same = E.diagonal()[:, None], numbers == numbers[:, None]
    left_out = same | same.tril(-1).any(1)  # itself, and what an earlier case has
    for ancestor in ancestors.t():
        left_out = left_out | (numbers == ancestor[:, None])
    not_further = ~(own < E)  # nor is what is no number
    return 1 + (not_further & ~left_out).sum(1)


def build(config: Config, norm: str, spec: Any) -> OrderEmbeddings:
    require(config, spec, "pairs")
    if config.encoder == "mean" and norm != "none":
        raise ModelError(f"model.encoder=mean has nothing to normalise: norm={norm}; use norm=none")
    return OrderEmbeddings(config, norm, spec)
