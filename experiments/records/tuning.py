"""The choice of an arm's learning rate from its tuning runs: the one place where it is made."""

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from experiments.records.rows import Row


def best_learning_rate(rows_of_arm: Iterable[Row]) -> tuple[float, bool]:
    """The tuned learning rate of one arm, and whether it is the first or last of those tried.

    Best is the lowest mean over the tuning seeds of the final *validation* loss; a diverged or non-finite run
    counts as infinity, a tie goes to the smaller rate. Beyond an optimum on the edge may lie a better one, so
    comparing arms at it settles nothing. Raises ValueError without tuning runs.
    """
    tried = tuning_losses(rows_of_arm)
    if not tried:
        raise ValueError("no tuning runs: nothing to choose a learning rate from")
    rates = sorted(tried)
    best = min(rates, key=lambda rate: (float(np.mean(list(tried[rate].values()))), rate))
    return best, best in (rates[0], rates[-1])


def tuning_losses(rows_of_arm: Iterable[Row]) -> dict[float, dict[int, float]]:
    """The final validation loss of each tuning run: learning rate -> seed -> loss, infinite if not finite.

    Rows without a role are taken as tuning runs, those without a seed as runs of different seeds.
    """
    losses: dict[float, dict[int, float]] = defaultdict(dict)
    for place, row in enumerate(rows_of_arm):
        if row.get("role", "tune") == "tune":
            loss = or_worst(row, "validation_loss", math.inf)
            losses[float(row["learning_rate"])][row.get("seed", place)] = loss
    return losses


def or_worst(row: Row, metric: str, worst: float) -> float:
    value = row["final"].get(metric, row.get("timing", {}).get(metric))
    failed = row.get("status") == "diverged" or value is None or not math.isfinite(value)
    return worst if failed else float(value)
