"""The choice of an arm's learning rate from its tuning runs: the one place where it is made."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.records import shapes
from experiments.records.files import write
from experiments.records.rows import Row

Losses = Mapping[float, Mapping[int, float]]  # learning rate -> seed -> final validation loss, infinite if not finite
Trial = tuple[float, int]  # learning rate and seed
FINALISTS = 2  # rates that get a second look


@dataclass(frozen=True)
class Choice:
    """An arm's learning rate, and what it was chosen by: the median final loss at each rate (None: not finite)."""

    learning_rate: float
    on_edge: bool  # the first or last of those tried: beyond it may lie a better one
    losses: dict[float, float | None]


def choose(rows_of_arm: Iterable[Row]) -> Choice:
    """The rate with the lowest median over the tuning seeds of the final *validation* loss.

    Where some rates got a second look, on further seeds, it is one of these. A diverged or non-finite run counts as
    infinity, a tie goes to the smaller rate. Comparing arms at a rate on the edge of its grid settles nothing. Raises
    ValueError without tuning runs.
    """
    losses = tuning_losses(rows_of_arm)
    if not losses:
        raise ValueError("no tuning runs: nothing to choose a learning rate from")
    best, middles = best_of(losses), {rate: middle(losses[rate]) for rate in sorted(losses)}
    shown = {rate: loss if math.isfinite(loss) else None for rate, loss in middles.items()}
    return Choice(best, best in (min(losses), max(losses)), shown)


def best_of(losses: Losses) -> float:
    """The best of the rates that were tried on the most seeds."""
    most = max(map(len, losses.values()))
    return ranked({rate: by_seed for rate, by_seed in losses.items() if len(by_seed) == most})[0]


def ranked(losses: Losses) -> list[float]:
    """The rates, best first."""
    return sorted(losses, key=lambda rate: (middle(losses[rate]), rate))


def middle(by_seed: Mapping[int, float]) -> float:
    return float(np.median(list(by_seed.values())))


def on_seeds(losses: Losses, seeds: Iterable[int]) -> Losses:
    seeds = list(seeds)
    return {rate: {seed: by_seed[seed] for seed in seeds} for rate, by_seed in losses.items()}


def next_trials(grid: Iterable[float], seeds: Sequence[int], further: Sequence[int], losses: Losses) -> list[Trial]:
    """What to try next of a grid, given what was tried on these seeds; nothing once the rate can be chosen.

    At first the middle rate and its two neighbours, then the neighbours of the best so far, until both are tried: where
    the loss has one valley this finds the lowest of the whole grid, and whether it lies on the edge. Then the two best
    get a second look, on the `further` seeds: few seeds may be lucky where runs end well or badly. Where that makes
    another rate the best, its neighbours are tried as well.
    """
    rates = sorted(grid)
    order = ranked(on_seeds(losses, seeds))
    if untried := around(order[0] if order else rates[(len(rates) - 1) // 2], rates, losses):
        return [(rate, seed) for rate in untried for seed in seeds]
    if len(order) > 1 and (again := [rate for rate in order[:FINALISTS] if not losses[rate].keys() >= {*further}]):
        return [(rate, seed) for rate in again for seed in further]
    return [(rate, seed) for rate in around(best_of(losses), rates, losses) for seed in seeds]


def lacking(losses: Losses) -> float | None:
    """A rate that was not tried on all the seeds that the choice rests on; None where there is none.

    Each rate has the first seeds, the two best all of them. A single seed is no look of its own: where one is all that
    the rates share, or all that some lack, a run is missing.
    """
    every, first = set[int]().union(*losses.values()), set.intersection(*map(set, losses.values()))
    if len(every) > len(first) and (len(first) < 2 or len(every - first) < 2):
        return min(losses, key=lambda rate: len(losses[rate]))
    order = ranked(on_seeds(losses, first))
    wanted = {rate: every if rate in order[:FINALISTS] or losses[rate].keys() > first else first for rate in order}
    return next((rate for rate in order if losses[rate].keys() != wanted[rate]), None)


def around(rate: float, rates: Sequence[float], tried: Losses) -> list[float]:
    """This rate and its neighbours, without those that were tried."""
    at = rates.index(rate)
    return [near for near in rates[max(at - 1, 0) : at + 2] if near not in tried]


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
    """The final validation loss of each tuning run.

    Rows without a role are taken as tuning runs, those without a seed as runs of different seeds.
    """
    losses: dict[float, dict[int, float]] = defaultdict(dict)
    for place, row in enumerate(rows_of_arm):
        if row.get("role", "tune") == "tune":
            loss = or_worst(row, "validation_loss", math.inf)
            losses[float(row["learning_rate"])][row.get("seed", place)] = loss
    return dict(losses)


def or_worst(row: Row, metric: str, worst: float) -> float:
    value = row["final"].get(metric, row.get("timing", {}).get(metric))
    failed = row.get("status") == "diverged" or value is None or not math.isfinite(value)
    return worst if failed else float(value)
