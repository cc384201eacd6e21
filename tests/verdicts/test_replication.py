"""Two studies of the same claims: what agrees, and what both say together."""

import math
from dataclasses import replace

import pytest

from experiments.verdicts.replication import agreement, compared, rank_correlation, repeated
from experiments.verdicts.stats import paired_interval
from experiments.verdicts.verdict import Verdict
from tests.invented import SEEDS, arms, claim, spread, verdict


def study(first_seed: int, **ends: float) -> list[Verdict]:
    """Claims whose layer arms end at these losses, against 1."""
    found = []
    for name, end in ends.items():
        rows = arms(spread(end), [1.0] * SEEDS)
        for row in rows:
            row["seed"] += first_seed
        found.append(verdict(rows, claim(id=name)))
    return found


def test_verdicts_agree_move_or_are_opposed() -> None:
    original = study(0, a=0.9, b=0.9, c=0.9, d=1.1)
    pairs = repeated(original, study(100, d=1.2, a=0.8, b=1.0, c=1.1))
    assert [pair.outcome for pair in pairs] == ["agreed", "moved", "opposed", "agreed"]
    found = agreement(pairs)
    assert (found.claims, found.agreed, found.opposed, found.effects, found.inside) == (4, 2, 1, 4, 0)
    again = agreement(repeated(original, [replace(one, seeds=(100,)) for one in original]))
    assert (again.agreed, again.same_sign, again.inside) == (4, 4, 4)
    assert again.rank_correlation == pytest.approx(1)


def test_effects_are_told_apart_by_whether_tuning_chose_the_same_rates_again() -> None:
    original, again = study(0, a=0.9, b=0.9), study(100, a=0.9, b=0.9)
    other = {name: arm | {"learning_rate": 7.0} for name, arm in again[1].arms.items()}
    found = agreement(repeated(original, [again[0], replace(again[1], arms=other)]))
    assert (found.effects, found.inside, found.same_rates, found.inside_at_same_rates) == (2, 2, 1, 1)


def test_pooled_is_the_effect_over_the_seeds_of_both() -> None:
    (pair,) = repeated(study(0, a=0.9), study(100, a=0.8))
    both = [*pair.original.differences, *pair.replication.differences]
    assert pair.pooled == pytest.approx((sum(both) / len(both), *paired_interval(both)))  # type: ignore[arg-type]


def test_a_replication_shares_no_seed_and_has_all_its_runs() -> None:
    with pytest.raises(ValueError, match="claim a: both studies have seed 5"):
        repeated(study(0, a=0.9), study(5, a=0.9))
    incomplete = [replace(one, verdict="incomplete") for one in study(100, a=0.9)]
    assert repeated(study(0, a=0.9), incomplete) == repeated(study(0, a=0.9), study(100, b=0.9)) == []
    assert math.isnan(agreement([]).rank_correlation)


def test_seeds_that_both_have_are_compared_and_not_pooled() -> None:
    original = study(0, a=0.9, b=0.9)
    (same, moved) = compared(original, study(5, a=0.9, b=1.0))
    assert (same.outcome, moved.outcome) == ("agreed", "moved")
    assert same.pooled is None and same.shared == {*range(5, SEEDS)}
    apart = study(SEEDS, a=0.8)
    assert compared(original, apart) == repeated(original, apart) and compared(original, apart)[0].pooled is not None


def test_rank_correlation_is_of_the_order_alone() -> None:
    assert rank_correlation([1, 2, 30, 4], [0.1, 0.2, 9, 0.3]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [-1, -20, -300]) == pytest.approx(-1)
