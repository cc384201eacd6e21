"""Runs as rows of a table, what verdicts are judged and figures are drawn on.

A row is one run: its plan (experiment, arm, role, seed, learning rate) and its result (status, metrics).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]

Floats = NDArray[np.float64]

Curve = tuple[Floats, Floats]  # updates and validation losses of one run


AXES = ("update", "seconds", "cpu_seconds")  # what an evaluation has beside its metrics; times are of training alone


def loss_curve(row: Row) -> Curve:
    """Updates and validation losses of a run, NaN where the loss was not finite."""
    points = [(point["update"], point["validation_loss"]) for point in row["history"] if "validation_loss" in point]
    table = np.array(points, dtype=float).reshape(-1, 2)  # None becomes NaN
    return table[:, 0], np.where(np.isfinite(table[:, 1]), table[:, 1], np.nan)
