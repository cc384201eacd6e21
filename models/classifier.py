"""What all classifiers share: cross-entropy to train on, the error rate to report."""

import torch.nn.functional as F
from torch import Tensor

from .model import Batch, Model, State

METRICS = ("loss", "error")


class Classifier(Model):
    """A model whose `forward` gives (N, classes) logits."""

    def loss(self, batch: Batch, state: State = None) -> tuple[Tensor, State]:
        inputs, targets = batch
        return F.cross_entropy(self(inputs), targets), None

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Per case: `loss` in nats and `error`, 1 where the most probable class is wrong."""
        inputs, targets = batch
        return graded(self(inputs), targets), None


def graded(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    wrong = logits.argmax(-1) != targets
    return {"loss": F.cross_entropy(logits, targets, reduction="none"), "error": wrong.float()}
