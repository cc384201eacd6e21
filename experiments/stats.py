"""Statistics of paired differences: one number per seed, few seeds, noise of any shape.

Every function is pure and every p-value exact: all sign assignments are counted, nothing is drawn at random.
A difference d_s is the contrast between arms trained with one seed s: same initial weights, same data order.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special  # not scipy.stats: it takes a second to import, and only two quantiles are needed

Alternative = Literal["less", "greater", "two-sided"]
Numbers = Sequence[float] | NDArray[np.float64]

MOST_SEEDS = 40  # 2 x 2^20 partial sums: the most that is counted exactly in about a second
TIE = 1e-10  # sums closer than this share of sum |d| are equal: rounding must not break ties


def sign_flip_p(differences: Numbers, alternative: Alternative = "less") -> float:
    """Exact p of the paired sign-flip test of the mean: the share of sign assignments at least as extreme.

    Under the null hypothesis (differences symmetric about 0) each sign is a fair coin, so p holds for any n
    and any spread; the smallest is 2^-n, or 2^(1-n) two-sided. `less` finds evidence for a mean below 0.
    Raises ValueError for no seeds, more than MOST_SEEDS, or a non-finite difference.
    Source: Fisher, The Design of Experiments (1935), section 21; Pitman, JRSS Supplement 4 (1937).
    """
    d = _finite(differences)
    if alternative == "two-sided":
        return min(1.0, 2 * min(sign_flip_p(d, "less"), sign_flip_p(d, "greater")))
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
    if alternative == "two-sided":
        return min(1.0, 2 * _fair_coin_tail(max(below, above), below + above))
    return _fair_coin_tail(below if alternative == "less" else above, below + above)


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


def tost_p(differences: Numbers, margin: float) -> float:
    """Exact p for |mean difference| < margin: two one-sided sign-flip tests, the larger p counts.

    Raises ValueError unless margin > 0. Source: Schuirmann, J. Pharmacokin. Biopharm. 15 (1987), with the
    sign-flip test in place of Student's t, so that equivalence rests on the same assumption as difference.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    d = _finite(differences)
    return max(sign_flip_p(d - margin, "less"), sign_flip_p(d + margin, "greater"))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: rejecting those below alpha errs with chance alpha.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def seeds_needed(differences: Numbers, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Rough number of paired seeds for a one-sided test at `alpha` to find such a mean / sd with `power`.

    Normal approximation corrected for an estimated sd, never fewer than the sign-flip test needs to reach
    `alpha` at all. A plug-in value: from few seeds it may be off by a factor of two. None if the mean is 0 or
    for fewer than two seeds. Source: Guenther, The American Statistician 35 (1981).
    """
    d = _finite(differences)
    if d.size < 2 or d.mean() == 0:
        return None
    z_alpha, z_power = float(special.ndtri(1 - alpha)), float(special.ndtri(power))
    ratio = float(d.std(ddof=1)) / abs(float(d.mean()))
    enough = ((z_alpha + z_power) * ratio) ** 2 + z_alpha**2 / 2
    return max(math.ceil(enough), math.ceil(-math.log2(alpha)))


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
