"""Claims and their verdicts: what configs/claims.yaml declares before the runs is judged from their records.

    load_claims(path) -> Registry        the declared claims; every mistake in the file is one line
    check_against(registry, ...)         ... and every arm, metric and learning-rate grid they rely on exists
    judge(registry, rows) -> [Verdict]   a pure function: the same rows give the same verdicts anywhere

A row is one run: its plan (experiment, arm, role, seed, learning rate) and its result (status, metrics).

How a claim is decided
    difference   d_s = sum of weight x metric over the arms, one number per seed. The exact sign-flip test is
                 taken in the claimed direction, in the opposite one and, twice one-sided, for |d| < margin.
                 supported, contradicted: the test is significant and the estimate reaches the margin there.
    equivalence  supported: |d| < margin is shown. contradicted: a difference is, and |estimate| >= margin.
    bound        an exact claim: every seed of every arm keeps the bound, or it is contradicted. No p.

Why one-sided: ten seeds allow no two-sided p below 2/1024, which Holm's correction over more than 25 claims
could never pass. A claim states its direction before the runs; the opposite is tested with the same rigour.
Why Holm per verdict: among all claims called supported the chance of any false one is at most alpha, likewise
for contradicted and for equivalent. The family is every tested claim of the file: one without runs counts
with p = 1, so judging a selection, or half a sweep, never makes a test easier.
"""

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from experiments.stats import holm, paired_interval, seeds_needed, sign_flip_p, sign_test_p, tost_p

Row = Mapping[str, Any]
Runs = Mapping[tuple[str, str, str], list[Row]]

KINDS = ("difference", "equivalence", "bound")
SUPPORTED, CONTRADICTED, EQUIVALENT = "supported", "contradicted", "equivalent"
INCONCLUSIVE, INCOMPLETE = "inconclusive", "incomplete"
VERDICTS = (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE, INCOMPLETE)


class ClaimError(ValueError):
    """A mistake in a claim, or in the runs offered as its evidence, told in one line."""


# ---------------------------------------------------------------------------------------------- declaration


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

    def select(self, ids: Iterable[str]) -> "Registry":
        """Only these claims, in the order of the file; the family stays whole: no test gets easier."""
        wanted = list(ids)
        for name in wanted:
            _known(name, [claim.id for claim in self.family], "claim")
        chosen = tuple(claim for claim in self.family if claim.id in wanted)
        return replace(self, claims=chosen, declared=self.family)


def load_claims(path: str | Path) -> Registry:
    """Read and check the declared claims. Raises ClaimError: one line with claim, key, value and choices."""
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    top = _Entry(document, str(path))
    family = _Entry(top.take("family"), f"{path}: family")
    alpha, seeds = family.number("alpha"), family.number("seeds")
    family.check(0 < alpha < 1, "alpha", "a probability above 0 and below 1")
    family.check(seeds >= 1 and seeds == int(seeds), "seeds", "a whole number of at least 1")
    family.finish()
    entries = top.take("claims")
    top.check(isinstance(entries, list) and bool(entries), "claims", "a list of claims")
    top.finish()
    claims = tuple(_parse(entry, place) for place, entry in enumerate(entries, start=1))
    twice = [name for name, count in Counter(claim.id for claim in claims).items() if count > 1]
    if twice:
        raise ClaimError(f"claim {twice[0]!r}: the id is used more than once")
    return Registry(alpha, int(seeds), claims)


def check_against(
    registry: Registry,
    arms: Mapping[str, Iterable[str]],
    metrics: Mapping[str, Iterable[str]],
    grids: Mapping[tuple[str, str], int],
) -> None:
    """Raise ClaimError for a claim about an unknown experiment, arm or metric, or a tuned arm without a grid.

    `grids` is the number of learning rates tried per (experiment, arm), 0 or no entry for none: fewer than
    three have no interior, so the best would always lie on an edge.
    """
    for claim in registry.claims:
        where = f"claim {claim.id!r}: "
        for experiment, arm in claim.arms():
            _known(experiment, arms, f"{where}experiment")
            _known(arm, arms[experiment], f"{where}arm of {experiment}")
            _known(claim.metric, metrics.get(experiment, ()), f"{where}metric of {experiment}")
            tried = grids.get((experiment, arm), 0)
            if claim.tuned and tried < 3:
                grid = f"arm {arm!r} of {experiment} tries {tried} learning rates"
                raise ClaimError(f"{where}{grid}; a tuned claim needs at least 3 (or tuned: false)")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times faster, where it was built
