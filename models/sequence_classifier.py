"""Recurrent classifier of whole sequences: the state after a sequence's last step decides."""

from typing import Any

import torch
from torch import Tensor, nn

from . import require
from .classifier import METRICS as METRICS
from .classifier import Classifier, graded
from .kernels.recurrent_updates import RecurrentUpdates, native_updates
from .model import Batch, State
from .options import SequenceClassifierConfig
from .recurrence import state_norm
from .rnn import RNN

Config = SequenceClassifierConfig


class SequenceClassifier(Classifier):
    """x: (N, T, features) -> logits (N, classes).

    Where sequences have lengths of their own the last feature is none: it is 1 inside a sequence, 0 on padding.
    """

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        steps, features = spec.input_shape
        self.padded, self.state_norm = spec.padded, config.state_norm
        self.rnn = RNN(features - spec.padded, norm, steps, config)
        self.output = nn.Linear(config.hidden_size, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.last_state(x))
        return logits

    def last_state(self, x: Tensor) -> Tensor:
        """h (N, hidden_size) after the last step of each sequence: on padding it stands still."""
        x, mask = x.transpose(0, 1), None
        if self.padded:
            x, mask = x[..., :-1], x[..., -1] > 0
        h, _ = self.rnn(x, mask=mask)
        last: Tensor = h[-1]
        return last

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Where asked for, also `state_norm` per case."""
        if not self.state_norm:
            return super().metrics(batch)
        inputs, targets = batch
        h = self.last_state(inputs)
        return {**graded(self.output(h), targets), "state_norm": state_norm(h)}, None

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> RecurrentUpdates | None:
        return None if self.padded else native_updates(self, None, optimizer, clip_norm)  # which know no padding


def build(config: Config, norm: str, spec: Any) -> SequenceClassifier:
    require(config, spec, "sequence")
    return SequenceClassifier(config, norm, spec)
