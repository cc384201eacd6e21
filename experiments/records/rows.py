"""Runs as rows of a table, what verdicts are judged and figures are drawn on.

A row is one run: its plan (experiment, arm, role, seed, learning rate) and its result (status, metrics).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]

Floats = NDArray[np.float64]

Curve = tuple[Floats, Floats]  # updates and validation losses, or another metric, of one run


AXES = ("update", "seconds", "cpu_seconds")  # what an evaluation has beside its metrics; times are of training alone


def loss_curve(row: Row, metric: str = "validation_loss") -> Curve:
    """Updates and validation losses of a run, or another metric, NaN where it was not finite."""
    points = [(point["update"], point[metric]) for point in row["history"] if metric in point]
    table = np.array(points, dtype=float).reshape(-1, 2)  # None becomes NaN
    return table[:, 0], np.where(np.isfinite(table[:, 1]), table[:, 1], np.nan)
