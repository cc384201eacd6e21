"""From records to the rows of the table that claims are judged on."""

from collections.abc import Mapping
from typing import Any

from experiments.records.table import rounded
from experiments.sweeps.arm import Arm, Name

KEPT = ("run", "config", "status", "synthetic", "final", "history", "timing", "environment")  # of a record, in a row
MADE_OF = ("code", "data_digest")  # what a run went through and what it read


def collect_rows(arms: Mapping[Name, Arm]) -> list[dict[str, Any]]:
    """The table the claims are judged on: a row for each tuning and evaluation run that is done, from its record."""
    rows = []
    for name, arm in arms.items():
        arm.look()
        for role, runs in (("tune", arm.trials), ("evaluate", arm.evaluations)):
            rows += [to_row(run.kept, *name, role, arm.config.scale) for run in runs if run.kept]
    return rows


def to_row(record: dict[str, Any], experiment: str, arm: str, role: str, scale: str) -> dict[str, Any]:
    """A run as it is judged and tabulated: measured numbers rounded, here and nowhere else."""
    kept: dict[str, Any] = rounded({key: record[key] for key in KEPT})
    kept["environment"] |= {key: record[key] for key in MADE_OF if key in record}
    return {
        "experiment": experiment,
        "arm": arm,
        "role": role,
        "scale": scale,
        "seed": kept["config"]["seed"],
        "learning_rate": kept["config"]["optim"]["learning_rate"],
        **kept,
    }
