"""Every verdict follows from the rows alone, and is numbers; what is said of it is tested with the reports."""

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from experiments.records.rows import Floats
from experiments.verdicts.claims import Claim, ClaimError, Registry
from experiments.verdicts.stats import seeds_for_difference, seeds_for_equivalence, seeds_for_wins
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.verdicts import judge
from tests.invented import SEEDS, arms, claim, spread, tuning, verdict


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (spread(0.9), "supported"),
        (spread(1.1), "contradicted"),
        (spread(1.0), "equivalent"),
        (spread(0.99, 0.05), "inconclusive"),  # as noisy as the margin
        (spread(0.981, 0.012), "inconclusive"),  # surely below, but is it the margin?
        (spread(0.9)[:9], "incomplete"),
    ],
)
def test_the_five_verdicts(layer: Sequence[float | None], expected: str) -> None:
    result = verdict(arms(layer, [1.0] * SEEDS))
    assert result.verdict == expected
    assert (result.missing is not None) == (expected == "incomplete") and result.doubt is None
    if expected != "incomplete":
        assert result.interval is not None and result.estimate is not None
        assert result.interval[0] < result.estimate < result.interval[1]
        assert result.seeds == tuple(range(SEEDS)) and len(result.runs) == 2 * SEEDS


def test_the_opposite_claim_gets_the_opposite_verdict() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    assert verdict(rows, claim(direction="greater")).verdict == "contradicted"
    assert verdict(rows, claim(weights=(-1.0, 1.0), direction="greater")).verdict == "supported"


def test_significant_but_small_is_not_supported() -> None:
    result = verdict(arms(spread(0.981, 0.012), [1.0] * SEEDS), claim(margin=0.02))
    assert result.p_holm is not None and result.p_holm < 0.05
    assert result.verdict == "inconclusive" and -0.02 < (result.estimate or 0) < 0


def test_a_logged_metric_is_a_ratio() -> None:
    layer = [0.5 * 2**seed for seed in range(SEEDS)]
    none = [1.0 * 2**seed for seed in range(SEEDS)]
    result = verdict(arms(layer, none), claim(scale="log"))
    assert result.verdict == "supported"
    assert result.ratio == pytest.approx(0.5) and result.estimate == pytest.approx(math.log(0.5))
    with pytest.raises(ClaimError, match="cannot take the negative"):
        verdict(arms([-1.0] * SEEDS, none), claim(scale="log"))


def test_a_median_is_what_was_asked_for() -> None:
    layer = [0.9] * 9 + [0.0]
    assert verdict(arms(layer, [1.0] * SEEDS), claim(summary="median")).estimate == pytest.approx(-0.1)
    assert verdict(arms(layer, [1.0] * SEEDS)).estimate == pytest.approx(-0.19)


def test_an_interaction_across_experiments() -> None:
    four = claim(labels=("layer", "none", "other/layer", "other/none"), weights=(1.0, -1.0, -1.0, 1.0))
    rows = arms(spread(0.5), [1.0] * SEEDS) + arms([0.9] * SEEDS, [1.0] * SEEDS, experiment="other")
    result = verdict(rows, four)
    assert result.verdict == "supported" and result.estimate == pytest.approx(-0.4, abs=0.01)


def test_equivalence_is_supported_contradicted_or_open() -> None:
    same = claim(kind="equivalence", direction="")
    assert verdict(arms(spread(1.0), [1.0] * SEEDS), same).verdict == "supported"
    assert verdict(arms(spread(1.1), [1.0] * SEEDS), same).verdict == "contradicted"
    assert verdict(arms(spread(0.9), [1.0] * SEEDS), same).verdict == "contradicted"
    assert verdict(arms(spread(1.0, 0.05), [1.0] * SEEDS), same).verdict == "inconclusive"


def test_an_equality_is_contradicted_by_what_exceeds_its_margin_not_by_an_estimate_beyond_it() -> None:
    same = claim(kind="equivalence", direction="", margin=0.1, refuted={"less": "better", "greater": "worse"})
    noisy = verdict(arms(spread(1.11, 0.05), [1.0] * SEEDS), same)  # surely not 0, but is it more than the margin?
    assert noisy.estimate is not None and noisy.estimate > 0.1 and noisy.verdict == "inconclusive"
    assert noisy.interval is not None and noisy.interval[0] > 0 and noisy.seeds_needed is not None
    worse, better = (verdict(arms(spread(centre), [1.0] * SEEDS), same) for centre in (1.2, 0.8))
    assert (worse.verdict, worse.refuted, better.verdict, better.refuted) == (
        "contradicted",
        "worse",
        "contradicted",
        "better",
    )
    diverged = verdict(arms([None] * SEEDS, [1.0] * SEEDS), same)
    assert diverged.verdict == "contradicted"


