"""In which settings runs differ: the one answer to it of all dashboards, by their configurations and never by names."""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.verdicts.wording import by_number, tidy

RATE, SEED = "optim.learning_rate", "seed"
UNSCIENTIFIC = ("data.path",)  # of a text its digest counts, not where it lies


def differing(configs: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which flat configurations differ, each with its values in order; None where one has no such."""
    every = list(configs)
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for config in every for key in config if key not in UNSCIENTIFIC):
        values = {repr(config.get(key)): config.get(key) for config in every}
        if len(values) > 1:
            found[key] = sorted(values.values(), key=lambda value: (not is_number(value), by_number(spelt(value))))
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def spelt(value: Any) -> str:
    return tidy(value) if isinstance(value, float) else str(value)


def setting(config: Mapping[str, Any], key: str) -> str:
    """`layer` of a norm, `batch_size 8` of anything else."""
    value = spelt(config.get(key))
    return value if key == "norm" else f"{key.rpartition('.')[2]} {value}"
