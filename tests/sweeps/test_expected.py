"""What is missing before a sweep, and the time it is said to take, from invented runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.dashboards.standing import expected_line
from experiments.sweeps.arm import Arm
from experiments.sweeps.expected import Expected, expected
from experiments.training.schema import Config, Optim, Tuning
from tests.training.test_run import tiny

RATES, SEEDS = [1e-3, 1e-2, 1e-1], range(4)


def arm(results: Path, **changes: Any) -> Arm:
    return Arm(config(results, **changes), SEEDS)


def config(results: Path, **changes: Any) -> Config:
    return replace(tiny(results, optim=Optim(), tuning=Tuning(RATES, [1000], [])), arm="layer", **changes)


def took(arm: Arm, role: str, seconds: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of a study."""
    experiment, name = arm.name
    return [{"experiment": experiment, "arm": name, "role": role, "timing": {"cpu_seconds": s}} for s in seconds]


def done(arm: Arm, seconds: float) -> None:
    """The arm's trials are, as if they had been looked at."""
    for run in arm.trials:
        run.kept = {"timing": {"cpu_seconds": seconds}}


def test_a_study_says_how_many_rates_are_tried_and_how_long_each_run_takes(tmp_path: Path) -> None:
    one = arm(tmp_path)
    found = expected([one], took(one, "tune", [1, 2, 3, 2, 2]) + took(one, "evaluate", [10, 20]))
    assert found == Expected(9, Counter(study=9), 5 * 2 + 4 * 15, open=False)  # two rates more than are begun
    done(one, 7)
    one.evaluate_at(0.1)
    assert expected([one], took(one, "evaluate", [10, 20])) == Expected(7, Counter(study=4), 4 * 15, open=False)
    for run in one.evaluations:
        run.kept = {"timing": {"cpu_seconds": 1}}
    assert expected([one], ()) == Expected(7, Counter(), 0, open=False)


def test_without_a_study_runs_that_are_done_here_say_it_or_none_does(tmp_path: Path) -> None:
    quick, unknown = arm(tmp_path), arm(tmp_path, norm="none")
    done(quick, 7)
    found = expected([quick, unknown], took(arm(tmp_path, experiment="other"), "tune", [100]))
    assert found == Expected(3 + 4 + 7, Counter(here=4, nowhere=7), 4 * 7, open=True)


def test_a_trial_that_arms_share_is_made_once(tmp_path: Path) -> None:
    once, twice = expected([arm(tmp_path)], ()), expected([arm(tmp_path), arm(tmp_path)], ())
    assert twice.runs - once.runs == len(SEEDS) and twice.missing.total() - once.missing.total() == len(SEEDS)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Expected(9, Counter(), 0, open=False), "all 9 runs are done"),
        (
            Expected(9, Counter(nowhere=7), 0, open=True),
            "at least 7 of 9 runs are missing; how long they take is unknown, for no run like them is done",
        ),
        (
            Expected(9, Counter(study=5, here=1, nowhere=2), 240, open=False),
            "8 of 9 runs are missing: about 04:00 of CPU time, at best 02:00 with 2 at a time, as such runs took "
            "in ours and here; that of 2 is unknown",
        ),
        (
            Expected(9, Counter(here=8), 7200, open=False),
            "8 of 9 runs are missing: about 2:00:00 of CPU time, at best 1:00:00 with 2 at a time, as such runs "
            "took here",
        ),
    ],
)
def test_it_is_told_in_a_line_with_what_it_rests_on(found: Expected, line: str) -> None:
    assert expected_line(found, 2, "ours") == line
