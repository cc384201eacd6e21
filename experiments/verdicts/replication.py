"""The same claims on other seeds, tuned and run anew: which verdicts agree or move, and what both say together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.verdicts.stats import Numbers, paired_interval
from experiments.verdicts.verdict import (
    CONTRADICTED,
    INCOMPLETE,
    SUPPORTED,
    Verdict,
)

AGREED, MOVED, OPPOSED = "agreed", "moved", "opposed"


@dataclass(frozen=True)
class Repeated:
    """A claim in both studies; `pooled`: mean and 95 % interval over the seeds of both, None where some diverged or
    are the same."""

    original: Verdict
    replication: Verdict
    outcome: str
    pooled: tuple[float, float, float] | None

    @property
    def shared(self) -> set[int]:
        """The seeds that both have."""
        return {*self.original.seeds} & {*self.replication.seeds}


@dataclass(frozen=True)
class Agreement:
    """Of how many claims verdicts agree and, of how many with an effect in both, what their effects have in common."""

    claims: int
    agreed: int
    opposed: int
    effects: int
    same_sign: int
    inside: int  # replicated estimates in the original's 95 % interval
    same_rates: int  # effects of arms that were all given their learning rates again
    inside_at_same_rates: int
    rank_correlation: float  # Spearman's, NaN for fewer than two effects; of effects in standard deviations of theirs


def repeated(original: Sequence[Verdict], replication: Sequence[Verdict]) -> list[Repeated]:
    """Every claim that both studies have complete runs of, in the order of the original.

    Raises ValueError where both have a seed in common: it would count twice.
    """
    pairs = compared(original, replication)
    for pair in pairs:
        if pair.shared:
            seed = min(pair.shared)
            raise ValueError(
                f"claim {pair.original.id}: both studies have seed {seed}; a replication has seeds of its own"
            )
    return pairs


def compared(original: Sequence[Verdict], other: Sequence[Verdict]) -> list[Repeated]:
    """As `repeated`, of any two studies; nothing is pooled where they have a seed in common."""
    anew = {verdict.id: verdict for verdict in other if verdict.verdict != INCOMPLETE}
    pairs = [(one, anew[one.id]) for one in original if one.verdict != INCOMPLETE and one.id in anew]
    return [Repeated(*pair, outcome(*pair), pooled(*pair)) for pair in pairs]


def outcome(original: Verdict, replication: Verdict) -> str:
    if original.verdict == replication.verdict:
        return AGREED
    return OPPOSED if {original.verdict, replication.verdict} == {SUPPORTED, CONTRADICTED} else MOVED


def pooled(original: Verdict, replication: Verdict) -> tuple[float, float, float] | None:
    """As if both were one study with as many seeds; each chose its learning rates by itself."""
    d = [*original.differences, *replication.differences]
    if (
        not d
        or {*original.seeds} & {*replication.seeds}
        or any(value is None or not math.isfinite(value) for value in d)
    ):
        return None
    found = np.array(d, dtype=float)
    return float(found.mean()), *paired_interval(found)


def agreement(pairs: Sequence[Repeated]) -> Agreement:
    both = [pair for pair in pairs if has_effect(pair.original) and has_effect(pair.replication)]
    same = [pair for pair in both if same_rates(pair)]
    first, second = ([size(getattr(pair, name)) for pair in both] for name in ("original", "replication"))
    return Agreement(
        claims=len(pairs),
        agreed=sum(pair.outcome == AGREED for pair in pairs),
        opposed=sum(pair.outcome == OPPOSED for pair in pairs),
        effects=len(both),
        same_sign=sum((a > 0) == (b > 0) for a, b in zip(first, second, strict=True)),
        inside=sum(map(falls_inside, both)),
        same_rates=len(same),
        inside_at_same_rates=sum(map(falls_inside, same)),
        rank_correlation=rank_correlation(first, second),
    )


def has_effect(verdict: Verdict) -> bool:
    return verdict.kind != "bound" and verdict.estimate is not None and verdict.interval is not None


def size(verdict: Verdict) -> float:
    """The effect in standard deviations of its differences: metrics have units of their own."""
    spread = float(np.std(np.array(verdict.differences, dtype=float), ddof=1))
    return float(verdict.estimate or 0.0) / (spread or math.inf)


def falls_inside(pair: Repeated) -> bool:
    low, high = pair.original.interval or (math.nan, math.nan)
    return low <= float(pair.replication.estimate or 0.0) <= high


def same_rates(pair: Repeated) -> bool:
    """Whether tuning, done anew, chose the learning rates of the original for all arms."""
    first, second = (
        {name: arm.get("learning_rate") for name, arm in one.arms.items()} for one in (pair.original, pair.replication)
    )
    return first == second


def rank_correlation(first: Numbers, second: Numbers) -> float:
    """Spearman's; equal values, which measured ones hardly are, are ranked as they come."""
    if len(first) < 2:
        return math.nan
    ranks = np.array([np.argsort(np.argsort(np.asarray(values))) for values in (first, second)])
    return float(np.corrcoef(ranks)[0, 1])
