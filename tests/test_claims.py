"""The registry's mistakes are told in one line, and every verdict follows from the rows alone."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.claims import (
    Claim,
    ClaimError,
    Registry,
    Verdict,
    best_learning_rate,
    check_against,
    judge,
    load_claims,
    number,
)

SEEDS = 10
ENTRY: dict[str, Any] = {
    "id": "B4-better",
    "source": "B4",
    "statement": "Layer norm helps.",
    "experiment": "lm",
    "kind": "difference",
    "contrast": {"layer": 1, "none": -1},
    "metric": "test_loss",
    "direction": "less",
    "margin": 0.02,
    "expected": "helps",
    "deviations": "small",
}
BOUND = {key: value for key, value in ENTRY.items() if key not in ("contrast", "direction", "margin")} | {
    "kind": "bound",
    "arms": ["layer"],
    "at_most": "1e-9",
}


def load(tmp_path: Path, *entries: dict[str, Any], **family: Any) -> Registry:
    document = {"family": {"alpha": 0.05, "seeds": SEEDS} | family, "claims": list(entries)}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_claims(path)


def claim(**changes: Any) -> Claim:
    plain: dict[str, Any] = {
        "id": "c",
        "source": "B4",
        "statement": "s",
        "experiment": "lm",
        "kind": "difference",
    }
    plain |= {"metric": "test_loss", "labels": ("layer", "none"), "weights": (1.0, -1.0), "direction": "less"}
    return Claim(**(plain | {"margin": 0.02, "tuned": False} | changes))


def row(arm: str, seed: int, value: float | None, **changes: Any) -> dict[str, Any]:
    plain = {"run": f"{arm}-s{seed}", "experiment": "lm", "arm": arm, "role": "evaluate", "seed": seed}
    plain |= {
        "learning_rate": 0.01,
        "status": "completed",
        "scale": "laptop",
        "synthetic": False,
        "tuned": True,
    }
    plain |= {
        "final": {"test_loss": value, "validation_loss": value},
        "history": [],
        "timing": {"cpu_seconds": 1.0},
    }
    return plain | changes


def arms(layer: Sequence[float | None], none: Sequence[float | None], **changes: Any) -> list[dict[str, Any]]:
    pairs = (("layer", layer), ("none", none))
    return [row(arm, seed, value, **changes) for arm, values in pairs for seed, value in enumerate(values)]


def tuning(arm: str, losses: dict[float, float | None], status: str = "completed") -> list[dict[str, Any]]:
    return [
        row(arm, seed, loss, role="tune", learning_rate=rate, status=status, run=f"{arm}-{rate}-{seed}")
        for rate, loss in losses.items()
        for seed in (1000, 1001)
    ]


def verdict(rows: list[dict[str, Any]], *claims: Claim) -> Verdict:
    return judge(Registry(0.05, SEEDS, claims or (claim(),)), rows)[0]


def spread(centre: float, scale: float = 0.005) -> list[float | None]:
    return [centre + scale * math.sin(7 * seed) for seed in range(SEEDS)]


# ---- the registry


def test_a_claim_is_read_whole(tmp_path: Path) -> None:
    registry = load(tmp_path, ENTRY | {"scale": "log", "contrast": {"layer": 1, "mlp/none": -1}}, BOUND | {"id": "x"})
    first, exact = registry.claims
    assert (registry.alpha, registry.seeds) == (0.05, SEEDS)
    assert first.arms() == [("lm", "layer"), ("mlp", "none")]
    assert (first.tuned, first.summary, first.better, first.subject()) == (
        True,
        "mean",
        "less",
        "log(layer / mlp/none)",
    )
    assert (exact.limit(), exact.at_least, exact.tuned) == (1e-9, None, False)  # YAML reads 1e-9 as a string


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margn": 1}, "claim 'B4-better': key 'margn' is unknown; did you mean 'margin'? valid: "),
        ({"kind": "trend"}, "claim 'B4-better': kind: 'trend' is not one of difference, equivalence, bound"),
        ({"direction": "up"}, "claim 'B4-better': direction: 'up' is not one of less, greater"),
        ({"scale": "ln"}, "claim 'B4-better': scale: 'ln' is not one of raw, log"),
        ({"summary": 3}, "claim 'B4-better': summary: 3 is not one of mean, median"),
        ({"margin": "small"}, "claim 'B4-better': margin: 'small' is not a finite number"),
        ({"margin": -1}, "claim 'B4-better': margin: -1 is not at least 0"),
        ({"margin": True}, "claim 'B4-better': margin: True is not a finite number"),
        ({"tuned": "yes"}, "claim 'B4-better': tuned: 'yes' is not one of true, false"),
        ({"contrast": {"layer": 1, "none": -2}}, "weights other than 0 that sum to 0"),
        ({"contrast": {"layer": 1}}, "a weight for each of two or more arms"),
        ({"contrast": {"a/b/c": 1, "none": -1}}, "each written `arm` or `experiment/arm`"),
        ({"id": "a b"}, "is not made of letters, digits, '.' and '-'"),
        ({"statement": ""}, "claim 'B4-better': statement: '' is not a text"),
        ({"kind": "equivalence"}, "claim 'B4-better': key 'direction' is unknown"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaimError) as error:
        load(tmp_path, ENTRY | change)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(ENTRY.keys() - {"margin"}))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ClaimError, match=f"key '{key}' is missing"):
        load(tmp_path, {name: value for name, value in ENTRY.items() if name != key})


def test_other_mistakes_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="exactly one of at_most, at_least; it has 2"):
        load(tmp_path, BOUND | {"at_least": 0})
    with pytest.raises(ClaimError, match="'B4-better': the id is used more than once"):
        load(tmp_path, ENTRY, BOUND)
    with pytest.raises(ClaimError, match="alpha: 2 is not a probability"):
        load(tmp_path, ENTRY, alpha=2)
    (tmp_path / "broken.yaml").write_text("claims: [")
    with pytest.raises(ClaimError, match="not valid YAML"):
        load_claims(tmp_path / "broken.yaml")


def test_select_suggests_near_names_and_keeps_the_family() -> None:
    registry = Registry(0.05, SEEDS, (claim(id="B4-lstm"), claim(id="B4-gru")))
    assert [c.id for c in registry.select(["B4-gru"]).claims] == ["B4-gru"]
    assert len(registry.select(["B4-gru"]).family) == 2
    with pytest.raises(ClaimError, match="claim 'B4-ltsm' is unknown; did you mean 'B4-lstm'"):
        registry.select(["B4-ltsm"])


def test_claims_are_checked_against_what_exists() -> None:
    registry = Registry(0.05, SEEDS, (claim(tuned=True),))
    known = {"lm": {"layer", "none"}}, {"lm": {"test_loss"}}
    grids = {("lm", "layer"): 4, ("lm", "none"): 3}
    check_against(registry, *known, grids)
    with pytest.raises(ClaimError, match="experiment 'lm' is unknown"):
        check_against(registry, {"lms": set()}, {}, grids)
    with pytest.raises(ClaimError, match=r"arm of lm 'none' is unknown; .*valid: layer"):
        check_against(registry, {"lm": {"layer"}}, known[1], grids)
    with pytest.raises(ClaimError, match="metric of lm 'test_loss' is unknown; did you mean 'test_los'"):
        check_against(registry, known[0], {"lm": {"test_los"}}, grids)
    with pytest.raises(ClaimError, match="'none' of lm tries 2 learning rates"):
        check_against(registry, *known, grids | {("lm", "none"): 2})
    check_against(Registry(0.05, SEEDS, (claim(),)), *known, {})  # not tuned: no grid needed


# ---- verdicts


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
    assert result.reason.endswith(".") and "\n" not in result.reason
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
    assert "smaller than the margin" in result.reason


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
    assert "layer + other/none - none - other/layer" in result.reason


def test_equivalence_is_supported_contradicted_or_open() -> None:
    same = claim(kind="equivalence", direction="")
    assert verdict(arms(spread(1.0), [1.0] * SEEDS), same).verdict == "supported"
    assert verdict(arms(spread(1.1), [1.0] * SEEDS), same).verdict == "contradicted"
    assert verdict(arms(spread(0.9), [1.0] * SEEDS), same).verdict == "contradicted"
    assert verdict(arms(spread(1.0, 0.05), [1.0] * SEEDS), same).verdict == "inconclusive"


def test_a_bound_is_kept_by_every_run() -> None:
    exact = claim(kind="bound", weights=(), direction="", at_most=1e-9)
    rows = arms([0.0] * SEEDS, [1e-12] * SEEDS)
    kept = verdict(rows, exact)
    assert (kept.verdict, kept.estimate, kept.interval, kept.p) == ("supported", 1e-12, (0.0, 1e-12), None)
    rows[3]["final"]["test_loss"] = 1e-6
    broken = verdict(rows, exact)
    assert broken.verdict == "contradicted" and "19 of 20 runs" in broken.reason
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
    assert "only signs count" in result.reason and result.arms["none"]["diverged"] == 7


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


def test_missing_seeds_are_never_averaged_over() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    assert "none lacks seed" not in verdict(rows).reason
    rows[-1]["seed"] = 77
    result = verdict(rows)
    assert (result.verdict, result.p, result.estimate) == ("incomplete", None, None)
    assert "lacks seed 77" in result.reason
    assert verdict([]).verdict == "incomplete"
    assert judge(Registry(0.05, SEEDS, (claim(),)), rows[:3], seeds=2)[0].verdict == "incomplete"


def test_fewer_seeds_can_be_asked_for_in_trials() -> None:
    result = judge(Registry(0.05, SEEDS, (claim(),)), arms([0.9] * 2, [1.0] * 2), seeds=2)[0]
    assert (result.verdict, result.p) == ("inconclusive", 0.25)


@pytest.mark.parametrize("losses", [{0.01: 1.0, 0.03: 2.0, 0.1: 3.0}, {0.0001: 2.0, 0.001: 1.5, 0.01: 1.0}])
def test_an_optimum_on_the_edge_settles_nothing(losses: dict[float, float | None]) -> None:
    interior = tuning("layer", {0.003: 2.0, 0.01: 1.0, 0.03: 2.0})
    rows = arms(spread(0.9), [1.0] * SEEDS) + interior
    result = verdict(rows + tuning("none", losses), claim(tuned=True))
    assert result.verdict == "inconclusive" and "best learning rate of none, 0.01, is on the edge" in result.reason
    inside = tuning("none", {0.003: 2.0, 0.01: 1.0, 0.03: None})
    assert verdict(rows + inside, claim(tuned=True)).verdict == "supported"
    undefined = tuning("none", losses, "undefined")  # no rate trains it: there is no optimum to look for
    assert verdict(rows + undefined, claim(tuned=True)).verdict == "supported"


def test_tuning_must_be_whole_and_separate() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    layer, none = (tuning(arm, {0.003: 2.0, 0.01: 1.0, 0.03: 2.0}) for arm in ("layer", "none"))
    tuned = claim(tuned=True)
    assert "none has no tuning runs" in verdict(rows + layer, tuned).reason
    assert "none lacks tuning runs at learning rate" in verdict(rows + layer + none[1:], tuned).reason
    moved = [one | {"learning_rate": 3 * one["learning_rate"]} for one in none]
    assert "evaluated at learning rate 0.01, but tuning chose 0.03" in verdict(rows + layer + moved, tuned).reason
    reused = [one | {"seed": one["seed"] - 1000} for one in none]
    result = verdict(rows + layer + reused, tuned)
    assert result.verdict == "inconclusive" and "tuned on seed 0, which it also reports" in result.reason


def test_best_learning_rate() -> None:
    assert best_learning_rate(tuning("a", {0.01: 2.0, 0.03: 1.0, 0.1: 1.5})) == (0.03, False)
    assert best_learning_rate(tuning("a", {0.01: 1.0, 0.03: 1.0, 0.1: 1.0})) == (
        0.01,
        True,
    )  # ties: the smaller
    assert best_learning_rate(tuning("a", {0.01: None, 0.03: 5.0, 0.1: None})) == (0.03, False)
    assert best_learning_rate(tuning("a", {0.01: 3.0, 0.03: 2.0, 0.1: 1.0}, "diverged")) == (0.01, True)
    assert best_learning_rate(tuning("a", {0.01: 3.0})) == (0.01, True)
    bare = [
        {"learning_rate": rate, "final": {"validation_loss": loss}} for rate, loss in ((1, 3), (2, 1), (3, 2), (2, 2))
    ]
    assert best_learning_rate(bare) == (2, False)
    with pytest.raises(ValueError, match="no tuning runs"):
        best_learning_rate([row("a", 0, 1.0)])


def test_holm_counts_the_whole_declared_family() -> None:
    rows = arms([0.9] * 9 + [1.05], [1.0] * SEEDS)  # p = 2/1024: passes alone and among 25, not among 30
    family = tuple(claim(id=f"c{i}", experiment="lm" if i == 0 else "absent") for i in range(30))
    registry = Registry(0.05, SEEDS, family)
    assert judge(Registry(0.05, SEEDS, family[:1]), rows)[0].verdict == "supported"
    whole, alone = judge(registry, rows)[0], judge(registry.select(["c0"]), rows)
    assert whole.p_holm == pytest.approx(30 * whole.p) and whole.verdict == "inconclusive"  # type: ignore[operator]
    assert alone == [whole]
    assert whole.seeds_needed is not None and f"{whole.seeds_needed} seeds" in whole.reason


def test_an_equivalence_can_be_contradicted_in_a_large_family() -> None:
    family = (
        claim(kind="equivalence", direction=""),
        *tuple(claim(id=f"c{i}", experiment="x") for i in range(44)),
    )
    assert judge(Registry(0.05, SEEDS, family), arms(spread(1.1), [1.0] * SEEDS))[0].verdict == "contradicted"


def test_rows_that_cannot_be_judged_are_refused() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    with pytest.raises(ClaimError, match=r"different scales .* laptop, smoke"):
        verdict([*rows, row("layer", 99, 1.0, scale="smoke")])
    with pytest.raises(ClaimError, match=r"'layer' has two evaluation runs of seed 0"):
        verdict([*rows, row("layer", 0, 1.0)])
    with pytest.raises(ClaimError, match="'test_los' is unknown; did you mean 'test_loss'"):
        verdict(rows, claim(metric="test_los"))


def test_verdicts_do_not_depend_on_the_order_of_rows() -> None:
    rows = arms(spread(0.97, 0.02), spread(1.0, 0.03))
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    assert verdict(shuffled) == verdict(rows)


def test_a_verdict_is_plain_json() -> None:
    every: list[Sequence[float | None]] = [spread(0.9), [None] * SEEDS, spread(0.9)[:3]]
    for layer in every:
        json.dumps(verdict(arms(layer, [1.0] * SEEDS)).as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0662, "0.0662"),
        (4.8361, "4.84"),
        (-0.1, "-0.100"),
        (12345.6, "12346"),
        (0.0, "0"),
        (None, "-"),
        (1.23e-05, "1.23e-5"),
        (25000000.0, "2.50e7"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "-"),
    ],
)
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert number(value) == text
