"""From records to the rows of the table that claims are judged on."""

from typing import Any

from experiments.records.table import rounded
from experiments.sweeps.arm import read_arm
from experiments.sweeps.compose import Arm
from experiments.training.schema import Config

KEPT = ("run", "config", "status", "synthetic", "final", "history", "timing", "environment")  # of a record, in a row


def collect_rows(arms: dict[Arm, Config]) -> list[dict[str, Any]]:
    """The table the claims are judged on: a row for each tuning and evaluation run, read from its record."""
    rows = []
    for (experiment, arm), config in arms.items():
        for role, found in zip(("tune", "evaluate"), read_arm(config, range(config.seeds)), strict=True):
            rows += [to_row(record, experiment, arm, role, config.scale) for record in found]
    return rows


def to_row(record: dict[str, Any], experiment: str, arm: str, role: str, scale: str) -> dict[str, Any]:
    """A run as it is judged and tabulated: measured numbers rounded, here and nowhere else."""
    kept: dict[str, Any] = rounded({key: record[key] for key in KEPT})
    return {
        "experiment": experiment,
        "arm": arm,
        "role": role,
        "scale": scale,
        "seed": kept["config"]["seed"],
        "learning_rate": kept["config"]["optim"]["learning_rate"],
        **kept,
    }
