"""What a claim is: one falsifiable statement and, declared before the runs, everything that decides it.

    load_claims(path) -> Registry        claims_file reads configs/claims/ into these classes
    check_against(registry, ...)         every arm, metric and learning-rate grid the claims rely on exists
    judge(registry, rows) -> [Verdict]   verdicts decides them; there each kind's test is described

Every mistake in a declaration is a ClaimError of one line.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from experiments.records.files import SuiteError
from experiments.verdicts.wording import tidy


class ClaimError(SuiteError):
    """A mistake in a claim, or in the runs offered as its evidence, told in one line."""


@dataclass(frozen=True)
class Claim:
    """One falsifiable statement and, fixed before the runs, everything that decides it."""

    id: str
    source: str
    statement: str
    experiment: str
    kind: str
    metric: str
    labels: tuple[str, ...]  # the arms as written: `arm` of the experiment, or `other_experiment/arm`
    weights: tuple[float, ...] = ()  # one per label, sum 0; none for a bound
    direction: str = ""  # difference only: the claimed sign of the contrast
    margin: float = 0.0  # smallest effect that counts, in the metric's unit (log unit for scale: log)
    scale: str = "raw"
    summary: str = "mean"
    better: str = "less"  # which way the metric improves: decides what a diverged run counts as
    tuned: bool = True
    at_most: float | None = None
    at_least: float | None = None
    expected: str = ""
    deviations: str = ""
    would_change: str = ""

    def resolve(self, label: str) -> tuple[str, str]:
        """The (experiment, arm) a label stands for."""
        experiment, _, arm = label.rpartition("/")
        return experiment or self.experiment, arm

    def arms(self) -> list[tuple[str, str]]:
        """Every (experiment, arm) the claim rests on."""
        return [self.resolve(label) for label in self.labels]

    def subject(self) -> str:
        """What is estimated, for people: `layer - none`, `log(layer / none)`."""
        if self.kind == "bound":
            return ", ".join(self.labels)
        if sorted(self.weights) == [-1, 1]:
            first, second = self.labels[self.weights.index(1)], self.labels[self.weights.index(-1)]
            return f"log({first} / {second})" if self.scale == "log" else f"{first} - {second}"
        added_first = sorted(zip(self.labels, self.weights, strict=True), key=lambda term: term[1] < 0)
        terms = (f"{_factor(weight)}{label}" for label, weight in added_first)
        text = " ".join(terms).removeprefix("+ ")
        return f"log scale: {text}" if self.scale == "log" else text

    def limit(self) -> float:
        """The bound of an exact claim, in the metric's unit."""
        return next(bound for bound in (self.at_most, self.at_least, math.nan) if bound is not None)

    def bound_text(self) -> str:
        return f"{'>=' if self.at_most is None else '<='} {tidy(self.limit())}"


@dataclass(frozen=True)
class Registry:
    """The declared claims, the error rate of their family and the evaluation seeds each needs."""

    alpha: float
    seeds: int
    claims: tuple[Claim, ...]
    declared: tuple[Claim, ...] = ()  # the whole family when `claims` is a selection of it

    @property
    def family(self) -> tuple[Claim, ...]:
        return self.declared or self.claims

    @property
    def tests(self) -> int:
        """How many p-values Holm corrects together at most: either sign contradicts an equivalence."""
        return sum({"difference": 1, "equivalence": 2}.get(claim.kind, 0) for claim in self.family)

    def arms(self) -> set[tuple[str, str]]:
        """Every (experiment, arm) that one of the claims rests on."""
        return {arm for claim in self.claims for arm in claim.arms()}

    def select(self, ids: Iterable[str]) -> "Registry":
        """Only these claims, in the order of the file; the family stays whole: no test gets easier."""
        wanted = list(ids)
        for name in wanted:
            check_known(name, [claim.id for claim in self.family], "claim")
        chosen = tuple(claim for claim in self.family if claim.id in wanted)
        return replace(self, claims=chosen, declared=self.family)


def check_against(
    registry: Registry,
    arms: Mapping[str, Iterable[str]],
    metrics: Mapping[str, Iterable[str]],
    grids: Mapping[tuple[str, str], int],
) -> None:
    """Raise ClaimError for a claim about an unknown experiment, arm or metric, or a tuned arm without a grid.

    `grids` is the number of learning rates tried per (experiment, arm), 0 or no entry for none: fewer than
    three have no interior, so the best would always lie on an edge. A family too large for its seeds is
    refused as well: no runs could ever contradict one of its claims.
    """
    _check_seeds(registry)
    for claim in registry.claims:
        where = f"claim {claim.id!r}: "
        for experiment, arm in claim.arms():
            check_known(experiment, arms, f"{where}experiment")
            check_known(arm, arms[experiment], f"{where}arm of {experiment}")
            check_known(claim.metric, metrics.get(experiment, ()), f"{where}metric of {experiment}")
            tried = grids.get((experiment, arm), 0)
            if claim.tuned and tried < 3:
                grid = f"arm {arm!r} of {experiment} tries {tried} learning rates"
                raise ClaimError(f"{where}{grid}; a tuned claim needs at least 3 (or tuned: false)")


def _check_seeds(registry: Registry) -> None:
    """Raise ClaimError if even differences of one sign on every seed, p = 2^-seeds, leave Holm's p above alpha."""
    tests, seeds, alpha = registry.tests, registry.seeds, registry.alpha
    if tests * 2.0**-seeds < alpha:
        return
    enough = next(n for n in count(seeds) if tests * 2.0**-n < alpha)
    smallest = f"the smallest p after Holm, {tests} x 2^-{seeds} = {tests * 2.0**-seeds:.4g}, is not below alpha"
    remedy = f"no claim could ever be contradicted; declare at least {enough} seeds"
    raise ClaimError(f"family: {tests} tests are too many for {seeds} seeds: {smallest} = {alpha:g}, {remedy}")


def check_known(name: Any, known: Iterable[str], what: str) -> None:
    """Raise ClaimError, with the nearest and all valid names, unless `name` is known."""
    valid = sorted(known)
    if name in valid:
        return
    near = difflib.get_close_matches(str(name), valid, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ClaimError(f"{what} {name!r} is unknown; {hint}valid: {', '.join(valid) or 'none'}")


def _factor(weight: float) -> str:
    return f"{'-' if weight < 0 else '+'} " + ("" if abs(weight) == 1 else f"{abs(weight):g} ")
