"""Verdicts: what the recorded runs say about the declared claims.

`judge` is a pure function: the same rows give the same verdicts anywhere.

How a claim is decided
    difference   d_s = sum of weight x metric over the arms, one number per seed, less the constant it is compared
                 with if there is one. The exact sign-flip test is taken in the claimed direction, in the opposite
                 one and, twice one-sided, for |d| < margin.
                 supported, contradicted: the test is significant and the estimate reaches the margin there.
    equivalence  supported: |d| < margin is shown. contradicted: d > margin, or d < -margin, is: the same test of
                 what exceeds the margin. That the estimate lies beyond it would not do: of effects just within the
                 margin a third would be called contradicted.
    bound        an identity: every seed of every arm keeps the bound, or it is contradicted. No p.

Why one-sided: with n seeds no two-sided p is below 2^(1-n), twice the smallest that Holm's correction over the
family must let pass. A claim states its direction before the runs; the opposite is tested with the same rigour.
Why Holm per family and verdict: the claims that the paper and the notes make are one family, what later work and
this suite add is another, so that additions cost the former nothing; identities are not tested. Among all claims
of a family called supported the chance of any false one is at most alpha, likewise for contradicted and for
equivalent. A family is every claim declared: one without runs counts with p = 1, so judging a selection, or half
a sweep, never makes a test easier.

How many seeds would settle an inconclusive claim (`seeds_needed`; a plan, never part of the decision)
    |estimate| >= margin   as many as find such a mean, given such an sd, with 80 % power: a one-sided test and an
                           estimate that reaches the margin. Where runs diverged: a sign test of such wins.
    |estimate| < margin    as many as show, with 80 % power, both one-sided tests of equivalence.
Each test at alpha / (number of tests), Holm's strictest level; always more seeds than there are, for these did not
settle it. None if the estimate lies on the margin, if runs diverged without an effect, or more than anyone runs; a
learning rate on the edge of its grid is settled by a wider grid only.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.records.arm_rows import Runs, group_runs
from experiments.records.rows import Floats, Row
from experiments.verdicts.claims import FAMILIES, Claim, ClaimError, Registry
from experiments.verdicts.evidence import Evidence, gather
from experiments.verdicts.stats import (
    Test,
    holm,
    paired_interval,
    paired_t_p,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_for_wins,
    sign_flip_p,
    sign_test_p,
    tost_p,
)
from experiments.verdicts.verdict import CONTRADICTED, EQUIVALENT, INCOMPLETE, INCONCLUSIVE, SUPPORTED, Verdict


@dataclass(frozen=True)
class _Tails:
    """The p-values that could lead to each verdict; unadjusted from `_tails`, adjusted from `_adjust`."""

    supported: tuple[float, ...] = ()
    contradicted: tuple[float, ...] = ()
    equivalent: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Outcome:
    verdict: str
    p: float | None = None
    p_holm: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def judge(registry: Registry, rows: Iterable[Row], *, seeds: int | None = None) -> list[Verdict]:
    """The verdict on each claim of the registry, in its order, from the rows of one scale.

    `seeds` lowers the evaluation seeds a claim needs, for trials. Raises ClaimError for rows that mix scales,
    repeat a seed or lack the metric.
    """
    rows = list(rows)
    scales = sorted({str(row["scale"]) for row in rows})
    if len(scales) > 1:
        raise ClaimError(f"runs of different scales cannot be judged together: {', '.join(scales)}")
    runs = group_runs(rows)
    _check_tuning(runs)
    needed = seeds or runs.seeds(registry.seeds)
    family = [gather(claim, runs, needed) for claim in registry.family]
    tails = [_tails(evidence, sign_flip_p if evidence.finite else sign_test_p) for evidence in family]
    adjusted = _adjust([evidence.claim.family for evidence in family], tails)
    chosen = {claim.id for claim in registry.claims}
    strictest = {name: registry.alpha / max(1, registry.tests(name)) for name in FAMILIES}
    return [
        _verdict(evidence, _decide(evidence, raw, corrected, registry.alpha, strictest), scales)
        for evidence, raw, corrected in zip(family, tails, adjusted, strict=True)
        if evidence.claim.id in chosen
    ]


def _check_tuning(runs: Runs) -> None:
    """Refuse two tuning runs of one seed and rate: which of them counts would depend on the order of the rows."""
    for (experiment, arm), rows in runs.items():
        counts = Counter((row["learning_rate"], row["seed"]) for row in rows.tuning)
        (rate, seed), most = max(counts.items(), key=lambda item: item[1], default=((0, 0), 0))
        if most > 1:
            raise ClaimError(f"{experiment}: arm {arm!r} has two tuning runs of seed {seed} at learning rate {rate:g}")


def _tails(evidence: Evidence, test: Test) -> _Tails:
    """By a one-sided test of differences from 0, taken on both sides; of an equality, of what exceeds its margin."""
    claim, d = evidence.claim, evidence.differences
    if claim.kind == "bound":
        return _Tails()
    if evidence.missing:
        below = above = inside = 1.0
    else:
        beyond = claim.margin if claim.kind == "equivalence" else 0.0
        below, above = test(d + beyond, "less"), test(d - beyond, "greater")
        inside = tost_p(d, claim.margin, test) if claim.margin > 0 and evidence.finite else 1.0
    if claim.kind == "equivalence":
        return _Tails(supported=(inside,), contradicted=(below, above))
    ahead, behind = (below, above) if claim.direction == "less" else (above, below)
    return _Tails((ahead,), (behind,), (inside,) if claim.margin > 0 else ())


def _adjust(families: Sequence[str], tails: Sequence[_Tails]) -> list[_Tails]:
    """Holm over each whole family, once for each verdict."""

    def column(verdict: str) -> list[tuple[float, ...]]:
        groups = [getattr(tail, verdict) for tail in tails]
        placed = list(zip(families, groups, strict=True))
        corrected = {
            name: iter(holm([p for family, group in placed if family == name for p in group])) for name in FAMILIES
        }
        return [tuple(next(corrected[family]) for _ in group) for family, group in placed]

    return [_Tails(*row) for row in zip(*map(column, (SUPPORTED, CONTRADICTED, EQUIVALENT)), strict=True)]


def _decide(
    evidence: Evidence, raw: _Tails, adjusted: _Tails, alpha: float, strictest: Mapping[str, float]
) -> _Outcome:
    if evidence.missing:
        return _Outcome(INCOMPLETE)
    if evidence.claim.kind == "bound":
        return _decide_bound(evidence)
    estimate, outcome = evidence.estimate(), INCONCLUSIVE
    for verdict in (SUPPORTED, CONTRADICTED, EQUIVALENT):
        shown = min(getattr(adjusted, verdict), default=1.0) < alpha
        if not evidence.doubt and shown and _reaches(evidence.claim, verdict, estimate):
            outcome = verdict
            break
    tail = SUPPORTED if outcome == INCONCLUSIVE else outcome
    p, p_holm = min(getattr(raw, tail)), min(getattr(adjusted, tail))
    details = _size(evidence, estimate)
    if outcome == INCONCLUSIVE and not evidence.doubt:
        details["seeds_needed"] = _seeds_to_settle(evidence, estimate, strictest[evidence.claim.family])
    if outcome == CONTRADICTED:
        details["refuted"] = evidence.claim.refuted.get("less" if estimate < 0 else "greater", "")
    if evidence.finite:
        details["p_t"] = min(getattr(_tails(evidence, paired_t_p), tail))
    return _Outcome(outcome, p, p_holm, details)


def _seeds_to_settle(evidence: Evidence, estimate: float, alpha: float) -> int | None:
    """Seeds with which each test, at `alpha`, has 80 % power if the runs at hand are typical; None if none would."""
    d, margin = evidence.differences, evidence.claim.margin
    small = abs(estimate) < margin
    if evidence.claim.kind == "equivalence" and not small:  # what is to be shown is that it exceeds the margin
        d, margin = d - math.copysign(margin, estimate), 0.0
    if evidence.finite:
        enough = seeds_for_equivalence(d, margin, alpha) if small else seeds_for_difference(d, margin, alpha)
    else:  # equivalence within a margin cannot be shown by signs
        enough = None if small else seeds_for_wins(d, alpha)
    return enough and max(enough, d.size + 1)  # those at hand did not settle it


def _reaches(claim: Claim, verdict: str, estimate: float) -> bool:
    """Whether the estimate is large enough, on the right side, for the verdict whose test was significant."""
    if verdict == EQUIVALENT or claim.kind == "equivalence":  # their tests are of the margin itself
        return True
    ahead = -estimate if claim.direction == "less" else estimate
    return (ahead if verdict == SUPPORTED else -ahead) >= claim.margin


def _decide_bound(evidence: Evidence) -> _Outcome:
    claim, values = evidence.claim, np.concatenate(list(evidence.values.values()))
    worst = float(values.max() if claim.at_most is not None else values.min())
    broken = values > claim.limit() if claim.at_most is not None else values < claim.limit()
    details = {"estimate": worst, "interval": (float(values.min()), float(values.max()))}
    details["kept"] = int(values.size - broken.sum())
    return _Outcome(INCONCLUSIVE if evidence.doubt else CONTRADICTED if broken.any() else SUPPORTED, details=details)


def _size(evidence: Evidence, estimate: float) -> dict[str, Any]:
    d = evidence.differences
    return {
        "estimate": estimate,
        "interval": paired_interval(d) if evidence.finite else None,
        "ratio": math.exp(min(estimate, 700.0)) if evidence.claim.scale == "log" and math.isfinite(estimate) else None,
        "differences": tuple(float(value) for value in d),
    }


_FROM_CLAIM = ("id", "source", "said_by", "statement", "kind", "experiment", "metric", "margin")


def _verdict(evidence: Evidence, outcome: _Outcome, scales: Sequence[str]) -> Verdict:
    claim = evidence.claim
    runs = [row for label in claim.labels for row in evidence.runs[label]]
    return Verdict(
        **{key: getattr(claim, key) for key in _FROM_CLAIM},
        verdict=outcome.verdict,
        p=outcome.p,
        p_holm=outcome.p_holm,
        scale=scales[0] if scales else "",
        synthetic=any(row["synthetic"] for row in runs),
        seeds=evidence.seeds,
        runs=tuple(sorted(row["run"] for row in runs)),
        arms={label: _describe(evidence.runs[label], evidence.values[label]) for label in claim.labels},
        missing=evidence.missing,
        doubt=evidence.doubt,
        codes=evidence.codes,
        unlike=evidence.unlike,
        **outcome.details,
    )


def _describe(rows: Sequence[Row], values: Floats) -> dict[str, Any]:
    rates = {row["learning_rate"] for row in rows}
    finite = bool(values.size) and bool(np.isfinite(values).all())
    return {
        "mean": float(values.mean()) if finite else None,
        "sd": float(values.std(ddof=1)) if finite and values.size > 1 else None,
        "median": float(np.median(values)) if values.size else None,
        "not_finite": int((~np.isfinite(values)).sum()),
        "diverged": sum(row["status"] == "diverged" for row in rows),
        "undefined": sum(row["status"] == "undefined" for row in rows),
        "learning_rate": rates.pop() if len(rates) == 1 else None,
    }
