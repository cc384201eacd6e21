"""Evidence: the runs behind a claim, and what keeps them from deciding it.

A row is one run: its plan (experiment, arm, role, seed, learning rate) and its result (status, metrics).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.records.arm_rows import ArmRows, Runs
from experiments.records.files import flat
from experiments.records.rows import Floats, Row
from experiments.records.tuning import lacking, or_worst
from experiments.verdicts.claims import Claim, ClaimError, check_known
from experiments.verdicts.stats import rank_sum_p


def metric_value(row: Row, claim: Claim) -> float:
    """The claim's metric of one run; of a diverged or non-finite one the worst there is, +-infinity.

    A claim with a target asks after how many updates the metric came down to it: infinity where it never did.
    """
    if claim.target is not None:
        return updates_to(claim.target, claim.metric, row["history"])
    known = {**row["timing"], **row["final"]}
    if claim.metric not in known and row["status"] != "diverged":
        check_known(claim.metric, known, f"claim {claim.id!r}: metric of run {row['run']}")
    return or_worst(row, claim.metric, math.inf if claim.better == "less" else -math.inf)


def updates_to(target: float, metric: str, history: Sequence[Row], axis: str = "update") -> float:
    """The update, or what else is on the axis, at which a curve first comes down to the target: on the straight line
    between two evaluations, infinity where it never does."""
    before: tuple[float, float] | None = None
    for point in history:
        place, value = float(point[axis]), math.inf if point[metric] is None else float(point[metric])
        if value <= target:
            if before is None or not math.isfinite(before[1]):
                return place
            share = (before[1] - target) / (before[1] - value)
            return before[0] + share * (place - before[0])
        before = place, value
    return math.inf


# What runs lack, so that they cannot answer a claim, and what keeps whole ones from deciding it.
SEEDS, PAIRS, TUNING, GRID, RATE = "seeds", "pairs", "tuning", "grid", "rate"
REUSED, EDGE = "reused", "edge"
UNLIKE = "unlike"  # and what is told beside the verdict
UNLIKELY = 0.01  # the share of arms that are told to end otherwise than tuning promised where all do as it did


@dataclass(frozen=True)
class Obstacle:
    """What keeps the runs of an arm from deciding a claim, and the numbers that belong to it.

    Missing: `seeds` (how many there are, how many are needed), `pairs` (the seeds another arm has), `tuning` (no runs),
    `grid` (the learning rate that was not tried on every seed), `rate` (that of the evaluations, the chosen one).
    In doubt: `reused` (a seed tuned on and reported), `edge` (the best rate, first or last of its grid).
    Told only: `unlike` (the runs' validation losses and those of the tuning runs at their rate are of different
    distributions: the median of both and p).
    """

    what: str
    arm: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The runs behind one claim; `missing` and `doubt` say why they cannot decide it, if they cannot."""

    claim: Claim
    runs: dict[str, list[Row]]  # evaluation runs by label, in order of seed
    seeds: tuple[int, ...]  # those every arm has
    values: dict[str, Floats]  # metric by label, one per run
    differences: Floats  # one per seed; NaN is a tie of two diverged runs
    missing: Obstacle | None
    doubt: Obstacle | None
    codes: int = 1  # versions of the code that runs of one kind were made by
    unlike: tuple[Obstacle, ...] = ()  # arms whose runs end otherwise than their tuning promised

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
    arms = {label: runs[claim.resolve(label)] for label in claim.labels}
    rows = {label: sorted(arm.evaluations, key=lambda row: row["seed"]) for label, arm in arms.items()}
    values = {label: np.array([metric_value(row, claim) for row in rows[label]]) for label in claim.labels}
    missing = _missing_seeds(claim, rows, seeds) or (_missing_tuning(arms) if claim.tuned else None)
    doubt = _doubt(arms) if claim.tuned and not missing else None
    shared = set.intersection(*({row["seed"] for row in rows[label]} for label in claim.labels))
    differences = np.array([]) if missing or claim.kind == "bound" else contrasts(claim, values)
    unlike = tuple(_unlike(arms)) if claim.tuned and not missing else ()
    codes = _codes(arms.values())
    return Evidence(claim, rows, tuple(sorted(shared)), values, differences, missing, doubt, codes, unlike)


