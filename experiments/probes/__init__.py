"""Measurements that are no training runs of their own: one file each, with its `METRICS` and a function `measure`.

`measure(config, data)` gives the metrics. Probes use the models and norms of the suite, on real data where they read
any, in float64 where an identity is to show as one. The bounds are in configs/claims.yaml.
"""

from collections.abc import Callable
from typing import Any

from experiments.probes import dynamics, one_case, properties, step_time, table1, time_steps

Probe = Callable[[Any, Any], dict[str, float]]
_MODULES = {
    "table1": table1,
    "properties": properties,
    "one_case": one_case,
    "time_steps": time_steps,
    "dynamics": dynamics,
    "step_time": step_time,
}
PROBES: dict[str, Probe] = {name: module.measure for name, module in _MODULES.items()}
METRICS: dict[str, tuple[str, ...]] = {name: module.METRICS for name, module in _MODULES.items()}
