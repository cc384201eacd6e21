"""The choice of an arm's learning rate from its tuning runs: the one place where it is made."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.records import shapes
from experiments.records.files import write
from experiments.records.rows import Row


@dataclass(frozen=True)
class Choice:
    """An arm's learning rate, and what it was chosen by: the mean final loss at each rate (None: not finite)."""

    learning_rate: float
    on_edge: bool  # the first or last of those tried: beyond it may lie a better one
    losses: dict[float, float | None]


def choose(rows_of_arm: Iterable[Row]) -> Choice:
    """The rate with the lowest mean over the tuning seeds of the final *validation* loss.

    A diverged or non-finite run counts as infinity, a tie goes to the smaller rate. Comparing arms at a rate on the
    edge of its grid settles nothing. Raises ValueError without tuning runs.
    """
    means = mean_losses(rows_of_arm)
    if not means:
        raise ValueError("no tuning runs: nothing to choose a learning rate from")
    best = min(means, key=lambda rate: (means[rate], rate))
    losses = {rate: loss if math.isfinite(loss) else None for rate, loss in means.items()}
    return Choice(best, best in (min(means), max(means)), losses)


def next_rates(grid: Iterable[float], tried: Mapping[float, float]) -> list[float]:
    """What to try next of a grid, given the mean loss at each rate tried; nothing once the choice can be made.

    At first the middle rate and its two neighbours, then the neighbours of the best so far, until both are tried: where
    the loss has one valley this finds the lowest of the whole grid, and whether it lies on the edge.
    """
    rates = sorted(grid)
    middle = (len(rates) - 1) // 2
    best = rates.index(min(tried, key=lambda rate: (tried[rate], rate))) if tried else middle
    return [rate for rate in rates[max(best - 1, 0) : best + 2] if rate not in tried]


def mean_losses(rows_of_arm: Iterable[Row]) -> dict[float, float]:
    """The mean over the tuning seeds at each rate, the lowest rate first."""
    losses = tuning_losses(rows_of_arm)
    return {rate: float(np.mean(list(losses[rate].values()))) for rate in sorted(losses)}


def write_choice(path: Path, choice: Choice, about: Mapping[str, str]) -> None:
    losses = [{"learning_rate": rate, "validation_loss": loss} for rate, loss in choice.losses.items()]
    kept = {
        "choice": f"{path.parent.name}/{path.stem}",
        **about,
        "learning_rate": choice.learning_rate,
        "on_edge": choice.on_edge,
        "losses": losses,
    }
    write(path, json.dumps(kept, indent=1) + "\n")


def read_choice(path: Path) -> Choice | None:
    """None where there is none, or only one that is damaged or of other runs: then the tuning runs are asked again."""
    try:
        kept = shapes.read(shapes.Rate, path)
        losses = {float(tried["learning_rate"]): tried["validation_loss"] for tried in kept["losses"]}
        if kept["choice"] != f"{path.parent.name}/{path.stem}":
            return None
        return Choice(float(kept["learning_rate"]), bool(kept["on_edge"]), losses)
    except shapes.DAMAGED:
        return None


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
