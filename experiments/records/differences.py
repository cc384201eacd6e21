"""What differs between the runs of two tables: runs that only one has, numbers, and configurations of an arm."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.records.files import UNSAID, flat, setting
from experiments.records.rows import Row

ASIDE = {"seed", "optim.learning_rate"}  # in which the runs of an arm differ
Key = tuple[str, str]  # experiment and id of a run


@dataclass(frozen=True)
class Difference:
    """A run that both have with other numbers: the metric that differs most, its values and, of the larger, by how
    much; infinity where only one of them is finite."""

    experiment: str
    run: str
    metric: str
    values: tuple[float | None, float | None]
    relative: float


@dataclass(frozen=True)
class Differences:
    both: Mapping[str, int]  # runs in both, by experiment
    only: tuple[int, int]  # runs that only the first, and only the second has
    runs: Sequence[Difference]
    arms: int  # in both, with their configurations
    configs: Mapping[tuple[str, tuple[str, ...]], Sequence[str]]  # experiment and what differs -> arms


def differences(first: Iterable[Row], second: Iterable[Row]) -> Differences:
    first, second = list(first), list(second)
    one, other = by_run(first), by_run(second)
    shared = [key for key in one if key in other]
    found = [largest(key, one[key], other[key]) for key in shared]
    return Differences(
        Counter(experiment for experiment, _ in shared),
        (len(one) - len(shared), len(other) - len(shared)),
        [difference for difference in found if difference],
        len(configs(first).keys() & configs(second).keys()),
        changed_configs(first, second),
    )


def by_run(rows: Iterable[Row]) -> dict[Key, Row]:
    """Each run once, whichever arms share it."""
    return {(row["experiment"], row["run"]): row for row in rows}


def largest(key: Key, one: Row, other: Row) -> Difference | None:
    """Of the metrics that both rows of a run have; None where all are the same."""
    pairs = {name: (one["final"][name], other["final"][name]) for name in one["final"] if name in other["final"]}
    sizes = {name: relative(*values) for name, values in pairs.items() if values[0] != values[1]}
    if not sizes:
        return None
    metric = max(sizes, key=lambda name: sizes[name])
    return Difference(*key, metric, pairs[metric], sizes[metric])


def relative(a: float | None, b: float | None) -> float:
    return math.inf if a is None or b is None else abs(a - b) / max(abs(a), abs(b))


def changed_configs(first: Iterable[Row], second: Iterable[Row]) -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """The arms of both whose configurations differ, together where they do so in the same way."""
    one, other = configs(first), configs(second)
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in [name for name in one if name in other]:
        keys = [key for key in {**one[name], **other[name]} if one[name].get(key) != other[name].get(key)]
        if keys:
            changes = tuple(f"{setting(key, one[name].get(key))} → {value(other[name].get(key))}" for key in keys)
            found.setdefault((name[0], changes), []).append(name[1])
    return found


def value(plain: Any) -> str:
    return setting("", plain).removeprefix("=")


def configs(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Any]]:
    """The configuration of each arm's evaluation."""
    kept = [row for row in rows if row["role"] == "evaluate" and "config" in row]
    return {
        (row["experiment"], row["arm"]): {
            key: value for key, value in {**UNSAID, **flat(row["config"])}.items() if key not in ASIDE
        }
        for row in kept
    }
