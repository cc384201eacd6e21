"""Why a claim came to its verdict, in a sentence or two made of the verdict's numbers."""

from collections.abc import Callable

from experiments.verdicts.claims import Claim
from experiments.verdicts.evidence import EDGE, GRID, PAIRS, RATE, REUSED, SEEDS, TUNING, Obstacle
from experiments.verdicts.units import declared, told
from experiments.verdicts.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    SUPPORTED,
    Verdict,
)
from experiments.verdicts.wording import number, span


def reason(claim: Claim, verdict: Verdict, alpha: float) -> str:
    """One to three sentences, effect and test, and what kept it from deciding; then what is odd about its runs."""
    parts = [_decision(claim, verdict, alpha)]
    if verdict.codes > 1:
        made = f"Its runs were made by {verdict.codes} versions of the code"
        parts.append(f"{made}; rerun_changed=true makes the older ones anew.")
    return " ".join([*parts, *map(_surprise, verdict.unlike)])


def _surprise(found: Obstacle) -> str:
    ends, promised, p = found.numbers
    medians = f"{number(ends, 3)}, that of its tuning runs at that rate is {number(promised, 3)}"
    return (
        f"{found.arm} does not end as its tuning promised: the median of its validation losses is {medians} "
        f"(rank-sum p = {number(p, 2)})."
    )


def _decision(claim: Claim, verdict: Verdict, alpha: float) -> str:
    """One or two sentences: the effect, the test, and what kept it from deciding."""
    if verdict.missing:
        return MISSING[verdict.missing.what](verdict.missing)
    if claim.kind == "bound":
        counted = f"{verdict.kept} of {len(verdict.runs)} runs keep {claim.metric} {claim.bound_text()}"
        doubt = f" {_doubt(verdict.doubt)}" if verdict.doubt else ""
        return f"{counted}; the worst is {number(verdict.estimate)}.{doubt}"
    ratio = f", a factor of {number(verdict.ratio)}" if verdict.ratio is not None else ""
    effect = f"{claim.subject()} = {_estimated(verdict)} ({claim.metric}{ratio})"
    p = f"p = {number(verdict.p, 2)}{_floor(verdict)}, {number(verdict.p_holm, 2)} after Holm"
    students = f" (paired t: {number(verdict.p_t, 2)})" if verdict.p_t is not None else ""
    tested = f"{_test_name(claim, verdict)} {p}{students}{_remark(claim, verdict, alpha)}"
    whole = f"{effect}{_not_finite(verdict)}; {tested}"
    return " ".join(filter(None, (whole if whole.endswith(".") else f"{whole}.", verdict.refuted)))


def _estimated(verdict: Verdict) -> str:
    """In the metric's unit; where logarithms were compared, as their difference."""
    if verdict.ratio is None:
        return told(verdict.estimate, verdict.metric, verdict.interval)
    return number(verdict.estimate) + span(verdict.interval)


def _margin(claim: Claim) -> str:
    return declared(claim.margin, claim.metric, claim.scale)


def _floor(verdict: Verdict) -> str:
    """Where every seed says the same, p tells how many there are and no more of the effect."""
    seeds = len(verdict.seeds)
    return f" (the least that {seeds} seeds can give)" if verdict.finite and verdict.p == 2.0**-seeds else ""


def _edge(rate: float, arm: str) -> str:
    return f"The best learning rate of {arm}, {rate:g}, is on the edge of its grid; a rate beyond may be better."


def _absent(found: Obstacle) -> str:
    seeds = ", ".join(f"{seed:g}" for seed in found.numbers)
    return f"{found.arm} lacks seed {seeds}, which another arm has; arms are only compared seed by seed."


def _evaluated_elsewhere(found: Obstacle) -> str:
    used, chosen = found.numbers
    return f"{found.arm} was evaluated at learning rate {used:g}, but tuning chose {chosen:g}."


MISSING: dict[str, Callable[[Obstacle], str]] = {
    SEEDS: lambda found: f"{found.arm} has {found.numbers[0]:g} of {found.numbers[1]:g} evaluation seeds.",
    PAIRS: _absent,
    TUNING: lambda found: f"{found.arm} has no tuning runs, so its learning rate was not chosen.",
    GRID: lambda found: f"{found.arm} lacks tuning runs at learning rate {found.numbers[0]:g}.",
    RATE: _evaluated_elsewhere,
}
DOUBT: dict[str, Callable[[Obstacle], str]] = {
    EDGE: lambda found: _edge(found.numbers[0], found.arm),
    REUSED: lambda found: f"{found.arm} was tuned on seed {found.numbers[0]:g}, which it also reports.",
}
REMEDY = {EDGE: "a wider grid", REUSED: "tuning on other seeds"}


def _doubt(found: Obstacle) -> str:
    """What keeps a claim from being decided, and that more of the same runs would not change it."""
    return f"{DOUBT[found.what](found)} No number of seeds would settle it, only {REMEDY[found.what]}."


def _test_name(claim: Claim, verdict: Verdict) -> str:
    if verdict.verdict == EQUIVALENT or (verdict.kind == "equivalence" and verdict.verdict != CONTRADICTED):
        return f"equivalence within {_margin(claim)}:"
    return "sign-flip" if verdict.finite else "sign test"


def _not_finite(verdict: Verdict) -> str:
    if verdict.finite:
        return ""
    failed = {label: arm["not_finite"] for label, arm in verdict.arms.items()}
    counts = " and ".join(f"{label} in {count}" for label, count in failed.items() if count)
    return f", with no finite value for {counts} of {len(verdict.seeds)} runs, so only signs count"


def _remark(claim: Claim, verdict: Verdict, alpha: float) -> str:
    margin, kind = _margin(claim), verdict.kind
    if verdict.verdict == SUPPORTED and kind == "difference":
        return f"; the margin of {margin} is reached" if verdict.margin else ""
    if verdict.verdict == CONTRADICTED:
        effect = "a difference" if kind == "equivalence" else "an effect in the opposite direction"
        return f"; {effect} of at least the margin of {margin}"
    if verdict.verdict != INCONCLUSIVE:
        return ""
    if verdict.doubt:
        return f". {_doubt(verdict.doubt)}"
    small, more = _is_small(verdict), _more_seeds(verdict)
    if kind == "difference" and verdict.p_holm is not None and verdict.p_holm < alpha:
        return f"; a real effect, but smaller than the margin of {margin}, and not shown to be equivalent{more}"
    if kind == "equivalence" or small:
        return f"; neither an effect of {margin} nor its absence is shown{more}"
    return f"; not significant{more}"


def _more_seeds(verdict: Verdict) -> str:
    enough = verdict.seeds_needed
    if enough is None:
        return "; no practicable number of seeds would settle it"
    if not verdict.finite:
        return f"; this share of wins would be significant 4 times in 5 with about {enough} seeds"
    beyond = "be significant and beyond the margin" if verdict.margin else "be significant"
    outcome = "be shown to lie within the margin" if _is_small(verdict) else beyond
    return f"; an effect of this size would {outcome} 4 times in 5 with about {enough} seeds"


def _is_small(verdict: Verdict) -> bool:
    return verdict.estimate is not None and abs(verdict.estimate) < verdict.margin
