"""Learning rates are chosen by validation loss; missing or doubtful runs are named and settle nothing."""

import pytest

from experiments.records.tuning import best_learning_rate
from experiments.verdicts.claims import ClaimError, Registry
from experiments.verdicts.verdicts import judge
from tests.invented import SEEDS, arms, claim, row, spread, tuning, verdict


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


def test_missing_seeds_are_never_averaged_over() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    assert "none lacks seed" not in verdict(rows).reason
    rows[-1]["seed"] = 77
    result = verdict(rows)
    assert (result.verdict, result.p, result.estimate) == ("incomplete", None, None)
    assert "lacks seed 77" in result.reason
    assert verdict([]).verdict == "incomplete"
    assert judge(Registry(0.05, SEEDS, (claim(),)), rows[:3], seeds=2)[0].verdict == "incomplete"


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


def test_rows_that_cannot_be_judged_are_refused() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    with pytest.raises(ClaimError, match=r"different scales .* laptop, smoke"):
        verdict([*rows, row("layer", 99, 1.0, scale="smoke")])
    with pytest.raises(ClaimError, match=r"'layer' has two evaluation runs of seed 0"):
        verdict([*rows, row("layer", 0, 1.0)])
    with pytest.raises(ClaimError, match="'test_los' is unknown; did you mean 'test_loss'"):
        verdict(rows, claim(metric="test_los"))
