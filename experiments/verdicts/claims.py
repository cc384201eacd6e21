"""What a claim is: one falsifiable statement and, declared before the runs, everything that decides it.

    load_claims(path) -> Registry        claims_file reads configs/claims/ into these classes
    check_against(registry, ...)         every arm, metric and learning-rate grid the claims rely on exists
    judge(registry, rows) -> [Verdict]   verdicts decides them; there each kind's test is described

Every mistake in a declaration is a ClaimError of one line.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import count
from string import ascii_lowercase
from typing import Any, TypeVar

from experiments.records.files import SuiteError
from experiments.records.nearest import did_you_mean, nearest
from experiments.verdicts.units import declared
from experiments.verdicts.wording import tidy

# Who says what a claim tests, and the families of tests whose errors are controlled together. What holds by
# construction is no matter of chance and has no test.
PAPER, NOTE, LITERATURE, SUITE, OWN = SAID_BY = ("paper", "note", "literature", "suite", "own")  # own: the user
IDENTITIES, SAID, ADDED = FAMILIES = ("identities", "said", "added")
T = TypeVar("T")
MANY = 50  # valid names, of which an error lists the nearest alone


class ClaimError(SuiteError):
    """A mistake in a claim, or in the runs offered as its evidence, told in one line."""


@dataclass(frozen=True)
class Claim:
    """One falsifiable statement and, fixed before the runs, everything that decides it."""

    id: str
    source: str  # where it is said: the first of `says`, else who said it
    statement: str
    experiment: str
    kind: str
    metric: str
    labels: tuple[str, ...]  # the arms as written: `arm` of the experiment, or `other_experiment/arm`
    weights: tuple[float, ...] = ()  # one per label, none for a bound; their sum is 0 unless `against` a constant
    direction: str = ""  # difference only: the claimed sign of the contrast
    against: float | None = None  # the constant that the contrast is compared with, in the metric's unit
    target: float | None = (
        None  # then the metric is a curve's, and asked is after how many updates it came down to this
    )
    margin: float = 0.0  # smallest effect that counts, in the metric's unit (log unit for scale: log)
    scale: str = "raw"
    summary: str = "mean"
    better: str = "less"  # which way the metric improves: decides what a diverged run counts as
    tuned: bool = True
    at_most: float | None = None
    at_least: float | None = None
    said_by: str = SUITE
    says: tuple[str, ...] = ()  # the sentences of the paper and the notes that it tests
    refuted: Mapping[str, str] = field(default_factory=dict)  # what it would mean, by the side the contrast falls on
    expected: str = ""
    deviations: str = ""
    would_change: str = ""
    asked_at: str = ""  # the one scale that it is asked at; else at all but those that ask some claims alone

    def resolve(self, label: str) -> tuple[str, str]:
        """The (experiment, arm) a label stands for."""
        experiment, _, arm = label.rpartition("/")
        return experiment or self.experiment, arm

    def arms(self) -> list[tuple[str, str]]:
        """Every (experiment, arm) the claim rests on."""
        return [self.resolve(label) for label in self.labels]

    def names(self) -> set[str]:
        """What a pattern may match: its id and its experiments."""
        return {self.id, *(experiment for experiment, _ in self.arms())}

    def sources(self) -> set[str]:
        """Who says it, and where: `paper`, `6.7a` and, as its section, `6.7`."""
        return {self.said_by, *self.says, *(sentence.rstrip(ascii_lowercase) for sentence in self.says)}

    def answers(self, word: str) -> bool:
        """Whether a command means this claim by an id, a source, an experiment, or a pattern such as `B5*`."""
        return word in self.sources() or any(fnmatchcase(name, word) for name in self.names())

    @property
    def family(self) -> str:
        """With which other claims its tests are corrected: additions cost the claims of paper and notes nothing."""
        return IDENTITIES if self.kind == "bound" else SAID if self.said_by in (PAPER, NOTE) else ADDED

    @property
    def tests(self) -> int:
        """How many p-values a verdict may rest on at most: either side contradicts an equivalence."""
        return {"difference": 1, "equivalence": 2}.get(self.kind, 0)

    @property
    def control(self) -> str | None:
        """The arm that is subtracted, where two are compared."""
        return self.labels[self.weights.index(-1)] if sorted(self.weights) == [-1, 1] else None

    def null(self) -> float:
        """The contrast's value where nothing is the case, on its own scale."""
        if self.against is None:
            return 0.0
        return math.log(self.against) if self.scale == "log" else self.against

    def contrast(self) -> tuple[Any, ...]:
        """What it measures, the same for two claims that are one comparison, whichever way round they are written."""
        terms = sorted(zip(self.arms(), self.weights, strict=True))
        sign = -1 if terms and terms[0][1] < 0 else 1
        return (
            tuple((arm, sign * weight) for arm, weight in terms),
            self.metric,
            self.scale,
            self.against,
            self.target,
        )

    def subject(self) -> str:
        """What is estimated, for people: `layer - none`, `log(layer / none)`, `layer - 4`."""
        if self.kind == "bound":
            return ", ".join(self.labels)
        terms = list(zip(self.labels, self.weights, strict=True))
        if self.against is not None:
            constant = declared(self.against, self.metric, self.scale)
            terms.append((constant if self.against >= 0 else f"({constant})", -1))
        terms.sort(key=lambda term: term[1] < 0)
        if [weight for _, weight in terms] == [1, -1]:
            (first, _), (second, _) = terms
            return f"log({first} / {second})" if self.scale == "log" else f"{first} - {second}"
        text = " ".join(f"{_factor(weight)}{label}" for label, weight in terms).removeprefix("+ ")
        return f"log scale: {text}" if self.scale == "log" else text

    def limit(self) -> float:
        """The bound of an exact claim, in the metric's unit."""
        return next(bound for bound in (self.at_most, self.at_least, math.nan) if bound is not None)

    def bound_text(self) -> str:
        return f"{'>=' if self.at_most is None else '<='} {tidy(self.limit())}"


