"""What runs measure: the names of it, and how a finished run is told in a line."""

from collections.abc import Mapping
from typing import Any

import data
import models
from experiments.training import probes
from experiments.training.schema import Config
from models.options import OF_A_BATCH

WAYS = ("test", "test_reestimated", "test_batch")  # of testing; final_tests.py has their meaning


def metric_names(config: Config) -> set[str]:
    """The names of all that a run of this configuration measures."""
    if config.method != "train":
        return set(probes.load(config.method).metrics)
    measured, longer = (models.metrics(config.model, longer=longer) for longer in (False, True))
    names = {f"{split}_{name}" for split in ("validation", "mean_validation", *WAYS) for name in measured}
    names |= {f"test_batch_{name}_increase" for name in measured}
    for variant in data.test_splits(config.data)[1:]:
        names |= {f"{variant}_{name}" for name in longer} | {f"{variant}_{name}_increase" for name in measured}
    if "validation_state_norm" in names:
        names.add("state_norm_drift")
    return {"train_loss", "mean_train_loss"} | names


def outcome_line(record: Mapping[str, Any]) -> str:
    """What a run came to: its id, status and test metrics (a probe's: all)."""
    training = record["config"]["method"] == "train"
    final = (record["final"] or record["timing"]).items()
    if record["config"]["norm"] not in OF_A_BATCH:
        final = [(name, value) for name, value in final if not name.startswith(WAYS[1:])]
    shown = [(name, value) for name, value in final if name.startswith("test") or not training]
    numbers = "  ".join(f"{name}={'-' if value is None else format(value, '.4g')}" for name, value in shown)
    return f"{record['experiment']}/{record['run']}  {record['status']}  {numbers}"