def evaluations(claim: Claim, label: str, runs: Runs) -> list[Row]:
    return runs[claim.resolve(label)].evaluations


def contrasts(claim: Claim, values: Mapping[str, Floats]) -> Floats:
    """d_s = sum of weight x metric (or its logarithm) for each seed, less the constant it is `against`."""
    table = np.array([values[label] for label in claim.labels])
    if claim.scale == "log":
        if (np.isfinite(table) & (table < 0)).any():
            negative = f"{claim.metric} = {table[np.isfinite(table)].min():g}"
            raise ClaimError(f"claim {claim.id!r}: scale: 'log' cannot take the negative {negative}")
        with np.errstate(divide="ignore"):
            table = np.log(np.maximum(table, 0))  # a diverged accuracy, -infinity, is none at all
    with np.errstate(invalid="ignore"):  # infinity - infinity: both diverged, neither is better
        return np.array((np.array(claim.weights)[:, None] * table).sum(axis=0)) - claim.null()


def _codes(arms: Iterable[ArmRows]) -> int:
    """How many versions of its code runs of one method, model and data set went through, at most.

    Older records do not say: together they count as one version.
    """
    versions: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in (row for arm in arms for row in arm.every if "config" in row):
        config = flat(row["config"])
        kind = tuple(str(config.get(key)) for key in ("method", "model.name", "data.name"))
        versions[kind].add(str(row.get("environment", {}).get("code", "")))
    return max(map(len, versions.values()), default=1)


def _missing_seeds(claim: Claim, rows: Mapping[str, list[Row]], needed: int) -> Obstacle | None:
    every = {row["seed"] for group in rows.values() for row in group}
    for label, group in rows.items():
        have = Counter(row["seed"] for row in group)
        twice = [seed for seed, count in have.items() if count > 1]
        if twice:
            raise ClaimError(f"claim {claim.id!r}: arm {label!r} has two evaluation runs of seed {twice[0]}")
        if len(have) < needed:
            return Obstacle(SEEDS, label, (len(have), needed))
        if every - have.keys():
            return Obstacle(PAIRS, label, tuple(sorted(every - have.keys())))
    return None


def _missing_tuning(arms: Mapping[str, ArmRows]) -> Obstacle | None:
    for label, arm in arms.items():
        if not arm.losses:
            return Obstacle(TUNING, label)
        if (rate := lacking(arm.losses)) is not None:
            return Obstacle(GRID, label, (rate,))
        best = arm.choice.learning_rate
        other = [row["learning_rate"] for row in arm.evaluations if not math.isclose(row["learning_rate"], best)]
        if other:
            return Obstacle(RATE, label, (other[0], best))
    return None


def _doubt(arms: Mapping[str, ArmRows]) -> Obstacle | None:
    for label, arm in arms.items():
        reused = {row["seed"] for row in arm.tuning} & {row["seed"] for row in arm.evaluations}
        if reused:
            return Obstacle(REUSED, label, (min(reused),))
        # Where batch norm is undefined no weight gets a gradient at any rate: there is no optimum to bracket.
        if arm.choice.on_edge and not all(row["status"] == "undefined" for row in arm.tuning):
            return Obstacle(EDGE, label, (arm.choice.learning_rate,))
    return None


def _unlike(arms: Mapping[str, ArmRows]) -> Iterator[Obstacle]:
    """Where tuning was lucky, or runs end well or badly by chance, the rate chosen is not what it seemed."""
    for label, arm in arms.items():
        promised = list(arm.losses[arm.choice.learning_rate].values())
        ends = [or_worst(row, "validation_loss", math.inf) for row in arm.evaluations]
        if (p := rank_sum_p(promised, ends)) < UNLIKELY:
            yield Obstacle(UNLIKE, label, (float(np.median(ends)), float(np.median(promised)), p))