@dataclass(frozen=True)
class Sentence:
    """Something that the paper or a note says, in its own words, where, and why no claim tests it if none does;
    `shows`: the paper's figure or table on it, told in ours."""

    id: str
    said_by: str  # paper, note
    place: str
    words: str
    shows: str = ""
    untested: str = ""


@dataclass(frozen=True)
class Finding:
    """What is told first of some sentences: the number of one claim, and how it is told whatever it is.

    `found` is a text with {effect}, {ratio} or {value}, and {a|b}, of which a is for a negative number; one without a
    claim has {held} and {all}, of the identities.
    """

    topic: str
    sentences: tuple[str, ...]
    found: str
    claim: str = ""
    first: bool = False


@dataclass(frozen=True)
class Registry:
    """The declared claims, the error rate of their families and the evaluation seeds each needs."""

    alpha: float
    seeds: int
    claims: tuple[Claim, ...]
    declared: tuple[Claim, ...] = ()  # all of them when `claims` is a selection
    sentences: tuple[Sentence, ...] = ()
    # The claims that some scales alone ask, beside those that are asked nowhere else.
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: tuple[Claim, ...] = ()  # those that are asked at another scale alone
    findings: tuple[Finding, ...] = ()

    @property
    def family(self) -> tuple[Claim, ...]:
        return self.declared or self.claims

    @property
    def places(self) -> dict[str, str]:
        """Where each sentence stands, by its id."""
        return {sentence.id: sentence.place for sentence in self.sentences}

    def tests(self, family: str) -> int:
        """How many p-values Holm corrects together at most."""
        return sum(claim.tests for claim in self.family if claim.family == family)

    def on(self, sentence: Sentence) -> list[Claim]:
        """Those of all the declared claims that test a sentence."""
        return [claim for claim in self.family if sentence.id in claim.says]

    def behind(self, finding: Finding) -> list[Claim]:
        """The declared claims on its sentences."""
        return [claim for claim in self.family if not set(finding.sentences).isdisjoint(claim.says)]

    def arms(self) -> set[tuple[str, str]]:
        """Every (experiment, arm) that one of the claims rests on."""
        return {arm for claim in self.claims for arm in claim.arms()}

    def experiments(self, known: Collection[str]) -> list[str]:
        """Those that the claims rest on. Raises ClaimError for one that is not known."""
        for claim in self.claims:
            for experiment, _ in claim.arms():
                check_known(experiment, known, f"claim {claim.id!r}: experiment")
        return sorted({experiment for experiment, _ in self.arms()})

    def select(self, words: Iterable[str]) -> "Registry":
        """Only the claims that one of these words means, in the order of the file; the family stays whole: no test
        gets easier."""
        wanted = list(words)
        for word in wanted:
            if not any(claim.answers(word) for claim in self.claims):
                raise self.unknown(word)
        chosen = tuple(claim for claim in self.claims if any(map(claim.answers, wanted)))
        return replace(self, claims=chosen, declared=self.family)

    def unknown(self, word: str) -> ClaimError:
        """That no claim is meant, and the nearest that are."""
        if scale := next((claim.asked_at for claim in self.elsewhere if claim.answers(word)), ""):
            return ClaimError(f"claim {word!r} is asked at scale {scale} alone (make: SCALE={scale})")
        known = sorted({name for claim in self.claims for name in claim.names() | claim.sources()})
        near = difflib.get_close_matches(word, known, n=3, cutoff=0)
        return ClaimError(f"claim {word!r} is unknown; {did_you_mean([*map(repr, near)]).rstrip()}")

    def at(self, scale: str) -> "Registry":
        """The claims that are asked at a scale; those asked elsewhere alone are of another family."""
        here = tuple(claim for claim in self.claims if claim.asked_at in ("", scale))
        other = tuple(claim for claim in self.claims if claim not in here)
        whole = replace(self, claims=here, elsewhere=other)
        if scale not in self.only:
            return whole
        return whole.select([*self.only[scale], *(claim.id for claim in here if claim.asked_at)])

    def covered(self, arms: Mapping[tuple[str, str], T]) -> dict[tuple[str, str], T]:
        """Of all arms those that are run: where some claims alone are asked only theirs, else those of no claim too,
        but not of experiments that are for another scale."""
        claimed = self.arms()
        others = {experiment for claim in self.elsewhere for experiment, _ in claim.arms()}
        return {name: arm for name, arm in arms.items() if name in claimed or not (self.declared or name[0] in others)}


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
    seeds, alpha = registry.seeds, registry.alpha
    tests = max(registry.tests(SAID), registry.tests(ADDED))
    if tests * 2.0**-seeds < alpha:
        return
    enough = next(n for n in count(seeds) if tests * 2.0**-n < alpha)
    smallest = f"the smallest p after Holm, {tests} x 2^-{seeds} = {tests * 2.0**-seeds:.4g}, is not below alpha"
    remedy = f"no claim could ever be contradicted; declare at least {enough} seeds"
    raise ClaimError(f"family: {tests} tests are too many for {seeds} seeds: {smallest} = {alpha:g}, {remedy}")


def check_known(name: Any, known: Iterable[str], what: str) -> None:
    """Raise ClaimError, with the nearest names and, unless these are few of many, all valid ones."""
    valid = sorted(known)
    if name in valid:
        return
    near = nearest(str(name), valid)
    hint = did_you_mean([repr(other) for other in near])
    if not near or len(valid) <= MANY:
        hint += f"valid: {', '.join(valid) or 'none'}"
    raise ClaimError(f"{what} {name!r} is unknown; {hint.rstrip()}")


def _factor(weight: float) -> str:
    return f"{'-' if weight < 0 else '+'} " + ("" if abs(weight) == 1 else f"{abs(weight):g} ")
