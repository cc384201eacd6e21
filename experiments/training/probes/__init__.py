"""Measurements that are no training runs of their own: one file each, with its `METRICS` and a function `measure`.

A probe that looks into a model names, in `MODELS`, those it knows.

`measure(config, data)` gives the metrics and, of some probes, `histograms`: distributions that are only looked at.
Probes use the models and norms of the suite, on real data where they read any, in float64 where an identity is to show
as one. The bounds are in configs/claims/.
"""

from collections.abc import Callable
from typing import Any

from experiments.training.probes import (
    border,
    data_parallel,
    dynamics,
    geometry,
    input_scaling,
    learning_rates,
    one_case,
    properties,
    split_batch,
    step_time,
    table1,
    time_steps,
)

Probe = Callable[[Any, Any], dict[str, Any]]
_MODULES = {
    "table1": table1,
    "geometry": geometry,
    "input_scaling": input_scaling,
    "properties": properties,
    "split_batch": split_batch,
    "data_parallel": data_parallel,
    "one_case": one_case,
    "time_steps": time_steps,
    "dynamics": dynamics,
    "learning_rates": learning_rates,
    "border": border,
    "step_time": step_time,
}
PROBES: dict[str, Probe] = {name: module.measure for name, module in _MODULES.items()}
MODELS: dict[str, tuple[str, ...]] = {n: module.MODELS for n, module in _MODULES.items() if hasattr(module, "MODELS")}
METRICS: dict[str, tuple[str, ...]] = {name: module.METRICS for name, module in _MODULES.items()}
