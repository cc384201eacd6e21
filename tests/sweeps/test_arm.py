"""An arm: trials that climb to a learning rate, then the evaluation at it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from experiments.sweeps.arm import Arm, Plan, arms_of
from experiments.training.identity import Run
from experiments.training.schema import Config, Optim, Tuning
from tests.training.test_run import tiny

GRID = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]
SEEDS, FURTHER = [1000, 1001], [1002, 1003, 1004]


def config(results: Path, **options: Any) -> Config:
    return tiny(results, optim=Optim(), tuning=Tuning(GRID, SEEDS, FURTHER), **options)


def record(run: Run, best: float) -> dict[str, Any]:
    rates = GRID.index(run.config.optim.learning_rate or 0) - GRID.index(best)
    final = {"validation_loss": abs(rates) + run.config.seed / 1e6}
    plain = {"optim": {"learning_rate": run.config.optim.learning_rate}, "seed": run.config.seed}
    return {"config": plain, "status": "completed", "final": final, "timing": {}}


def done(plan: Plan, best: float) -> list[Run]:
    """All runs, in the order in which they become possible, each once."""
    queue, ran = list(plan.first()), dict[Path, Run]()
    while queue:
        run = queue.pop(0)
        if run.folder.path not in ran:
            ran[run.folder.path] = run
            queue += plan.after(run, record(run, best) if run.config.evaluations == 1 else {})
    return list(ran.values())


@pytest.mark.parametrize("best, tried", [(1e-1, 3), (10.0, 5), (1e-4, 5), (1e-2, 4)])
def test_an_arm_tries_what_it_needs_and_is_evaluated_at_the_best(tmp_path: Path, best: float, tried: int) -> None:
    arm = Arm(config(tmp_path), range(3))
    plan = Plan([arm])
    ran = done(plan, best)
    assert len(arm.trials) == tried * len(SEEDS) + 2 * len(FURTHER)
    assert {run.config.optim.learning_rate for run in arm.evaluations} == {best}
    assert len(ran) == plan.total == len(arm.trials) + 3


def test_arms_that_share_trials_run_them_once(tmp_path: Path) -> None:
    wide = config(tmp_path)
    other = dataclasses.replace(wide, tuning=Tuning(GRID[2:], SEEDS, FURTHER))
    plan = Plan([Arm(wide, range(2)), Arm(other, range(2, 4))])
    ran = done(plan, 1e-2)
    assert len({run.id for run in ran}) == len(ran) == plan.total
    assert {run.config.optim.learning_rate for arm in plan.arms for run in arm.evaluations} == {1e-2}


def test_what_is_asked_for_twice_is_one_run_of_one_arm(tmp_path: Path) -> None:
    same = [tiny(tmp_path, seed=0, optim=Optim(learning_rate=rate)) for rate in (0.1, 0.10, 1e-1)]
    (arm,) = arms_of(same)
    assert len(arm.evaluations) == Plan([arm]).total == arm.outcome().asked == 1
