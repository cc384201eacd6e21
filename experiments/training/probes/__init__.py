"""Measurements that are no training runs of their own: the file is the registry, and is read when it is asked for.

`probes/<name>.py` is `method=<name>`; it has `measure(config: Config, data: Data)` and the names of its `METRICS`.
It gives the metrics and, of some probes, `histograms`: distributions that are only looked at.
Probes use the models and norms of the suite, on real data where they read any, in float64 where an identity is to show
as one. The bounds are in configs/claims/.

A probe may say more of itself: `MODELS` and `NORMS`, those it knows; `COMPARED`, the norms it measures side by side,
whatever `norm` says; `TIMES`, that what it measures are times, no results; `BUILDS_MODEL = False`, that `model` is
nothing to it.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

NAMES = tuple(found.name for found in pkgutil.iter_modules(__path__) if not found.ispkg)


@dataclass(frozen=True)
class Probe:
    measure: Callable[..., dict[str, Any]]  # (Config, Data), as all files of this room have it
    metrics: tuple[str, ...]
    models: tuple[str, ...]  # empty: any
    norms: tuple[str, ...]  # likewise
    compared: tuple[str, ...]
    times: bool
    builds_model: bool


def load(name: str) -> Probe:
    """The probe `name`, one of NAMES."""
    module = import_module(f"{__name__}.{name}")
    return Probe(
        module.measure,
        module.METRICS,
        getattr(module, "MODELS", ()),
        getattr(module, "NORMS", ()),
        getattr(module, "COMPARED", ()),
        getattr(module, "TIMES", False),
        getattr(module, "BUILDS_MODEL", True),
    )
