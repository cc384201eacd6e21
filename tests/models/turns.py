"""Native updates and the plain loop on one model in turns, and what only the plain loop can train."""

from typing import Any

import pytest
import torch

from experiments.training.train import PlainUpdates, make_all
from models import kernels
from models.model import State
from tests.models.implementation import on

UPDATES, TURN = 20, 5


def falling(step: int) -> float:
    """The learning rate of each of so many updates, as a linear schedule from 0.01 has it."""
    return 0.01 * (1 - step / UPDATES)


def in_turns(model: Any, optimizer: torch.optim.Optimizer, source: Any) -> State:
    """Train: five updates natively, five plainly, and so on; the model's state after them."""
    on("native")
    makers = model.native_updates(optimizer), PlainUpdates(model, optimizer, 0.0)
    assert makers[0]
    state, loss_sum = None, torch.zeros((), dtype=torch.float64)
    for turn in range(UPDATES // TURN):
        steps = range(turn * TURN, (turn + 1) * TURN)
        state = make_all(makers[turn % 2], source, steps, falling, loss_sum, state)
    return state


def assert_left_to_the_plain_loop(model: Any) -> None:
    """Quietly, or with an error of one line where native code is demanded."""
    optimizer = torch.optim.Adam(model.parameters())
    assert model.native_updates(optimizer) is None
    kernels.use("native")
    with pytest.raises(kernels.KernelError, match=r"^kernel=native: [^\n]+$"):
        model.native_updates(optimizer)
