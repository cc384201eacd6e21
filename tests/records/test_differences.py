"""What differs between two tables of invented runs."""

import math
from typing import Any

from experiments.records.differences import Difference, differences
from tests.invented import arms, row


def run(arm: str, seed: int, value: float | None, *, role: str = "evaluate", **config: Any) -> dict[str, Any]:
    plain = {"norm": arm, "seed": seed, "optim": {"learning_rate": 0.1 * (seed + 1)}, "model": {"width": 4}, **config}
    return row(arm, seed, value, config=plain, role=role)


def test_a_table_differs_from_itself_in_nothing() -> None:
    rows = arms([1.0, 2.0], [3.0, None])
    found = differences(rows, [*reversed(rows)])
    assert (found.both, found.only, found.runs, found.configs) == ({"lm": 4}, (0, 0), [], {})


def test_the_largest_relative_difference_of_a_run_is_told() -> None:
    mine, yours = arms([1.0, 2.0, 3.0], [1.0]), arms([1.0, 2.5, None, 4.0], [])
    mine[1]["final"]["validation_loss"] = 2.5 * (1 + 1e-9)  # nearly as there, where the other metric is not
    mine[0]["timing"] = {"cpu_seconds": 9.0}  # which no two runs share
    found = differences(mine, yours)
    assert (found.both, found.only) == ({"lm": 3}, (1, 1))
    assert found.runs == [
        Difference("lm", "layer-s1", "test_loss", (2.0, 2.5), 0.2),
        Difference("lm", "layer-s2", "test_loss", (3.0, None), math.inf),
    ]


def test_configurations_are_those_of_arms_without_what_varies_in_them() -> None:
    mine = [run("layer", 0, 1.0), run("none", 0, 1.0), run("batch", 0, 1.0), run("rms", 0, 1.0)]
    yours = [run("layer", 1, 1.0, model={"width": 8}), run("none", 1, 1.0, model={"width": 8}), run("batch", 7, 1.0)]
    yours += [run("other", 0, 1.0), run("rms", 0, 1.0, role="tune", evaluations=1), run("rms", 3, 1.0, ranks=1)]
    found = differences(mine, yours)
    assert found.arms == 4
    assert found.configs == {("lm", ("model.width=4 → 8",)): ["layer", "none"]}  # ranks=1 is what is not said
