"""The statistics against numbers worked out by hand, against scipy, and against what they promise."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as reference

from experiments.verdicts.stats import (
    MOST_SEEDS,
    holm,
    paired_interval,
    rank_sum_p,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_for_wins,
    sign_flip_p,
    sign_test_p,
    tost_p,
)

differences = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("d", "less", "greater"),
    [
        ([-1.0, -2.0, -3.0], 1 / 8, 1.0),  # the observed signs are the most extreme of 8
        ([-1.0, -2.0, 3.0], 5 / 8, 5 / 8),  # sum 0: sums are -6 -4 -2 0 0 2 4 6
        ([1.0, -2.0, -3.0], 2 / 8, 7 / 8),  # sum -4
        ([0.0, 0.0], 1.0, 1.0),  # flips of nothing change nothing
        ([-0.1, -0.2, 0.3], 5 / 8, 5 / 8),  # a tie that floating point would break: .1 + .2 != .3
    ],
)
def test_sign_flip_by_hand(d: list[float], less: float, greater: float) -> None:
    assert sign_flip_p(d, "less") == less
    assert sign_flip_p(d, "greater") == greater


@given(differences)
def test_sign_flip_counts_every_assignment_ties_too(d: list[float]) -> None:
    flips = itertools.product((-1, 1), repeat=len(d))
    sums = [math.fsum(sign * x for sign, x in zip(signs, d, strict=True)) for signs in flips]
    assert sign_flip_p(d, "less") == sum(total <= math.fsum(d) + 1e-9 for total in sums) / len(sums)
    assert sign_flip_p(d, "greater") == sum(total >= math.fsum(d) - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize("bad", [[], [math.nan], [1.0, math.inf], [0.0] * (MOST_SEEDS + 1)])
def test_sign_flip_refuses_what_it_cannot_count(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite differences"):
        sign_flip_p(bad)


@given(differences, differences)
def test_the_rank_sum_test_is_exact(first: list[float], second: list[float]) -> None:
    """By going through every choice of ranks, tied ones too."""
    first, second = first[:5], second[:5]
    values = reference.rankdata(first + second)
    sums = [math.fsum(chosen) for chosen in itertools.combinations(values, len(first))]
    observed = math.fsum(values[: len(first)])
    tails = sum(total <= observed for total in sums), sum(total >= observed for total in sums)
    assert rank_sum_p(first, second) == pytest.approx(min(1, 2 * min(tails) / len(sums)))
    assert rank_sum_p([math.inf, *first], second) == rank_sum_p([1000.0, *first], second)


@given(differences)
def test_sign_test_is_scipys_binomial_test(d: list[float]) -> None:
    below, above = sum(x < 0 for x in d), sum(x > 0 for x in d)
    assume(below + above)
    for alternative, wins in (("less", below), ("greater", above)):
        exact = reference.binomtest(wins, below + above, alternative="greater").pvalue
        assert sign_test_p(d, alternative) == pytest.approx(exact)  # type: ignore[arg-type]


def test_sign_test_counts_infinities_and_drops_ties() -> None:
    d = [-math.inf, -math.inf, -0.1, 0.2, 0.0, math.nan]
    assert sign_test_p(d, "less") == 5 / 16  # 3 or more heads of 4
    assert sign_test_p(d, "greater") == 15 / 16
    assert sign_test_p(d, "less") == reference.binomtest(3, 4, alternative="greater").pvalue
    assert sign_test_p([0.0, math.nan]) == 1


def test_interval_is_students() -> None:
    d = np.array([0.1, 0.3, -0.2, 0.5, 0.2])
    expected = reference.ttest_1samp(d, 0).confidence_interval(0.95)
    assert paired_interval(d) == pytest.approx(tuple(expected))
    assert paired_interval([0.0, 2.0], 0.5) == pytest.approx((0.0, 2.0))  # t(1) at .75 is 1, sd / sqrt n is 1
    assert all(math.isnan(end) for end in paired_interval([1.0]))


@given(differences, st.floats(0.1, 50), st.floats(0.1, 50))
def test_a_wider_margin_is_never_harder(d: list[float], margin: float, more: float) -> None:
    assert tost_p(d, margin + more) <= tost_p(d, margin)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # his example
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_raw_and_bonferroni(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= min(1.0, len(ps) * p) for p, a in zip(ps, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(ps)] == sorted(adjusted)


def test_equivalence_by_hand() -> None:
    # Shifted by the margin 3 to -2 -4 -1 and 4 2 5: all signs agree, the most extreme of 8 either way.
    assert tost_p([1.0, -1.0, 2.0], 3.0) == 1 / 8
    # Shifted by 1.5: -0.5 -2.5 0.5, sum -2.5; of the sums -3.5 -2.5 -2.5 -1.5 ... three are no larger. The other
    # way 2.5 0.5 3.5, the largest: the larger p counts.
    assert tost_p([1.0, -1.0, 2.0], 1.5) == 3 / 8
    assert tost_p([2.0, 2.0], 1.0) == 1.0
    with pytest.raises(ValueError, match="above 0"):
        tost_p([1.0], 0.0)


def test_seeds_for_a_difference() -> None:
    d = np.array([0.5, 1.5] * 5) - 0.5  # mean 0.5, sd 0.527
    assert seeds_for_difference(d) == math.ceil(((1.6449 + 0.8416) * 0.52705 / 0.5) ** 2 + 1.6449**2 / 2)
    assert seeds_for_difference(d, 0.4) == math.ceil((0.8416 * 0.52705 / 0.1) ** 2)  # to reach the margin takes more
    assert seeds_for_difference(-d, 0.4) == seeds_for_difference(d, 0.4)
    assert seeds_for_difference(d, 0.1) == seeds_for_difference(d)
    assert seeds_for_difference([1.0, 1.0], alpha=0.001) == 10  # no spread: only the sign-flip test's smallest p counts
    for none in ([1.0, -1.0], [1.0], [1.0, -1.0 + 1e-6]):
        assert seeds_for_difference(none) is None
    assert seeds_for_difference(d, 0.5) is None  # on the margin


def test_seeds_for_equivalence() -> None:
    d = np.array([-1.0, 1.0] * 5)  # mean 0, sd 1.054: both tests are alike, each needs power .9
    assert seeds_for_equivalence(d, 1.0) == math.ceil(((1.6449 + 1.2816) * 1.05409) ** 2 + 1.6449**2 / 2)
    far = d + 0.5  # the nearer margin alone decides: power .8 at a distance of 0.5
    assert seeds_for_equivalence(far, 1.0) == math.ceil(((1.6449 + 0.8416) * 1.05409 / 0.5) ** 2 + 1.6449**2 / 2)
    assert seeds_for_equivalence([0.1, 0.1], 1.0, alpha=0.001) == 10
    for none in (d + 1, d + 0.9999, [0.1]):
        assert seeds_for_equivalence(none, 1.0) is None


def test_seeds_for_wins() -> None:
    one_sided = [-math.inf] * 9 + [1.0]
    assert seeds_for_wins(one_sided) == seeds_for_wins([-d for d in one_sided])
    assert seeds_for_wins([*one_sided, *[math.nan] * 10]) == 2 * (seeds_for_wins(one_sided) or 0)  # ties tell nothing
    assert (seeds_for_wins([-math.inf] * 10, 0.001) or 0) >= 10
    assert seeds_for_wins([-math.inf, math.inf, math.nan]) is None


STRICT = 0.05 / 110  # the level of a family of 110 tests


@pytest.mark.parametrize(("alpha", "size"), [(0.05, 0.7), (STRICT, 1.4)])
def test_as_many_seeds_as_are_said_to_be_enough_give_the_power(alpha: float, size: float) -> None:
    pilot, random = np.array([-1.0, 1.0] * 10), np.random.default_rng(4)
    sd = float(pilot.std(ddof=1))
    found = seeds_for_difference(pilot + size, alpha=alpha), seeds_for_equivalence(pilot, size + 0.3, alpha)
    different, same = (enough or 0 for enough in found)
    rejected = [sign_flip_p(d, "greater") < alpha for d in random.normal(size, sd, (300, different))]
    assert 0.7 < np.mean(rejected) < 0.9
    rejected = [tost_p(d, size + 0.3) < alpha for d in random.normal(0, sd, (300, same))]
    assert 0.7 < np.mean(rejected) < 0.93
    share = 0.8
    wins = seeds_for_wins([-math.inf] * 16 + [math.inf] * 4, alpha) or 0
    least = next(k for k in range(wins + 1) if sign_test_p([-1.0] * k + [1.0] * (wins - k)) < alpha)
    assert 0.7 < np.mean(random.binomial(wins, share, 2000) >= least) < 0.9
