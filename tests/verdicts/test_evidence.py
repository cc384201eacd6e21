"""Learning rates are chosen by validation loss; missing or doubtful runs are told and settle nothing."""

from collections.abc import Iterable

import pytest

from experiments.records.rows import Row
from experiments.records.tuning import choose
from experiments.verdicts.claims import ClaimError, Registry
from experiments.verdicts.evidence import EDGE, GRID, PAIRS, RATE, REUSED, TUNING, UNLIKE, Obstacle
from experiments.verdicts.evidence import SEEDS as TOO_FEW
from experiments.verdicts.verdicts import judge
from tests.invented import SEEDS, arms, claim, row, spread, tuning, verdict


def chosen(rows: Iterable[Row]) -> tuple[float, bool]:
    choice = choose(rows)
    return choice.learning_rate, choice.on_edge


def test_the_rate_with_the_lowest_loss_is_chosen() -> None:
    assert chosen(tuning("a", {0.01: 2.0, 0.03: 1.0, 0.1: 1.5})) == (0.03, False)
    assert chosen(tuning("a", {0.01: 1.0, 0.03: 1.0, 0.1: 1.0})) == (0.01, True)  # ties: the smaller
    assert chosen(tuning("a", {0.01: None, 0.03: 5.0, 0.1: None})) == (0.03, False)
    assert chosen(tuning("a", {0.01: 3.0, 0.03: 2.0, 0.1: 1.0}, "diverged")) == (0.01, True)
    assert chosen(tuning("a", {0.01: 3.0})) == (0.01, True)
    bare = [
        {"learning_rate": rate, "final": {"validation_loss": loss}} for rate, loss in ((1, 3), (2, 1), (3, 2), (2, 2))
    ]
    assert chosen(bare) == (2, False)
    with pytest.raises(ValueError, match="no tuning runs"):
        chosen([row("a", 0, 1.0)])


def test_missing_seeds_are_never_averaged_over() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    assert verdict(rows).missing is None
    rows[-1]["seed"] = 77
    result = verdict(rows)
    assert (result.verdict, result.p, result.estimate) == ("incomplete", None, None)
    assert result.missing == Obstacle(PAIRS, "layer", (77,))
    assert verdict([]).missing == Obstacle(TOO_FEW, "layer", (0, SEEDS))
    assert judge(Registry(0.05, SEEDS, (claim(),)), rows[:3], seeds=2)[0].verdict == "incomplete"


@pytest.mark.parametrize("losses", [{0.01: 1.0, 0.03: 2.0, 0.1: 3.0}, {0.0001: 2.0, 0.001: 1.5, 0.01: 1.0}])
def test_an_optimum_on_the_edge_settles_nothing(losses: dict[float, float | None]) -> None:
    interior = tuning("layer", {0.003: 2.0, 0.01: 1.0, 0.03: 2.0})
    rows = arms(spread(0.9), [1.0] * SEEDS) + interior
    result = verdict(rows + tuning("none", losses), claim(tuned=True))
    assert result.verdict == "inconclusive" and result.doubt == Obstacle(EDGE, "none", (0.01,))
    inside = tuning("none", {0.003: 2.0, 0.01: 1.0, 0.03: None})
    assert verdict(rows + inside, claim(tuned=True)).verdict == "supported"
    undefined = tuning("none", losses, "undefined")  # no rate trains it: there is no optimum to look for
    assert verdict(rows + undefined, claim(tuned=True)).verdict == "supported"


def test_tuning_must_be_whole_and_separate() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    layer, none = (tuning(arm, {0.003: 2.0, 0.01: 1.0, 0.03: 2.0}) for arm in ("layer", "none"))
    tuned = claim(tuned=True)
    assert verdict(rows + layer, tuned).missing == Obstacle(TUNING, "none")
    assert verdict(rows + layer + none[1:], tuned).missing == Obstacle(GRID, "none", (0.003,))
    moved = [one | {"learning_rate": 3 * one["learning_rate"]} for one in none]
    assert verdict(rows + layer + moved, tuned).missing == Obstacle(RATE, "none", (0.01, 0.03))
    reused = [one | {"seed": one["seed"] - 1000} for one in none]
    result = verdict(rows + layer + reused, tuned)
    assert result.verdict == "inconclusive" and result.doubt == Obstacle(REUSED, "none", (0,))


FURTHER = (1002, 1003, 1004)


def test_of_rates_that_got_a_second_look_the_best_by_the_median_is_chosen() -> None:
    first = tuning("a", {0.003: 2.0, 0.01: 1.0, 0.03: 0.5, 0.1: 3.0})
    lucky = tuning("a", {0.03: 2.3}, seeds=FURTHER) + tuning("a", {0.01: 1.1}, seeds=FURTHER)
    assert chosen(first) == (0.03, False)
    assert chosen(first + lucky) == (0.01, False)


def test_an_arm_whose_runs_do_not_end_as_its_tuning_promised_is_told() -> None:
    """A few of many that end elsewhere are chance, and so is all that two tuning runs promise."""
    losses: dict[float, float | None] = {0.003: 3.0, 0.01: 1.0, 0.03: 2.0}
    looked = [tuning(arm, {0.01: 1.01, 0.03: 2.0}, seeds=FURTHER) for arm in ("layer", "none")]
    tuned = [row for arm in ("layer", "none") for row in tuning(arm, losses)]
    rows = arms(spread(1.005), [1.0] * (SEEDS - 2) + [2.3] * 2)
    assert verdict(rows + tuned + looked[0] + looked[1], claim(tuned=True)).unlike == ()
    elsewhere = arms(spread(1.005), [2.3] * (SEEDS - 1) + [None])
    assert verdict(elsewhere + tuned, claim(tuned=True)).unlike == ()
    (found,) = verdict(elsewhere + tuned + looked[0] + looked[1], claim(tuned=True)).unlike
    assert (found.what, found.arm, found.numbers[:2]) == (UNLIKE, "none", (2.3, 1.01)) and found.numbers[2] < 0.01


def test_rows_that_cannot_be_judged_are_refused() -> None:
    rows = arms(spread(0.9), [1.0] * SEEDS)
    with pytest.raises(ClaimError, match=r"different scales .* laptop, smoke"):
        verdict([*rows, row("layer", 99, 1.0, scale="smoke")])
    with pytest.raises(ClaimError, match=r"'layer' has two evaluation runs of seed 0"):
        verdict([*rows, row("layer", 0, 1.0)])
    with pytest.raises(ClaimError, match="'test_los' is unknown; did you mean 'test_loss'"):
        verdict(rows, claim(metric="test_los"))