def test_a_contrast_may_be_against_a_constant() -> None:
    learns = claim(labels=("layer",), weights=(1.0,), against=4.0, margin=0.0)
    assert learns.subject() == "layer - 4 nats" and claim(against=-0.05).subject() == "layer - none - (-0.05 nats)"
    rows = arms([3.9] * (SEEDS - 1) + [3.99], [1.0] * SEEDS)
    assert verdict(rows, learns).verdict == "supported"
    result = verdict(arms([3.5] * (SEEDS - 1) + [4.001], [1.0] * SEEDS), learns)  # one run of ten decides nothing
    assert result.verdict == "supported" and result.estimate == pytest.approx(-0.4499)
    ratio = claim(labels=("layer",), weights=(1.0,), against=2.0, scale="log", margin=0.0)
    assert ratio.subject() == "log(layer / 2)"
    assert verdict(arms([1.0] * SEEDS, [1.0] * SEEDS), ratio).ratio == pytest.approx(0.5)
    no_worse = claim(against=0.05, margin=0.0)  # than none, by so much
    assert verdict(arms(spread(1.03), [1.0] * SEEDS), no_worse).verdict == "supported"
    assert verdict(arms(spread(1.07), [1.0] * SEEDS), no_worse).verdict == "contradicted"


def curve(*points: tuple[int, float | None]) -> list[dict[str, float | None]]:
    return [{"update": update, "validation_loss": loss} for update, loss in points]


def test_a_target_is_reached_between_two_evaluations_or_never() -> None:
    sooner = claim(metric="validation_loss", target=1.0, scale="log", margin=0.1)
    rows = arms([0.0] * SEEDS, [0.0] * SEEDS)
    for one in rows:
        one["history"] = curve((10, 2.0), (20, 1.5 if one["arm"] == "none" else 0.5), (30, 0.5))
    result = verdict(rows, sooner)
    assert result.verdict == "supported" and result.ratio == pytest.approx((10 + 10 * 2 / 3) / 25)
    rows[-1]["history"] = curve((10, 2.0), (20, 1.5), (30, None))  # never: only signs count
    assert (verdict(rows, sooner).verdict, verdict(rows, sooner).finite) == ("supported", False)


def test_students_p_stands_beside_the_exact_one_and_has_no_floor() -> None:
    result = verdict(arms(spread(0.5), [1.0] * SEEDS))
    assert result.p == 2.0**-SEEDS and result.p_t is not None and result.p_t < 1e-12
    assert (verdict(arms(spread(1.0), [1.0] * SEEDS)).p_t or 1) < 0.05  # of the verdict reached: equivalent
    assert verdict(arms([None] * SEEDS, [1.0] * SEEDS)).p_t is None


def test_additions_cost_the_claims_of_paper_and_notes_nothing() -> None:
    rows = arms([0.9] * 9 + [1.05], [1.0] * SEEDS)
    said, added = (
        tuple(claim(id=f"{who}{k}", experiment="x" if k else "lm", said_by=who, metric="test_loss") for k in range(n))
        for who, n in (("paper", 2), ("suite", 60))
    )
    first = {v.id: v for v in judge(Registry(0.05, SEEDS, said + added), rows)}
    assert first["paper0"].verdict == "supported" and first["suite0"].verdict == "inconclusive"
    assert first["paper0"].p_holm == pytest.approx(2 * first["paper0"].p)  # type: ignore[operator]


@pytest.mark.parametrize("spread", [0.2, 0.5, 0.8])
def test_a_true_equality_near_its_margin_is_seldom_called_contradicted(spread: float) -> None:
    registry, random = Registry(0.05, SEEDS, FAMILY[-3:]), np.random.default_rng(5)
    false = 0
    for _ in range(300):
        drawn = random.normal(0.95, spread, (3, SEEDS)).tolist()
        pairs = zip(registry.claims, drawn, strict=True)
        rows = [one for c, d in pairs for one in arms(d, [0.0] * SEEDS, experiment=c.experiment)]
        false += any(found.verdict == "contradicted" for found in judge(registry, rows))
    assert false / 300 < LIMIT


