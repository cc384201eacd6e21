"""The units in which metrics are told to people; records keep what was measured, shares of one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.verdicts.wording import number, span, tidy


@dataclass(frozen=True)
class Unit:
    """A metric is told times the factor and with the name; differences of per cents are points."""

    name: str = ""
    factor: float = 1.0

    @property
    def of_differences(self) -> str:
        return "points" if self.name == "%" else self.name

    def shown(self, value: float | None) -> float | None:
        return None if value is None else self.factor * value


NONE, NATS, PER_CENT, DECADES, UPDATES = Unit(), Unit("nats"), Unit("%", 100.0), Unit("decades"), Unit("updates")
UNITS = {
    r"log10_|_ratio_spread|norm_spread|norm_drift": DECADES,
    r"bits_per_character|length_penalty$": Unit("bits/character"),
    r"sequence_nats$": Unit("nats/sequence"),
    r"loss(_increase)?$|loss_at_|(_|^)kl$|reconstruction$": NATS,
    r"error(_increase)?$|(_|^)share$|recall_at_\d+$": PER_CENT,
    r"log_rank$": Unit("ln rank"),
}
HINGE = ("order_embeddings",)  # models whose loss is no likelihood


def unit_of(metric: str, model: str = "") -> Unit:
    """Of a metric on whichever split; without a name where it is a number as such."""
    found = (unit for pattern, unit in UNITS.items() if re.search(pattern, metric))
    unit = next(found, NONE)
    return NONE if unit == NATS and model in HINGE else unit


def heading(metric: str, model: str = "") -> str:
    """A metric for the heading of a column or an axis: `test error, %`."""
    unit = unit_of(metric, model).name
    words = metric.replace("_", " ")
    return f"{words}, {unit}" if unit and not metric.endswith("bits_per_character") else words


def told(value: float | None, metric: str, interval: Sequence[float | None] | None = None) -> str:
    """What two values of a metric differ by, with its unit, perhaps with an interval: `-2.00 points [-2.10, -1.90]`."""
    unit = unit_of(metric)
    ends = interval and [unit.shown(end) for end in interval]
    return with_unit(number(unit.shown(value)), unit.of_differences) + span(ends)


def as_factor(log: float, interval: Sequence[float] | None = None) -> str:
    """What two values differ by whose logarithms were compared: `× 0.721 [0.688, 0.755]`."""
    ends = interval and [math.exp(min(end, 700.0)) for end in interval]
    return f"× {number(math.exp(log))}{span(ends)}"


def declared(size: float, metric: str, scale: str) -> str:
    """A margin or a constant of a claim, in the unit in which the claim is told: `0.02 bits/character`, `2 points`."""
    if scale == "log":
        return tidy(size)
    unit = unit_of(metric)
    return with_unit(tidy(float(f"{unit.factor * size:.12g}")), unit.of_differences)


def with_unit(shown: str, unit: str) -> str:
    return f"{shown} {unit}" if unit and any(map(str.isdigit, shown)) else shown