_MISSING: Any = object()


class _Entry:
    """One mapping of the file, read key by key; what nobody asked for is an unknown key."""

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, dict):
            raise ClaimError(f"{name}: expected keys and values, got {values!r}")
        self.values, self.name, self.asked = values, name, list[str]()

    def check(self, good: bool, key: str, choices: str) -> None:
        if not good:
            raise ClaimError(f"{self.name}: {key}: {self.values[key]!r} is not {choices}")

    def take(self, key: str, default: Any = _MISSING) -> Any:
        self.asked.append(key)
        value = self.values.get(key, default)
        if value is _MISSING:
            raise ClaimError(f"{self.name}: key {key!r} is missing")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not (value.strip() or value == default):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not a text")
        return " ".join(value.split())

    def number(self, key: str, default: Any = _MISSING) -> float:
        return self.as_number(key, self.take(key, default))

    def as_number(self, key: str, value: Any) -> float:
        try:  # YAML 1.1 reads 1e-9 as a string
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not a finite number")
        return number

    def choice(self, key: str, choices: Sequence[str], default: Any = _MISSING) -> str:
        value = self.take(key, default)
        if value not in choices:
            raise ClaimError(f"{self.name}: {key}: {value!r} is not one of {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not one of true, false")
        return value

    def finish(self) -> None:
        unknown = [key for key in self.values if key not in self.asked]
        if unknown:
            _known(unknown[0], self.asked, f"{self.name}: key")


def _parse(values: Any, place: int) -> Claim:
    entry = _Entry(values, f"claim number {place}")
    name = entry.text("id")
    entry.check(bool(re.fullmatch(r"[A-Za-z0-9.-]+", name)), "id", "made of letters, digits, '.' and '-'")
    entry.name = f"claim {name!r}"
    kind = entry.choice("kind", KINDS)
    decision = _bound(entry) if kind == "bound" else _contrast(entry, kind)
    claim = Claim(
        id=name,
        kind=kind,
        source=entry.text("source"),
        statement=entry.text("statement"),
        experiment=entry.text("experiment"),
        metric=entry.text("metric"),
        expected=entry.text("expected"),
        deviations=entry.text("deviations"),
        would_change=entry.text("would_change", ""),
        better=entry.choice("better", ("less", "greater"), "less"),
        tuned=entry.flag("tuned", default=kind != "bound"),
        **decision,
    )
    entry.finish()
    return claim


def _contrast(entry: _Entry, kind: str) -> dict[str, Any]:
    contrast = entry.take("contrast")
    several = isinstance(contrast, dict) and len(contrast) > 1
    entry.check(several, "contrast", "a weight for each of two or more arms")
    labels = tuple(_labels(entry, "contrast", contrast))
    weights = tuple(entry.as_number(f"contrast: {label}", weight) for label, weight in contrast.items())
    balanced = 0 not in weights and abs(math.fsum(weights)) < 1e-9
    entry.check(balanced, "contrast", "a set of weights other than 0 that sum to 0")
    margin = entry.number("margin") if kind == "equivalence" else entry.number("margin", 0.0)
    if margin < 0 or (kind == "equivalence" and margin == 0):
        least = "above" if kind == "equivalence" else "at least"
        raise ClaimError(f"{entry.name}: margin: {margin:g} is not {least} 0")
    return {
        "labels": labels,
        "weights": weights,
        "margin": margin,
        "direction": entry.choice("direction", ("less", "greater")) if kind == "difference" else "",
        "scale": entry.choice("scale", ("raw", "log"), "raw"),
        "summary": entry.choice("summary", ("mean", "median"), "mean"),
    }


def _bound(entry: _Entry) -> dict[str, Any]:
    arms = entry.take("arms")
    entry.check(isinstance(arms, list) and bool(arms), "arms", "a list of arms")
    given = [key for key in ("at_most", "at_least") if entry.take(key, None) is not None]
    if len(given) != 1:
        raise ClaimError(f"{entry.name}: a bound needs exactly one of at_most, at_least; it has {len(given)}")
    return {"labels": tuple(_labels(entry, "arms", arms)), given[0]: entry.number(given[0])}


def _labels(entry: _Entry, key: str, labels: Iterable[Any]) -> list[str]:
    names = list(labels)
    good = all(isinstance(name, str) and re.fullmatch(r"[^/\s]+(/[^/\s]+)?", name) for name in names)
    good = good and len(set(names)) == len(names)
    entry.check(good, key, "made of different arms, each written `arm` or `experiment/arm`")
    return names


