"""Evidence: the runs behind a claim, and what keeps them from deciding it.

A row is one run: its plan (experiment, arm, role, seed, learning rate) and its result (status, metrics).
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.records.rows import Floats, Row, Runs
from experiments.records.tuning import best_learning_rate, or_worst, tuning_losses
from experiments.verdicts.claims import Claim, ClaimError, check_known


def metric_value(row: Row, claim: Claim) -> float:
    """The claim's metric of one run; of a diverged or non-finite one the worst there is, +-infinity."""
    known = {**row["timing"], **row["final"]}
    if claim.metric not in known and row["status"] != "diverged":
        check_known(claim.metric, known, f"claim {claim.id!r}: metric of run {row['run']}")
    return or_worst(row, claim.metric, math.inf if claim.better == "less" else -math.inf)


@dataclass(frozen=True)
class Evidence:
    """The runs behind one claim; `missing` and `doubt` say why they cannot decide it, empty if they can."""

    claim: Claim
    runs: dict[str, list[Row]]  # evaluation runs by label, in order of seed
    seeds: tuple[int, ...]  # those every arm has
    values: dict[str, Floats]  # metric by label, one per run
    differences: Floats  # one per seed; NaN is a tie of two diverged runs
    missing: str
    doubt: str

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.differences).all())

    def estimate(self) -> float:
        """Mean or median difference; the median, with a tie as 0, where runs diverged: no mean exists."""
        if self.finite and self.claim.summary == "mean":
            return float(self.differences.mean())
        with np.errstate(invalid="ignore"):  # the middle of -inf and inf is nothing
            return float(np.median(np.nan_to_num(self.differences, nan=0.0, posinf=np.inf, neginf=-np.inf)))


def gather(claim: Claim, runs: Runs, seeds: int) -> Evidence:
    """Collect the evaluation runs of a claim and say what is missing or doubtful about them."""
    rows = {
        label: sorted(runs.get((*claim.resolve(label), "evaluate"), ()), key=lambda row: row["seed"])
        for label in claim.labels
    }
    values = {label: np.array([metric_value(row, claim) for row in rows[label]]) for label in claim.labels}
    tuning = {label: runs.get((*claim.resolve(label), "tune"), []) for label in claim.labels}
    missing = _missing_seeds(claim, rows, seeds) or (_missing_tuning(rows, tuning) if claim.tuned else "")
    doubt = _doubt(tuning, rows) if claim.tuned and not missing else ""
    shared = set.intersection(*({row["seed"] for row in rows[label]} for label in claim.labels))
    differences = np.array([]) if missing or claim.kind == "bound" else _differences(claim, values)
    return Evidence(claim, rows, tuple(sorted(shared)), values, differences, missing, doubt)


def evaluations(claim: Claim, label: str, runs: Runs) -> list[Row]:
    return runs.get((*claim.resolve(label), "evaluate"), [])


def _differences(claim: Claim, values: Mapping[str, Floats]) -> Floats:
    """d_s = sum of weight x metric (or its logarithm) for each seed."""
    table = np.array([values[label] for label in claim.labels])
    if claim.scale == "log":
        if (np.isfinite(table) & (table < 0)).any():
            negative = f"{claim.metric} = {table[np.isfinite(table)].min():g}"
            raise ClaimError(f"claim {claim.id!r}: scale: 'log' cannot take the negative {negative}")
        with np.errstate(divide="ignore"):
            table = np.log(np.maximum(table, 0))  # a diverged accuracy, -infinity, is none at all
    with np.errstate(invalid="ignore"):  # infinity - infinity: both diverged, neither is better
        return np.array((np.array(claim.weights)[:, None] * table).sum(axis=0))


def _missing_seeds(claim: Claim, rows: Mapping[str, list[Row]], needed: int) -> str:
    every = {row["seed"] for group in rows.values() for row in group}
    for label, group in rows.items():
        have = Counter(row["seed"] for row in group)
        twice = [seed for seed, count in have.items() if count > 1]
        if twice:
            raise ClaimError(f"claim {claim.id!r}: arm {label!r} has two evaluation runs of seed {twice[0]}")
        if len(have) < needed:
            return f"{label} has {len(have)} of {needed} evaluation seeds."
        if every - have.keys():
            absent = ", ".join(map(str, sorted(every - have.keys())))
            return f"{label} lacks seed {absent}, which another arm has; arms are only compared seed by seed."
    return ""


def _missing_tuning(rows: Mapping[str, list[Row]], tuning: Mapping[str, list[Row]]) -> str:
    for label, group in tuning.items():
        losses = tuning_losses(group)
        if not losses:
            return f"{label} has no tuning runs, so its learning rate was not chosen."
        seeds = set().union(*losses.values())
        for rate, by_seed in losses.items():
            if by_seed.keys() != seeds:
                return f"{label} lacks tuning runs at learning rate {rate:g}."
        best, _ = best_learning_rate(group)
        other = [row["learning_rate"] for row in rows[label] if not math.isclose(row["learning_rate"], best)]
        if other:
            return f"{label} was evaluated at learning rate {other[0]:g}, but tuning chose {best:g}."
    return ""


def _doubt(tuning: Mapping[str, list[Row]], rows: Mapping[str, list[Row]]) -> str:
    for label, group in tuning.items():
        reused = {row["seed"] for row in group} & {row["seed"] for row in rows[label]}
        if reused:
            return f"{label} was tuned on seed {min(reused)}, which it also reports."
        best, at_edge = best_learning_rate(group)
        # Where batch norm is undefined no weight gets a gradient at any rate: there is no optimum to bracket.
        if at_edge and not all(row["status"] == "undefined" for row in group):
            edge = f"The best learning rate of {label}, {best:g}, is on the edge of its grid"
            return f"{edge}; a rate beyond may be better."
    return ""
