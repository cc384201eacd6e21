"""The contrast of a claim at every evaluation of its runs: an effect that fades as nets train is a transient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from experiments.records.arm_rows import Runs
from experiments.records.rows import Row
from experiments.verdicts.claims import Claim
from experiments.verdicts.evidence import contrasts, evaluations
from experiments.verdicts.stats import paired_interval

Points = dict[float, float]  # a metric by the share of its run's updates


@dataclass(frozen=True)
class Effect:
    """The mean contrast over the seeds after a share of the updates, with its 95 % interval, in the claim's unit."""

    share: float
    mean: float
    low: float
    high: float


def effects(claim: Claim, runs: Runs) -> list[Effect]:
    """Of a claim on trained arms, where all of them were evaluated; empty where its metric has no learning curve.

    A test metric is followed on validation data, a mean over the run by the mean so far. The rate decays over the whole
    of each run, so what stands at half of the updates is not what a run of half the length would end at.
    """
    if claim.kind == "bound" or claim.target is not None:
        return []
    curves = {label: by_seed(claim, evaluations(claim, label, runs)) for label in claim.labels}
    seeds = set.intersection(*(set(found) for found in curves.values()))
    if len(seeds) < 2:
        return []
    shares = set.intersection(*(set(curves[label][seed]) for label in claim.labels for seed in seeds))
    found = []
    for share in sorted(shares):
        values = {label: np.array([curves[label][seed][share] for seed in sorted(seeds)]) for label in claim.labels}
        d = contrasts(claim, values)
        if np.isfinite(d).all():
            found.append(Effect(share, float(d.mean()), *paired_interval(d)))
    return found


def by_seed(claim: Claim, rows: Sequence[Row]) -> dict[int, Points]:
    """The curve of each run that has one."""
    updates = max((point["update"] for row in rows for point in row["history"]), default=0)
    found = {row["seed"]: curve(claim.metric, row["history"], updates) for row in rows}
    return {seed: points for seed, points in found.items() if points}


def curve(metric: str, history: Sequence[Mapping[str, float | None]], updates: int) -> Points:
    name = metric.removeprefix("mean_")
    if metric.startswith("test_"):
        name = f"validation_{metric.removeprefix('test_')}"
    if not history or name not in history[0]:
        return {}
    values = [math.inf if (value := point[name]) is None else float(value) for point in history]
    if metric.startswith("mean_"):
        values = [total / count for count, total in enumerate(accumulate(values), start=1)]
    shares = (round(float(point["update"] or 0) / updates, 6) for point in history)
    return dict(zip(shares, values, strict=True))