def _known(name: Any, known: Iterable[str], what: str) -> None:
    """Raise ClaimError, with the nearest and all valid names, unless `name` is known."""
    valid = sorted(known)
    if name in valid:
        return
    near = difflib.get_close_matches(str(name), valid, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ClaimError(f"{what} {name!r} is unknown; {hint}valid: {', '.join(valid) or 'none'}")


def _factor(weight: float) -> str:
    return f"{'-' if weight < 0 else '+'} " + ("" if abs(weight) == 1 else f"{abs(weight):g} ")


# -------------------------------------------------------------------------------------------------- evidence


def group_runs(rows: Iterable[Row]) -> Runs:
    """Rows by (experiment, arm, role), each in order of learning rate and seed."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["experiment"], row["arm"], row["role"]].append(row)
    for group in groups.values():
        group.sort(key=lambda row: (row["learning_rate"] or 0.0, row["seed"]))
    return groups


def best_learning_rate(rows_of_arm: Iterable[Row]) -> tuple[float, bool]:
    """The tuned learning rate of one arm, and whether it is the first or last of those tried.

    Best is the lowest mean over the tuning seeds of the final *validation* loss; a diverged or non-finite run
    counts as infinity, a tie goes to the smaller rate. Beyond an optimum on the edge may lie a better one, so
    comparing arms at it settles nothing. Raises ValueError without tuning runs.
    """
    tried = tuning_losses(rows_of_arm)
    if not tried:
        raise ValueError("no tuning runs: nothing to choose a learning rate from")
    rates = sorted(tried)
    best = min(rates, key=lambda rate: (float(np.mean(list(tried[rate].values()))), rate))
    return best, best in (rates[0], rates[-1])


def tuning_losses(rows_of_arm: Iterable[Row]) -> dict[float, dict[int, float]]:
    """The final validation loss of each tuning run: learning rate -> seed -> loss, infinite if not finite.

    Rows without a role are taken as tuning runs, those without a seed as runs of different seeds.
    """
    losses: dict[float, dict[int, float]] = defaultdict(dict)
    for place, row in enumerate(rows_of_arm):
        if row.get("role", "tune") == "tune":
            loss = _or_worst(row, "validation_loss", math.inf)
            losses[float(row["learning_rate"])][row.get("seed", place)] = loss
    return losses


def metric_value(row: Row, claim: Claim) -> float:
    """The claim's metric of one run; of a diverged or non-finite one the worst there is, +-infinity."""
    known = {**row["timing"], **row["final"]}
    if claim.metric not in known and row["status"] != "diverged":
        _known(claim.metric, known, f"claim {claim.id!r}: metric of run {row['run']}")
    return _or_worst(row, claim.metric, math.inf if claim.better == "less" else -math.inf)


@dataclass(frozen=True)
class Evidence:
    """The runs behind one claim; `missing` and `doubt` say why they cannot decide it, empty if they can."""

    claim: Claim
    runs: dict[str, list[Row]]  # evaluation runs by label, in order of seed
    seeds: tuple[int, ...]  # those every arm has
    values: dict[str, NDArray[np.float64]]  # metric by label, one per run
    differences: NDArray[np.float64]  # one per seed; NaN is a tie of two diverged runs
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


def _or_worst(row: Row, metric: str, worst: float) -> float:
    value = row["final"].get(metric, row.get("timing", {}).get(metric))
    failed = row.get("status") == "diverged" or value is None or not math.isfinite(value)
    return worst if failed else float(value)


def _differences(claim: Claim, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
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


# -------------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Verdict:
    """What the evidence says about one claim; effect, interval and margin in the metric's unit (or its log).

    `p` belongs to the decision: the test of the verdict reached, or of the claim as stated where none was.
    """

    id: str
    source: str
    statement: str
    kind: str
    experiment: str
    metric: str
    verdict: str
    reason: str
    margin: float
    scale: str  # of the runs: smoke, laptop, paper
    synthetic: bool
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    arms: dict[str, dict[str, Any]]
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    ratio: float | None = None  # exp(estimate), where the contrast is of logarithms
    p: float | None = None
    p_holm: float | None = None
    differences: tuple[float | None, ...] = ()
    seeds_needed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: nothing non-finite, nine digits (the rest differs between processors)."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True)
class _Tails:
    """The p-values that could lead to each verdict; unadjusted from `_tails`, adjusted from `_adjust`."""

    supported: tuple[float, ...] = ()
    contradicted: tuple[float, ...] = ()
    equivalent: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Outcome:
    verdict: str
    reason: str
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
    family = [gather(claim, runs, seeds or registry.seeds) for claim in registry.family]
    tails = [_tails(evidence) for evidence in family]
    adjusted = _adjust(tails)
    chosen = {claim.id for claim in registry.claims}
    strictest = registry.alpha / max(1, sum(len(tail.supported) for tail in tails))
    return [
        _verdict(evidence, _decide(evidence, raw, corrected, registry.alpha, strictest), scales)
        for evidence, raw, corrected in zip(family, tails, adjusted, strict=True)
        if evidence.claim.id in chosen
    ]


def _tails(evidence: Evidence) -> _Tails:
    claim, d = evidence.claim, evidence.differences
    if claim.kind == "bound":
        return _Tails()
    if evidence.missing:
        below = above = inside = 1.0
    elif evidence.finite:
        below, above = sign_flip_p(d, "less"), sign_flip_p(d, "greater")
        inside = tost_p(d, claim.margin) if claim.margin > 0 else 1.0
    else:
        below, above, inside = sign_test_p(d, "less"), sign_test_p(d, "greater"), 1.0
    if claim.kind == "equivalence":
        return _Tails(supported=(inside,), contradicted=(below, above))
    ahead, behind = (below, above) if claim.direction == "less" else (above, below)
    return _Tails((ahead,), (behind,), (inside,) if claim.margin > 0 else ())


def _adjust(tails: Sequence[_Tails]) -> list[_Tails]:
    """Holm over the whole family, once for each verdict."""

    def column(verdict: str) -> list[tuple[float, ...]]:
        groups = [getattr(tail, verdict) for tail in tails]
        corrected = iter(holm([p for group in groups for p in group]))
        return [tuple(next(corrected) for _ in group) for group in groups]

    return [_Tails(*row) for row in zip(*map(column, (SUPPORTED, CONTRADICTED, EQUIVALENT)), strict=True)]


def _decide(evidence: Evidence, raw: _Tails, adjusted: _Tails, alpha: float, strictest: float) -> _Outcome:
    if evidence.missing:
        return _Outcome(INCOMPLETE, _sentence(evidence.missing))
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
    if outcome == INCONCLUSIVE and evidence.claim.kind == "difference" and evidence.finite:
        details["seeds_needed"] = seeds_needed(evidence.differences, strictest)
    reason = _reason(evidence, outcome, details, p, p_holm, alpha)
    return _Outcome(outcome, reason, p, p_holm, details)


def _reaches(claim: Claim, verdict: str, estimate: float) -> bool:
    """Whether the estimate is large enough, on the right side, for the verdict whose test was significant."""
    if verdict == EQUIVALENT or (claim.kind == "equivalence" and verdict == SUPPORTED):
        return True
    if claim.kind == "equivalence":
        return abs(estimate) >= claim.margin
    ahead = -estimate if claim.direction == "less" else estimate
    return (ahead if verdict == SUPPORTED else -ahead) >= claim.margin


def _decide_bound(evidence: Evidence) -> _Outcome:
    claim, values = evidence.claim, np.concatenate(list(evidence.values.values()))
    worst = float(values.max() if claim.at_most is not None else values.min())
    broken = values > claim.limit() if claim.at_most is not None else values < claim.limit()
    details = {"estimate": worst, "interval": (float(values.min()), float(values.max()))}
    counted = f"{values.size - int(broken.sum())} of {values.size} runs keep {claim.metric} {claim.bound_text()}"
    verdict = INCONCLUSIVE if evidence.doubt else CONTRADICTED if broken.any() else SUPPORTED
    return _Outcome(verdict, _sentence(f"{counted}; the worst is {number(worst)}. {evidence.doubt}"), details=details)


def _size(evidence: Evidence, estimate: float) -> dict[str, Any]:
    d = evidence.differences
    return {
        "estimate": estimate,
        "interval": paired_interval(d) if evidence.finite else None,
        "ratio": math.exp(min(estimate, 700.0)) if evidence.claim.scale == "log" and math.isfinite(estimate) else None,
        "differences": tuple(float(value) for value in d),
    }


_FROM_CLAIM = ("id", "source", "statement", "kind", "experiment", "metric", "margin")


def _verdict(evidence: Evidence, outcome: _Outcome, scales: Sequence[str]) -> Verdict:
    claim = evidence.claim
    runs = [row for label in claim.labels for row in evidence.runs[label]]
    return Verdict(
        **{key: getattr(claim, key) for key in _FROM_CLAIM},
        verdict=outcome.verdict,
        reason=outcome.reason,
        p=outcome.p,
        p_holm=outcome.p_holm,
        scale=scales[0] if scales else "",
        synthetic=any(row["synthetic"] for row in runs),
        seeds=evidence.seeds,
        runs=tuple(sorted(row["run"] for row in runs)),
        arms={label: _describe(evidence.runs[label], evidence.values[label]) for label in claim.labels},
        **outcome.details,
    )


def _describe(rows: Sequence[Row], values: NDArray[np.float64]) -> dict[str, Any]:
    rates = {row["learning_rate"] for row in rows}
    finite = bool(values.size) and bool(np.isfinite(values).all())
    return {
        "mean": float(values.mean()) if finite else None,
        "sd": float(values.std(ddof=1)) if finite and values.size > 1 else None,
        "median": float(np.median(values)) if values.size else None,
        "diverged": sum(row["status"] == "diverged" for row in rows),
        "undefined": sum(row["status"] == "undefined" for row in rows),
        "learning_rate": rates.pop() if len(rates) == 1 else None,
    }


# -------------------------------------------------------------------------------------------------- sentences


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: `digits` significant, plain from 0.001 to 100000, else 1.2e-5; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def tidy(value: float | None) -> str:
    """A declared number as it was written: 0.02, 1e-9."""
    return "-" if value is None else re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), f"{value:g}")


