"""What an update costs with each norm: measured side by side in one process, for wall times of separate runs compare
the load of a machine as much as the norms."""

import time
from collections.abc import Callable
from statistics import median

import models
from data import Data
from experiments.training.schema import Config
from experiments.training.train import chosen_rate, make_all, make_optimizer, updates_of
from models.model import State

# Those with native kernels: the others would compare implementations, not norms, where a model is recurrent.
COMPARED = ("none", "batch", "layer")
TIMES = True
ROUNDS, UPDATES = 15, 4  # in each round so many updates of every norm, in turns
METRICS = (
    *(f"milliseconds_{norm}" for norm in COMPARED),
    *(f"{norm}_over_none" for norm in COMPARED if norm != "none"),
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """Wall time of an update (batch, loss, gradients, optimiser's step), as a run makes it, with each norm.

    `milliseconds_<norm>`: the median over the rounds; `<norm>_over_none`: the median of the rounds' ratios.
    """
    updates = {norm: updater(norm, config, data) for norm in COMPARED}
    seconds: dict[str, list[float]] = {norm: [] for norm in COMPARED}
    for turn in range(ROUNDS + 1):
        for norm in list(COMPARED)[:: -1 if turn % 2 else 1]:
            started = time.perf_counter()
            updates[norm](range(turn * UPDATES, (turn + 1) * UPDATES))
            seconds[norm].append((time.perf_counter() - started) / UPDATES)
    taken = {norm: values[1:] for norm, values in seconds.items()}  # the first round warms up
    found = {f"milliseconds_{norm}": 1e3 * median(values) for norm, values in taken.items()}
    for norm in COMPARED[1:]:
        found[f"{norm}_over_none"] = median(a / b for a, b in zip(taken[norm], taken["none"], strict=True))
    return found


def updater(norm: str, config: Config, data: Data) -> Callable[[range], None]:
    """The updates of a new model as a function of their numbers."""
    model = models.build(config.model, norm, data.spec, config.seed)
    updates = updates_of(model, make_optimizer(model, config.optim))
    loss_sum, learning_rate = next(model.parameters()).new_zeros(()), chosen_rate(config.optim)
    state: State = None

    def update(steps: range) -> None:
        nonlocal state
        state = make_all(updates, data, steps, lambda step: learning_rate, loss_sum, state)

    return update
