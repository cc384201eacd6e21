"""Recurrent classifier of whole sequences: the last state decides."""

from typing import Any

import torch
from torch import Tensor, nn

from models import require
from models.classifier import METRICS as METRICS
from models.classifier import Classifier
from models.kernels.recurrent_updates import RecurrentUpdates, native_updates
from models.options import SequenceClassifierConfig
from models.rnn import RNN

Config = SequenceClassifierConfig


class SequenceClassifier(Classifier):
    """x: (N, T, features) -> logits (N, classes)."""

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        steps, features = spec.input_shape
        self.rnn = RNN(features, norm, steps, config)
        self.output = nn.Linear(config.hidden_size, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x.transpose(0, 1))
        logits: Tensor = self.output(h[-1])
        return logits

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> RecurrentUpdates | None:
        return native_updates(self, None, optimizer, clip_norm)


def build(config: Config, norm: str, spec: Any) -> SequenceClassifier:
    require(config, spec, "sequence")
    return SequenceClassifier(config, norm, spec)
