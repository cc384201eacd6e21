"""Recurrent language model over characters, trained by truncated backpropagation through time with carried state."""

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import require
from .kernels.recurrent_updates import RecurrentUpdates, native_updates
from .model import Batch, Model, State
from .options import LanguageModelConfig
from .recurrence import state_norm
from .rnn import RNN

Config = LanguageModelConfig
METRICS = ("loss", "bits_per_character")
METRICS_BEYOND = ("bits_per_character_beyond", "length_penalty")  # on sequences longer than those trained on


class LanguageModel(Model):
    """Batches are (x, y), each (B, T) symbols, y one ahead of x; the state runs on from batch to batch."""

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        (self.steps,), symbols = spec.input_shape, spec.outputs
        self.embedding = nn.Embedding(symbols, config.embedding_size) if config.embedding_size else None
        self.rnn = RNN(config.embedding_size or symbols, norm, self.steps, config)
        self.output = nn.Linear(config.hidden_size, symbols)
        self.state_norm = config.state_norm

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Symbols (T, B) -> logits (T, B, symbols) and the state after the last of them."""
        h, state = self.rnn(x if self.embedding is None else self.embedding(x), state)
        return self.output(h), state

    def losses(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        x, y = (part.t() for part in batch)
        logits, state = self(x, state)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y), state

    def loss(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        losses, state = self.losses(batch, state)
        return losses.mean(), state

    def metrics(self, batch: Batch, state: State) -> tuple[dict[str, Tensor], State]:
        """Per character: `loss` in nats, `bits_per_character`.

        On sequences longer than those trained on also `bits_per_character_beyond`, at the positions that training
        never saw, and per sequence `length_penalty`: how much more that is than in the second half of the trained
        positions, where the state has warmed up. Where asked for, per sequence `state_norm`, after its last step.
        """
        losses, state = self.losses(batch, state)
        bits = losses / log(2)
        values = {"loss": losses, "bits_per_character": bits}
        if len(bits) > self.steps:
            within, beyond = bits[self.steps // 2 : self.steps], bits[self.steps :]
            values["bits_per_character_beyond"] = beyond
            values["length_penalty"] = beyond.mean(0) - within.mean(0)
        if self.state_norm and state:
            values["state_norm"] = state_norm(state[-1][0])
        return values, state

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> RecurrentUpdates | None:
        return native_updates(self, self.embedding, optimizer, clip_norm)


def build(config: Config, norm: str, spec: Any) -> LanguageModel:
    require(config, spec, "text")
    return LanguageModel(config, norm, spec)