def span(interval: Sequence[float | None] | None) -> str:
    """An interval for people, empty where there is none."""
    finite = interval is not None and all(end is not None and not math.isnan(end) for end in interval)
    return f" [{number(interval[0])}, {number(interval[1])}]" if interval is not None and finite else ""


def _reason(e: Evidence, verdict: str, details: Mapping[str, Any], p: float, p_holm: float, alpha: float) -> str:
    """One or two sentences: the effect, the test, and what kept it from deciding."""
    claim, estimate = e.claim, float(details["estimate"])
    effect = f"{claim.subject()} = {number(estimate)}{span(details['interval'])} {claim.metric}"
    ratio = f" (a factor of {number(details['ratio'])})" if details["ratio"] is not None else ""
    test = f"{_test_name(e, verdict)} p = {number(p, 2)}, {number(p_holm, 2)} after Holm"
    return _sentence(f"{effect}{ratio}{_diverged(e)}; {test}{_remark(e, verdict, details, p_holm, alpha)}")


def _test_name(e: Evidence, verdict: str) -> str:
    if verdict == EQUIVALENT or (e.claim.kind == "equivalence" and verdict != CONTRADICTED):
        return f"equivalence within {tidy(e.claim.margin)}:"
    return "sign-flip" if e.finite else "sign test"


