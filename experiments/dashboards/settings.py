"""In which settings runs differ: by their configurations, never by names, as in the figures of reports."""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.reports.settings import differing, plain

SEED = "seed"
UNSCIENTIFIC = ("data.path",)  # of a text its digest counts, not where it lies


def varied(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The settings in which flat configurations differ."""
    every = [{key: value for key, value in config.items() if key not in UNSCIENTIFIC} for config in configs]
    return [key for key in differing(every) if key != "norm" or len({config.get(key) for config in every}) > 1]


def setting(config: Mapping[str, Any], key: str) -> str:
    """`layer` of a norm, `batch_size 8` or `data mnist` of anything else."""
    value = plain(config.get(key))
    return value if key == "norm" else f"{key.removesuffix('.name').rpartition('.')[2]} {value}"
