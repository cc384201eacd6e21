"""The sentences about a verdict say what its numbers are."""

from dataclasses import replace
from typing import Any

import pytest

from experiments.reports.reasons import reason
from experiments.verdicts.claims import Claim
from experiments.verdicts.evidence import GRID, PAIRS, RATE, SEEDS, TUNING, Obstacle
from tests.invented import SEEDS as N
from tests.invented import arms, claim, spread, tuning, verdict

UNLIKE = Obstacle("unlike", "layer", (0.31, 0.21, 0.0023))
SAME = claim(kind="equivalence", direction="")


def told(rows: list[dict[str, Any]], of: Claim) -> str:
    return reason(of, verdict(rows, of), 0.05)


@pytest.mark.parametrize(
    ("layer", "of", "end"),
    [
        (spread(0.9), claim(), "; the margin of 0.02 nats is reached."),
        (spread(0.9), claim(margin=0.0), "9.8e-4 (the least that 10 seeds can give), 9.8e-4 after Holm (paired t: "),
        (spread(1.1), claim(), "; an effect in the opposite direction of at least the margin of 0.02 nats."),
        (spread(1.1), SAME, "; a difference of at least the margin of 0.02 nats."),
        (
            spread(1.0),
            claim(),
            "equivalence within 0.02 nats: p = 9.8e-4 (the least that 10 seeds can give), 9.8e-4 after Holm (pa",
        ),
        (
            spread(1.0),
            SAME,
            "equivalence within 0.02 nats: p = 9.8e-4 (the least that 10 seeds can give), 9.8e-4 after Holm (pa",
        ),
        (
            spread(0.981, 0.012),
            claim(),
            "; a real effect, but smaller than the margin of 0.02 nats, and not shown to be",
        ),
        (
            spread(0.995, 0.05),
            claim(),
            "; neither an effect of 0.02 nats nor its absence is shown; an effect of this size",
        ),
        (spread(0.995, 0.05), SAME, " would be shown to lie within the margin 4 times in 5 with about {} seeds."),
        (spread(0.95, 0.2), claim(), "; not significant; an effect of this size would be significant and beyond the"),
        ([None] * 8 + [0.5] * 2, claim(), "so only signs count; sign test p = "),
        (spread(0.9)[:9], claim(), "layer has 9 of 10 evaluation seeds."),
    ],
)
def test_the_test_and_what_it_decided_are_told(layer: list[float | None], of: Claim, end: str) -> None:
    found = verdict(arms(layer, [1.0] * N), of)
    text = reason(of, found, 0.05)
    assert end.format(found.seeds_needed) in text and text.endswith(".") and "\n" not in text


def test_what_a_refutation_means_is_told() -> None:
    told_so = told(arms(spread(1.1), [1.0] * N), claim(refuted={"greater": "It hurts."}))
    assert told_so.endswith("of at least the margin of 0.02 nats. It hurts.")


def test_effects_are_told_with_their_arms_and_unit() -> None:
    assert told(arms(spread(0.9), [1.0] * N), claim()).startswith("layer - none = -0.0999 nats [")
    ratio = told(arms([0.5] * N, [1.0] * N), claim(scale="log"))
    assert "log(layer / none) = -0.693" in ratio and "(test_loss, a factor of 0.500)" in ratio
    bound = claim(kind="bound", weights=(), direction="", at_most=1e-9)
    assert told(arms([0.0] * N, [0.0] * 9 + [1e-6]), bound) == (
        "19 of 20 runs keep test_loss <= 1e-9; the worst is 1.00e-6."
    )
    diverged = told(arms([0.5] * 8 + [None] * 2, [None] * 8 + [0.5] * 2), claim())
    assert "no finite value for layer in 2 and none in 8 of 10 runs" in diverged
    assert "this share of wins would be significant 4 times in 5 with about" in diverged
    tie = told(arms([None] * 8 + [0.5] * 2, [None] * 8 + [1.0] * 2), claim())
    assert tie.endswith("no practicable number of seeds would settle it.")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Obstacle(SEEDS, "none", (9, 10)), "none has 9 of 10 evaluation seeds."),
        (Obstacle(PAIRS, "none", (7, 8)), "none lacks seed 7, 8, which another arm has; arms are only compared seed"),
        (Obstacle(TUNING, "none"), "none has no tuning runs, so its learning rate was not chosen."),
        (Obstacle(GRID, "none", (0.03,)), "none lacks tuning runs at learning rate 0.03."),
        (Obstacle(RATE, "none", (0.01, 0.03)), "none was evaluated at learning rate 0.01, but tuning chose 0.03."),
    ],
)
def test_what_is_missing_is_named(found: Obstacle, text: str) -> None:
    assert reason(claim(), replace(verdict([]), missing=found), 0.05).startswith(text)


def test_doubts_say_that_seeds_do_not_help() -> None:
    rows = arms(spread(0.9), [1.0] * N) + tuning("layer", {0.003: 2.0, 0.01: 1.0, 0.03: 2.0})
    edge = told(rows + tuning("none", {0.01: 1.0, 0.03: 2.0, 0.1: 3.0}), claim(tuned=True))
    assert "The best learning rate of none, 0.01, is on the edge of its grid; a rate beyond may be better." in edge
    assert edge.endswith("No number of seeds would settle it, only a wider grid.")
    reused = [one | {"seed": one["seed"] - 1000} for one in tuning("none", {0.003: 2.0, 0.01: 1.0, 0.03: 2.0})]
    again = told(rows + reused, claim(tuned=True))
    assert "none was tuned on seed 0, which it also reports." in again and again.endswith("only tuning on other seeds.")


def made_by(rows: list[dict[str, Any]], code: str, model: str = "mlp") -> list[dict[str, Any]]:
    config = {"method": "train", "model": {"name": model}, "data": {"name": "mnist"}}
    return [{**row, "config": config, "environment": {"code": code} if code else {}} for row in rows]


def test_runs_of_two_versions_of_the_code_are_never_judged_silently() -> None:
    first, second = arms(spread(0.9), [1.0] * N)[:N], arms(spread(0.9), [1.0] * N)[N:]
    mixed = "Its runs were made by 2 versions of the code; rerun_changed=true makes the older ones anew."
    for older in ("0", ""):  # older records do not say which
        rows = made_by(first, "1") + made_by(second, older)
        assert told(rows, claim()).endswith(mixed) and verdict(rows).codes == 2
        assert verdict(rows).verdict == verdict(first + second).verdict, "told, not decided"
    for rows in (made_by(first + second, "1"), made_by(first + second, ""), first + second):
        assert "versions" not in told(rows, claim())
    assert "versions" not in told(made_by(first, "1") + made_by(second, "2", model="cnn"), claim()), "of another model"


def test_what_is_odd_about_runs_is_told_whatever_was_decided() -> None:
    found = replace(verdict(arms(spread(0.9), [1.0] * N)), codes=2, unlike=(UNLIKE,))
    told = reason(claim(), found, 0.05)
    assert "made by 2 versions of the code" in told
    assert told.endswith(
        "the median of its validation losses is 0.310, that of its tuning runs at that rate is 0.210 "
        "(rank-sum p = 0.0023)."
    )
