"""What would settle an inconclusive claim: so many seeds, or none at all. Computed as verdicts.py says."""

from experiments.verdicts.evidence import Evidence
from experiments.verdicts.stats import seeds_for_difference, seeds_for_equivalence, seeds_for_wins


def seeds_to_settle(evidence: Evidence, estimate: float, alpha: float) -> int | None:
    """Seeds with which each test, at `alpha`, has 80 % power if the runs at hand are typical; None if none would."""
    d, margin, small = evidence.differences, evidence.claim.margin, _small(evidence, estimate)
    if evidence.finite:
        enough = seeds_for_equivalence(d, margin, alpha) if small else seeds_for_difference(d, margin, alpha)
    else:  # equivalence within a margin cannot be shown by signs
        enough = None if small else seeds_for_wins(d, alpha)
    return enough and max(enough, d.size + 1)  # those at hand did not settle it


def told_seeds(evidence: Evidence, estimate: float, enough: int | None) -> str:
    if enough is None:
        return "; no practicable number of seeds would settle it"
    if evidence.finite:
        beyond = "be significant and beyond the margin" if evidence.claim.margin else "be significant"
        outcome = "be shown to lie within the margin" if _small(evidence, estimate) else beyond
        return f"; an effect of this size would {outcome} 4 times in 5 with about {enough} seeds"
    return f"; this share of wins would be significant 4 times in 5 with about {enough} seeds"


def told_doubt(evidence: Evidence) -> str:
    """What keeps the claim from being decided, and that more of the same runs would not change it."""
    if not evidence.doubt:
        return ""
    remedy = "a wider grid" if "edge of its grid" in evidence.doubt else "tuning on other seeds"
    return f"{evidence.doubt} No number of seeds would settle it, only {remedy}."


def _small(evidence: Evidence, estimate: float) -> bool:
    return abs(estimate) < evidence.claim.margin