def test_a_bound_is_kept_by_every_run() -> None:
    exact = claim(kind="bound", weights=(), direction="", at_most=1e-9)
    rows = arms([0.0] * SEEDS, [1e-12] * SEEDS)
    kept = verdict(rows, exact)
    assert (kept.verdict, kept.estimate, kept.interval, kept.p) == ("supported", 1e-12, (0.0, 1e-12), None)
    rows[3]["final"]["test_loss"] = 1e-6
    broken = verdict(rows, exact)
    assert (kept.kept, broken.verdict, broken.kept) == (20, "contradicted", 19)
    assert verdict(rows, claim(kind="bound", weights=(), at_least=0.0)).verdict == "supported"
    rows[3]["status"] = "diverged"
    assert verdict(rows, exact).estimate == math.inf


def test_diverged_runs_count_by_sign() -> None:
    rows = arms(spread(0.5), [None] * 7 + [1.0] * 3)
    for one in rows[SEEDS : SEEDS + 7]:
        one["status"] = "diverged"
    result = verdict(rows)
    assert (result.verdict, result.p) == ("supported", 2**-10)
    assert result.interval is None and result.as_dict()["estimate"] is None
    assert not result.finite and result.arms["none"]["diverged"] == result.arms["none"]["not_finite"] == 7


def test_where_both_diverge_there_is_a_tie() -> None:
    rows = arms([None] * 8 + [0.5] * 2, [None] * 8 + [1.0] * 2)
    result = verdict(rows)
    assert (result.verdict, result.p, result.estimate) == ("inconclusive", 0.25, 0.0)


def test_a_diverged_run_is_the_worst_whichever_way_is_better() -> None:
    accuracy = claim(better="greater", direction="greater")
    rows = arms([0.9] * SEEDS, [0.99] * SEEDS)
    for one in rows[SEEDS:]:
        one["status"] = "diverged"
    assert verdict(rows, accuracy).verdict == "supported"
    assert verdict(rows, replace(accuracy, scale="log")).verdict == "supported"


def test_fewer_seeds_can_be_asked_for_in_trials() -> None:
    result = judge(Registry(0.05, SEEDS, (claim(),)), arms([0.9] * 2, [1.0] * 2), seeds=2)[0]
    assert (result.verdict, result.p) == ("inconclusive", 0.25)


def test_holm_counts_the_whole_declared_family() -> None:
    rows = arms([0.9] * 9 + [1.05], [1.0] * SEEDS)  # p = 2/1024: passes alone and among 25, not among 30
    family = tuple(claim(id=f"c{i}", experiment="lm" if i == 0 else "absent") for i in range(30))
    registry = Registry(0.05, SEEDS, family)
    assert judge(Registry(0.05, SEEDS, family[:1]), rows)[0].verdict == "supported"
    whole, alone = judge(registry, rows)[0], judge(registry.select(["c0"]), rows)
    assert whole.p_holm == pytest.approx(30 * whole.p) and whole.verdict == "inconclusive"  # type: ignore[operator]
    assert alone == [whole]
    assert whole.seeds_needed is not None


def test_an_equivalence_can_be_contradicted_in_a_large_family() -> None:
    family = (
        claim(kind="equivalence", direction=""),
        *tuple(claim(id=f"c{i}", experiment="x") for i in range(44)),
    )
    assert judge(Registry(0.05, SEEDS, family), arms(spread(1.1), [1.0] * SEEDS))[0].verdict == "contradicted"


def test_verdicts_do_not_depend_on_the_order_of_rows() -> None:
    rows = arms(spread(0.97, 0.02), spread(1.0, 0.03))
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    assert verdict(shuffled) == verdict(rows)


def test_a_verdict_comes_back_from_its_json() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    diverged = verdict(arms([None] * SEEDS, [1.0] * SEEDS))
    for one in (verdict(rows), verdict(rows[:3]), verdict(rows, claim(scale="log")), diverged):
        plain = json.loads(json.dumps(one.as_dict(), allow_nan=False))
        assert Verdict.from_dict(plain).as_dict() == one.as_dict()
    one_seed = judge(Registry(0.05, 1, (claim(scale="log"),)), arms([0.9], [1.0]))[0]
    assert one_seed.as_dict()["interval"] == [None, None]  # no spread is known
    back = Verdict.from_dict(one_seed.as_dict())
    assert (back.interval, back.ratio) == (None, one_seed.as_dict()["ratio"])


