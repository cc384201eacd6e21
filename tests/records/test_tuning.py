"""Which learning rates of a grid are tried, on which seeds, and which is chosen."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.records.tuning import best_of, lacking, next_trials

SEEDS, FURTHER = [1000, 1001], [1002, 1003, 1004]
grids = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12, unique=True)
Table = dict[float, dict[int, float]]


def climb(losses: Table, further: list[int] = FURTHER) -> Table:
    """What is tried of a whole table of losses."""
    tried: Table = {}
    while wanted := next_trials(losses, SEEDS, further, tried):
        for rate, seed in wanted:
            assert seed not in tried.get(rate, {})
            tried.setdefault(rate, {})[seed] = losses[rate][seed]
    return tried


def alike(losses: dict[float, float]) -> Table:
    """The same loss on every seed."""
    return {rate: dict.fromkeys(SEEDS + FURTHER, loss) for rate, loss in losses.items()}


def lowest(losses: dict[float, float]) -> float:
    return min(losses, key=lambda rate: (losses[rate], rate))


@given(grids, st.data())
def test_in_one_valley_the_lowest_of_the_grid_is_found_and_whether_it_is_on_the_edge(
    grid: list[float], data: st.DataObject
) -> None:
    best = data.draw(st.sampled_from(grid))
    ranks = {rate: place for place, rate in enumerate(sorted(grid))}
    tried = climb(alike({rate: float(abs(ranks[rate] - ranks[best])) for rate in grid}))
    assert best_of(tried) == best
    assert (best in (min(tried), max(tried))) == (best in (min(grid), max(grid)))


@given(grids, st.data())
def test_whatever_the_losses_the_choice_rests_on_a_second_look_and_has_its_neighbours(
    grid: list[float], data: st.DataObject
) -> None:
    ends = st.sampled_from([0.0, 1.0, 2.0, math.inf])
    losses = {rate: {seed: data.draw(ends) for seed in SEEDS + FURTHER} for rate in grid}
    tried, rates = climb(losses), sorted(grid)
    at = rates.index(best_of(tried))
    assert tried.keys() >= set(rates[max(at - 1, 0) : at + 2])
    again = [rate for rate, by_seed in tried.items() if len(by_seed) == len(SEEDS + FURTHER)]
    assert len(again) >= min(len(grid), 2) or len(grid) == 1
    assert len(grid) == 1 or best_of(tried) == lowest({rate: median(tried[rate].values()) for rate in again})
    assert lacking(tried) is None


def test_a_grid_is_begun_in_the_middle_and_only_as_much_of_it_tried_as_is_needed() -> None:
    losses = dict(zip([1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0], [7.0, 6.0, 5.0, 2.0, 1.0, 3.0, 4.0], strict=True))
    assert next_trials(losses, [0], [], {}) == [(1e-2, 0), (3e-2, 0), (1e-1, 0)]
    tried = climb(alike(losses))
    assert sorted(tried) == [1e-2, 3e-2, 1e-1, 3e-1]
    assert [rate for rate, by_seed in tried.items() if len(by_seed) == 5] == [3e-2, 1e-1]
    assert {len(by_seed) for by_seed in climb(alike(losses), further=[]).values()} == {2}


def test_a_rate_that_was_lucky_on_two_seeds_is_found_out() -> None:
    """As where a deep net trains or fails by chance: .3 on two seeds, 2.3 on most others."""
    losses = alike({1e-3: 1.5, 1e-2: 0.5, 1e-1: 0.3, 1.0: 2.3, 10.0: 2.3})
    losses[1e-1] |= dict.fromkeys(FURTHER, 2.3)
    assert best_of(climb(losses, further=[])) == 1e-1
    assert best_of(climb(losses)) == 1e-2


def test_the_neighbours_of_what_the_second_look_chose_are_tried_as_well() -> None:
    losses = alike({1e-4: 0.1, 1e-3: 0.4, 1e-2: 0.3, 1e-1: 1.5, 1.0: 2.3})
    losses[1e-2] |= dict.fromkeys(FURTHER, 2.3)
    assert 1e-4 not in climb(losses, further=[])
    tried = climb(losses)
    assert len(tried[1e-4]) == 5 and best_of(tried) == 1e-4


def test_where_all_diverge_the_smallest_rates_are_tried() -> None:
    assert best_of(climb(alike(dict.fromkeys([1e-3, 1e-2, 1e-1, 1.0, 10.0], math.inf)))) == 1e-3


@pytest.mark.parametrize("rate", [1e-2, 3e-2, 1e-1])
@pytest.mark.parametrize("further", [FURTHER, []])
def test_any_run_that_is_missing_is_noticed(rate: float, further: list[int]) -> None:
    losses = alike({1e-2: 5.0, 3e-2: 1.0, 1e-1: 3.0})
    whole = climb(losses, further)
    for seed in whole[rate]:
        kept = {other: {s: loss for s, loss in by_seed.items()} for other, by_seed in whole.items()}
        del kept[rate][seed]
        assert lacking(kept) is not None
