"""The state of the runs of an arm, and what is seen of it once, again and again, and when it is stopped."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.dashboards.standing import total, watch
from experiments.records.folder import CONFIG, RESULT
from experiments.sweeps.arm import Arm
from experiments.sweeps.arms import run_tuned
from experiments.sweeps.standing import Standing
from experiments.training import schema
from experiments.training.errors import told_in_one_line
from experiments.training.run import run
from experiments.training.schema import Config, Optim, Tuning
from tests.training.test_run import tiny


def arm_of_seven(results: Path) -> Config:
    return tiny(results, optim=Optim(), tuning=Tuning([1e-3, 1e-2, 1e-1], [1000], []), seeds=4)


def test_the_state_of_each_run_is_known_and_what_is_done_stays_so(tmp_path: Path) -> None:
    config = arm_of_seven(tmp_path)
    arm = Arm(config, range(4))
    arm.look()
    assert arm.counts() == {"missing": 7} and len(arm.runs) == 3  # the others wait for the tuning
    for seed in (0, 1):
        run_tuned(schema.at(config, seed, None))
    arm.look()
    failed, running = [found for found in arm.runs if found.state == "missing"]
    failed.folder.fail({"sweep": "", "attempts": 2, "reason": "", "log": []})
    (arm.trials[0].folder.path / RESULT).unlink()
    with running.folder.hold():
        arm.look()
    assert [found.state for found in arm.runs] == ["done"] * 5 + ["failed", "running"]
    standing = Standing([Arm(config, range(4))])
    standing.look()  # the rate was kept when it was chosen, so the evaluations are known without that trial
    assert total(standing) == {"done": 4, "missing": 2, "failed": 1}


@pytest.fixture
def half_done(tmp_path: Path) -> Standing:
    """An arm of two runs of which one is done."""
    config = tiny(tmp_path, seeds=2)
    run(config)
    standing = Standing([Arm(config, range(2))])
    standing.look()
    return standing


def test_evaluations_that_wait_for_their_rate_are_expected_to_take_as_long_as_the_trials(tmp_path: Path) -> None:
    quick, slow = (Arm(replace(arm_of_seven(tmp_path), norm=norm), range(4)) for norm in ("none", "layer"))
    standing, running = Standing([quick, slow]), quick.trials[0]
    running.folder.path.mkdir(parents=True)
    (running.folder.path / CONFIG).touch()
    with running.folder.hold():
        standing.look()
        assert standing.seconds_left() is None  # nothing is known of any
        for arm, seconds in ((quick, 1.0), (slow, 9.0), (slow, 9.0)):
            standing.order.timed(arm.trials[0], seconds)
        assert standing.seconds_left() == pytest.approx(3 * 1 + 3 * 9 + 4 * 1 + 4 * 9, abs=1)  # less what has passed


def at_rest(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    """Do this instead of waiting for the next look."""
    monkeypatch.setattr(time, "sleep", lambda seconds: what())


def test_it_is_watched_until_all_is_done(
    half_done: Standing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = next(half_done.runs("missing")).config
    at_rest(monkeypatch, lambda: run(missing))
    watch(half_done, Console(), curves=True)
    assert total(half_done) == {"done": 2} and capsys.readouterr().out == "1 of 2 runs done, 1 missing\n"
    at_rest(monkeypatch, pytest.fail)
    watch(half_done, Console(), curves=True)  # nothing to wait for


def test_a_terminal_shows_the_runs_in_progress_and_what_came_of_the_others(
    half_done: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = next(half_done.runs("missing"))
    running.folder.path.mkdir()
    (running.folder.path / "metrics.jsonl").write_text('{"update": 3, "validation_loss": 2.25}\n')
    (running.folder.path / CONFIG).touch()
    shown = io.StringIO()

    def end() -> None:
        raise KeyboardInterrupt

    at_rest(monkeypatch, end)
    with running.folder.hold():
        half_done.look()
        with pytest.raises(
            KeyboardInterrupt, match=r"^1 of 2 runs done, 1 running; 00:0\d left; runs in progress go on$"
        ):
            watch(half_done, Console(file=shown, force_terminal=True, color_system=None, width=100), curves=True)
    text = shown.getvalue()
    assert f"{running.name}  3 of 6 updates  loss 2.250" in text
    assert "1/2" in text and "validation" in text


def test_ctrl_c_ends_the_looking_in_one_line(
    half_done: Standing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    at_rest(monkeypatch, end)
    with pytest.raises(SystemExit) as stop:
        told_in_one_line(lambda: watch(half_done, Console(), curves=False))
    assert stop.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted; 1 of 2 runs done, 1 missing; runs in progress go on\n"