@pytest.mark.parametrize("change", [{"verdict": "likely"}, {"more": 1}])
def test_what_is_no_verdict_is_refused(change: dict[str, object]) -> None:
    plain = verdict(arms(spread(0.9), [1.0] * SEEDS)).as_dict()
    with pytest.raises(ValueError, match="not a verdict"):
        Verdict.from_dict(plain | change)
    with pytest.raises(ValueError, match="not a verdict"):
        Verdict.from_dict({key: value for key, value in plain.items() if key != "p"})


FAMILY = (
    *(claim(id=f"d{k}", experiment=f"d{k}", margin=0.0) for k in range(5)),
    *(claim(id=f"m{k}", experiment=f"m{k}", margin=1.0) for k in range(4)),
    *(claim(id=f"e{k}", experiment=f"e{k}", kind="equivalence", direction="", margin=1.0) for k in range(3)),
)
LIMIT = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)  # three standard errors


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 5.0), (1.0, 0.2)])  # no effect; on the margin, opposite to the claims
def test_a_family_errs_at_most_at_its_level(mean: float, sd: float) -> None:
    registry, random = Registry(0.05, SEEDS, FAMILY), np.random.default_rng(11)
    false = {"contradicted", "supported"} if mean == 0 else {"supported", "equivalent"}
    errors: Counter[str] = Counter()
    for _ in range(300):
        drawn = random.normal(mean, sd, (len(FAMILY), SEEDS)).tolist()
        pairs = zip(FAMILY, drawn, strict=True)
        rows = [one for c, d in pairs for one in arms(d, [0.0] * SEEDS, experiment=c.experiment)]
        errors.update({v.verdict for v in judge(registry, rows)} & false)
    assert all(count / 300 < LIMIT for count in errors.values())
    assert mean or errors["supported"] > 0  # the tests have the power to err


def test_two_tuning_runs_of_one_seed_are_refused() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS) + tuning("layer", {0.01: 1.0}) + tuning("layer", {0.01: 2.0})
    with pytest.raises(ClaimError, match=r"lm: arm 'layer' has two tuning runs of seed 1000 at learning rate 0\.01"):
        verdict(rows)


@pytest.mark.parametrize("noisy", [claim(), claim(kind="equivalence", direction="")])
def test_more_seeds_are_for_what_the_runs_at_hand_suggest(noisy: Claim) -> None:
    alpha = 0.05 / Registry(0.05, SEEDS, (noisy,)).tests("said")
    below, beyond = (verdict(arms(spread(*at), [1.0] * SEEDS), noisy) for at in ((0.995, 0.05), (0.95, 0.2)))
    assert below.verdict == beyond.verdict == "inconclusive"
    assert below.seeds_needed == seeds_for_equivalence(differences(below), 0.02, alpha)
    shown = differences(beyond), 0.02  # a difference, or for what claims equality, one that exceeds the margin
    if noisy.kind == "equivalence":
        shown = differences(beyond) + 0.02, 0.0
    assert beyond.seeds_needed == seeds_for_difference(*shown, alpha)


def differences(verdict: Verdict) -> Floats:
    return np.array(verdict.differences, dtype=float)


def test_where_runs_diverged_wins_are_counted() -> None:
    result = verdict(arms([0.5] * 8 + [None] * 2, [None] * 8 + [0.5] * 2))
    assert (result.verdict, result.estimate) == ("inconclusive", -math.inf)
    assert result.seeds_needed == seeds_for_wins(differences(result)) and (result.seeds_needed or 0) > SEEDS


def test_no_number_of_seeds_settles_what_seeds_cannot() -> None:
    assert verdict(arms([None] * 8 + [0.5] * 2, [None] * 8 + [1.0] * 2)).seeds_needed is None
    rows = arms(spread(0.9), [1.0] * SEEDS) + tuning("layer", {0.001: 2.0, 0.003: 1.5, 0.01: 1.0})
    edge = verdict(rows + tuning("none", {0.003: 2.0, 0.01: 1.0, 0.03: 2.0}), claim(tuned=True))
    assert edge.seeds_needed is None and edge.doubt is not None


def test_those_at_hand_are_never_said_to_be_enough() -> None:
    for drawn in np.random.default_rng(12).standard_t(2, (50, SEEDS)) - 0.7:
        result = verdict(arms(drawn.tolist(), [0.0] * SEEDS), claim(margin=0.5))
        assert result.seeds_needed is None or (result.verdict, result.seeds_needed > SEEDS) == ("inconclusive", True)
