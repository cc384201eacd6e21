"""Statistics of paired differences: one number per seed, few seeds, noise of any shape.

Every function is pure and every p-value exact: all sign assignments are counted, nothing is drawn at random.
A difference d_s is the contrast between arms trained with one seed s: same initial weights, same data order.
The numbers of seeds that would be enough are no decisions, only plans: they take mean and sd of the seeds at hand
for the truth, and from few seeds may be off by a factor of two.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special  # not scipy.stats: it takes a second to import, and only two quantiles are needed

Alternative = Literal["less", "greater"]
Numbers = Sequence[float] | NDArray[np.float64]
Test = Callable[[Numbers, Alternative], float]  # a one-sided one, of differences from 0

MOST_SEEDS = 40  # 2 x 2^20 partial sums: the most that is counted exactly in about a second
MANY = 10_000  # seeds that nobody runs: more are as good as none
TIE = 1e-10  # sums closer than this share of sum |d| are equal: rounding must not break ties


def sign_flip_p(differences: Numbers, alternative: Alternative = "less") -> float:
    """Exact p of the paired sign-flip test of the mean: the share of sign assignments at least as extreme.

    Under the null hypothesis (differences symmetric about 0) each sign is a fair coin, so p holds for any n
    and any spread; the smallest is 2^-n. `less` finds evidence for a mean below 0.
    Raises ValueError for no seeds, more than MOST_SEEDS, or a non-finite difference.
    Source: Fisher, The Design of Experiments (1935), section 21; Pitman, JRSS Supplement 4 (1937).
    """
    d = _finite(differences)
    if alternative == "greater":
        d = -d
    # A sum over all signs is one over the left half's plus one over the right half's: with one half sorted,
    # 2^(n/2) look-ups count 2^n sums.
    left, right = _signed_sums(d[: d.size // 2]), np.sort(_signed_sums(d[d.size // 2 :]))
    limit = d.sum() + TIE * np.abs(d).sum()
    return float(np.searchsorted(right, limit - left, side="right").sum() / 2**d.size)


def sign_test_p(differences: Numbers, alternative: Alternative = "less") -> float:
    """Exact binomial p of the sign test: infinite differences count by sign, 0 and NaN are dropped.

    The test where runs diverged: it asks only which arm won each seed. Without any untied seed p is 1.
    Source: Arbuthnott (1710); Conover, Practical Nonparametric Statistics, section 3.4 (dropping ties).
    """
    d = np.asarray(differences, dtype=float)
    below, above = int((d < 0).sum()), int((d > 0).sum())
    return _fair_coin_tail(below if alternative == "less" else above, below + above)


def rank_sum_p(first: Numbers, second: Numbers) -> float:
    """Exact two-sided p of the rank-sum test: whether two samples come from one distribution, of whatever shape.

    Ties have their mean rank; infinite values rank as any. Source: Wilcoxon, Biometrics Bulletin 1 (1945).
    """
    values = np.concatenate([first, second])
    ranks = 1 + np.array([2 * (values < value).sum() + (values == value).sum() for value in values])  # twice each
    ways = np.zeros((len(first) + 1, ranks.sum() + 1))  # to choose so many ranks with such a sum
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    observed, sums = ranks[: len(first)].sum(), ways[-1]
    return min(1.0, float(2 * min(sums[: observed + 1].sum(), sums[observed:].sum()) / sums.sum()))


def paired_t_p(differences: Numbers, alternative: Alternative = "less") -> float:
    """One-sided p of Student's paired t, shown beside the exact one, which cannot fall below 2^-n; 1 for one seed.

    It assumes normal differences, which makes it say more where they all have one sign; no decision rests on it.
    Source: Student, Biometrika 6 (1908).
    """
    d = _finite(differences)
    if d.size < 2 or not d.std():
        return 1.0 if d.size < 2 or not d.any() else float((d.mean() > 0) == (alternative == "less"))
    t = float(d.mean() / (d.std(ddof=1) / math.sqrt(d.size)))
    return float(special.stdtr(d.size - 1, t if alternative == "less" else -t))


def paired_interval(differences: Numbers, level: float = 0.95) -> tuple[float, float]:
    """Student-t confidence interval of the mean difference, in its unit; NaN for fewer than two seeds.

    Its coverage assumes roughly normal differences; the decision does not rest on it.
    Source: Student, Biometrika 6 (1908).
    """
    d = _finite(differences)
    if d.size < 2:
        return math.nan, math.nan
    reach = float(special.stdtrit(d.size - 1, (1 + level) / 2)) * float(d.std(ddof=1)) / math.sqrt(d.size)
    return float(d.mean()) - reach, float(d.mean()) + reach


def tost_p(differences: Numbers, margin: float, test: Test = sign_flip_p) -> float:
    """Exact p for |mean difference| < margin: two one-sided sign-flip tests, or others, the larger p counts.

    Raises ValueError unless margin > 0. Source: Schuirmann, J. Pharmacokin. Biopharm. 15 (1987), with the
    sign-flip test in place of Student's t, so that equivalence rests on the same assumption as difference.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    d = _finite(differences)
    return max(test(d - margin, "less"), test(d + margin, "greater"))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: rejecting those below alpha errs with chance alpha.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def seeds_for_difference(
    differences: Numbers, margin: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Rough number of paired seeds to find such a mean, given such an sd, with `power`: significant and >= margin.

    Both are needed, and the one that needs more seeds decides: the one-sided test at `alpha` (normal approximation,
    corrected for an estimated sd) and a normal estimate to lie beyond the margin. None where the mean does not.
    Source: Guenther, The American Statistician 35 (1981).
    """
    d = _finite(differences)
    mean = abs(float(d.mean()))
    if d.size < 2 or mean == 0 or (margin and mean <= margin):
        return None
    z_alpha, z_power, sd = _quantile(1 - alpha), _quantile(power), float(d.std(ddof=1))
    significant = ((z_alpha + z_power) * sd / mean) ** 2 + z_alpha**2 / 2
    beyond = (z_power * sd / (mean - margin)) ** 2 if margin else 0.0
    return _seeds(max(significant, beyond), alpha)


def seeds_for_equivalence(differences: Numbers, margin: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Rough number of paired seeds for both one-sided tests of `tost_p` to reject such a mean, given such an sd.

    The fewest n with Phi((margin - mean) r - z) + Phi((margin + mean) r - z) - 1 >= power, where z is the quantile
    of 1 - alpha and r = sqrt(n - z^2 / 2) / sd, with Guenther's correction as above. None where the mean does not
    lie within the margin. Source: Julious, Statistics in Medicine 23 (2004), on equivalence trials.
    """
    d = _finite(differences)
    mean, sd, z = abs(float(d.mean())), float(d.std(ddof=1)) if d.size > 1 else math.nan, _quantile(1 - alpha)
    if d.size < 2 or mean >= margin:
        return None
    if sd == 0:
        return _seeds(0, alpha)

    def reached(n: int) -> float:
        ways = (math.sqrt(max(n - z**2 / 2, 0.0)) / sd * (margin + side) - z for side in (-mean, mean))
        return float(sum(special.ndtr(way) for way in ways)) - 1

    return _seeds(bisect_left(range(MANY + 1), power, key=reached), alpha)


def seeds_for_wins(differences: Numbers, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Rough number of paired seeds for the sign test to find such a share of wins and ties, one-sided at `alpha`.

    Normal approximation of the binomial with its own variance under either hypothesis and continuity corrected.
    None where neither side won more. Source: Fleiss, Levin and Paik, Statistical Methods for Rates and
    Proportions (2003), chapter 2.
    """
    d = np.asarray(differences, dtype=float)
    below, above = int((d < 0).sum()), int((d > 0).sum())
    if below == above:
        return None
    share = max(below, above) / (below + above)
    gain = share - 0.5
    untied = ((_quantile(1 - alpha) / 2 + _quantile(power) * math.sqrt(share * (1 - share))) / gain) ** 2
    untied *= (1 + math.sqrt(1 + 2 / (untied * gain))) ** 2 / 4
    enough = _seeds(untied, alpha)
    return enough and _seeds(enough * d.size / (below + above), alpha)


def _seeds(number: float, alpha: float) -> int | None:
    """A whole number, at which the exact tests' smallest p, 2^-n, is below `alpha`; None from MANY on."""
    return None if number >= MANY else max(math.ceil(number), math.floor(-math.log2(alpha)) + 1)


def _quantile(probability: float) -> float:
    return float(special.ndtri(probability))


def _finite(differences: Numbers) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=float)
    if not 0 < d.size <= MOST_SEEDS or not np.isfinite(d).all():
        raise ValueError(f"expected 1 to {MOST_SEEDS} finite differences, got {d.tolist()}")
    return d


def _signed_sums(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of all 2^n sign assignments."""
    sums = np.zeros(1)
    for magnitude in magnitudes:
        sums = np.concatenate([sums - magnitude, sums + magnitude])
    return sums


def _fair_coin_tail(heads: int, flips: int) -> float:
    """P(at least `heads` heads in `flips` flips)."""
    return float(sum(math.comb(flips, k) for k in range(heads, flips + 1)) / 2**flips)
