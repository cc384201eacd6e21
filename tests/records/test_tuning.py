"""Which learning rates of a grid are tried, and which is chosen."""

import math

from hypothesis import given
from hypothesis import strategies as st

from experiments.records.tuning import next_rates

grids = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12, unique=True)


def climb(losses: dict[float, float]) -> dict[float, float]:
    tried: dict[float, float] = {}
    while wanted := next_rates(losses, tried):
        assert not tried.keys() & wanted
        tried |= {rate: losses[rate] for rate in wanted}
    return tried


def lowest(losses: dict[float, float]) -> float:
    return min(losses, key=lambda rate: (losses[rate], rate))


@given(grids, st.data())
def test_in_one_valley_the_lowest_of_the_grid_is_found_and_whether_it_is_on_the_edge(
    grid: list[float], data: st.DataObject
) -> None:
    best = data.draw(st.sampled_from(grid))
    ranks = {rate: place for place, rate in enumerate(sorted(grid))}
    losses = {rate: float(abs(ranks[rate] - ranks[best])) for rate in grid}
    tried = climb(losses)
    assert lowest(tried) == best
    assert (best in (min(tried), max(tried))) == (best in (min(grid), max(grid)))


@given(grids, st.data())
def test_whatever_the_losses_both_neighbours_of_the_best_have_been_tried(
    grid: list[float], data: st.DataObject
) -> None:
    losses = {rate: data.draw(st.sampled_from([0.0, 1.0, 2.0, math.inf])) for rate in grid}
    tried, rates = climb(losses), sorted(grid)
    at = rates.index(lowest(tried))
    assert tried.keys() >= set(rates[max(at - 1, 0) : at + 2])


def test_a_grid_is_begun_in_the_middle_and_only_as_much_of_it_tried_as_is_needed() -> None:
    losses = dict(zip([1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0], [7.0, 6.0, 5.0, 2.0, 1.0, 3.0, 4.0], strict=True))
    assert next_rates(losses, {}) == [1e-2, 3e-2, 1e-1]
    assert sorted(climb(losses)) == [1e-2, 3e-2, 1e-1, 3e-1]


def test_where_all_diverge_the_smallest_rates_are_tried() -> None:
    assert lowest(climb(dict.fromkeys([1e-3, 1e-2, 1e-1, 1.0, 10.0], math.inf))) == 1e-3
