"""What can be trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
# What a recurrent model carries from one batch of a text to the next, of each layer; None at the start and elsewhere.
State = list[tuple[Tensor, ...]] | None


class Model(nn.Module, ABC):
    """What can be trained."""

    @abstractmethod
    def loss(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The mean loss of a batch in nats, to be differentiated, and the state to carry on."""

    @abstractmethod
    def metrics(self, batch: Batch, state: State) -> tuple[dict[str, Tensor], State]:
        """Each metric's value for each case (or character) of a batch; evaluation averages over all of them."""

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> "Updates | None":
        """What trains this model natively, many updates at a time; None: autograd and the optimiser do.

        clip_norm: the largest norm of the gradient of all parameters together; 0: any.
        """
        return None


class Batches(Protocol):
    """Where the batch of each update is had."""

    def train_batch(self, step: int) -> Batch: ...


class Updates(Protocol):
    """What makes the first of the updates asked for, or more; returns how many, and the model's state after them.

    Each is at its `rate`, on a batch of its own of `data`; its loss is added to `loss_sum`.
    """

    def make(
        self, data: Batches, steps: range, rate: Callable[[int], float], loss_sum: Tensor, state: State
    ) -> tuple[int, State]: ...