def _diverged(e: Evidence) -> str:
    if e.finite:
        return ""
    failed = {label: int((~np.isfinite(values)).sum()) for label, values in e.values.items()}
    counts = " and ".join(f"{label} in {count}" for label, count in failed.items() if count)
    return f", with no finite value for {counts} of {len(e.seeds)} runs, so only signs count"


def _remark(e: Evidence, verdict: str, details: Mapping[str, Any], p_holm: float, alpha: float) -> str:
    margin, estimate = e.claim.margin, abs(float(details["estimate"]))
    if verdict == SUPPORTED and e.claim.kind == "difference":
        return f"; the margin of {tidy(margin)} is reached" if margin else ""
    if verdict == CONTRADICTED:
        effect = "a difference" if e.claim.kind == "equivalence" else "an effect in the opposite direction"
        return f"; {effect} of at least the margin of {tidy(margin)}"
    if verdict != INCONCLUSIVE:
        return ""
    if e.doubt:
        return f". {e.doubt}"
    if e.claim.kind == "difference" and p_holm < alpha:
        return f"; a real effect, but smaller than the margin of {tidy(margin)}, and not shown to be equivalent"
    if e.claim.kind == "equivalence" or estimate < margin:
        return f"; neither an effect of {tidy(margin)} nor its absence is shown"
    enough = details.get("seeds_needed")
    more = f", {enough} seeds would find such an effect 4 times in 5" if enough else ""
    return f"; not significant{more}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
