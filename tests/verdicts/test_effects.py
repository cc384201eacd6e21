"""An effect as nets train: at the end it is the verdict's, before it is that of the same contrast."""

from typing import Any

import pytest

from experiments.records.arm_rows import group_runs
from experiments.verdicts.effects import effects
from tests.invented import SEEDS, arms, claim, spread, verdict


def trained(layer: list[float | None], none: list[float | None]) -> list[dict[str, Any]]:
    """Runs whose validation loss halves from one of four evaluations to the next, down to these losses."""
    rows = arms(layer, none)
    for row in rows:
        end = row["final"]["validation_loss"]
        losses = [None if end is None else end * 2**left for left in (3, 2, 1, 0)]
        row["history"] = [{"update": 25 * k, "validation_loss": loss} for k, loss in enumerate(losses, start=1)]
        row["final"] |= {} if end is None else {"mean_validation_loss": end * 15 / 4}
    return rows


ROWS = trained(spread(0.9), spread(1.0, 0.02))


@pytest.mark.parametrize("scale", ["raw", "log"])
@pytest.mark.parametrize("metric", ["test_loss", "validation_loss", "mean_validation_loss"])
def test_at_the_end_it_is_the_effect_that_is_judged(metric: str, scale: str) -> None:
    asked = claim(metric=metric, scale=scale)
    found, judged = effects(asked, group_runs(ROWS)), verdict(ROWS, asked)
    assert [effect.share for effect in found] == [0.25, 0.5, 0.75, 1]
    assert found[-1].mean == pytest.approx(judged.estimate)
    assert (found[-1].low, found[-1].high) == pytest.approx(judged.interval)
    if scale == "log":  # where all losses halve together ratios stay
        assert [effect.mean for effect in found] == pytest.approx([judged.estimate] * 4)
    elif metric != "mean_validation_loss":
        assert [effect.mean for effect in found] == pytest.approx([(judged.estimate or 0) * k for k in (8, 4, 2, 1)])


def test_an_interaction_is_followed_over_shares_of_runs_of_different_length() -> None:
    other = [{**row, "experiment": "other"} for row in trained(spread(0.5), spread(0.8))]
    for row in other:
        row["history"] = [{**point, "update": 10 * point["update"]} for point in row["history"]]
    four = claim(labels=("layer", "none", "other/layer", "other/none"), weights=(1.0, -1.0, -1.0, 1.0))
    assert [effect.share for effect in effects(four, group_runs(ROWS + other))] == [0.25, 0.5, 0.75, 1]


def test_where_runs_diverged_or_nothing_is_followed_there_is_none() -> None:
    assert effects(claim(), group_runs(trained(spread(0.9), [None] * SEEDS))) == []
    assert effects(claim(metric="test_rows_30_error_increase"), group_runs(ROWS)) == []
    assert effects(claim(), group_runs(arms(spread(0.9), spread(1.0)))) == []
    assert effects(claim(target=1.0), group_runs(ROWS)) == []
