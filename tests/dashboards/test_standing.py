"""How runs stand, seen once, again and again, and when the looking is stopped."""

import io
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from experiments.dashboards.standing import line, state_table, watch
from experiments.records.folder import RunFolder
from experiments.sweeps.arm import Outcome


@dataclass
class TwoRuns:
    """Of an arm of two runs one is done, the other as it is said; at each look the next state is reached."""

    states: list[str]
    folder: RunFolder = field(default_factory=lambda: RunFolder(Path("layer-s1-0")))
    config: Any = field(default_factory=lambda: SimpleNamespace(experiment="tiny", norm="layer", seed=1, updates=6))
    by_arm = True

    @property
    def run(self) -> "TwoRuns":
        return self

    def look(self) -> None:
        self.states = self.states[1:] or self.states

    def counts(self) -> dict[str, Counter[str]]:
        return {"layer": Counter(["done", self.states[0]])}

    def running(self) -> list["TwoRuns"]:
        return [self] if self.states[0] == "running" else []

    def seconds(self) -> float:
        return 61.0

    def seconds_left(self) -> float | None:
        return 7.0 if self.states[0] == "running" else None

    def outcomes(self) -> list[Outcome]:
        history = [{"update": 1, "validation_loss": 2.0}, {"update": 2, "validation_loss": 1.0}]
        record = {"status": "completed", "config": {"optim": {"learning_rate": 0.1}}, "history": history, "final": {}}
        return [Outcome("tiny", "layer", 2, [record])]


def test_it_is_watched_until_all_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    watch(TwoRuns(["missing", "running", "done"]), Console(), curves=True)
    assert capsys.readouterr().out == "1 of 2 runs done, 1 missing\n"
    monkeypatch.setattr(time, "sleep", pytest.fail)
    watch(TwoRuns(["done"]), Console(), curves=True)  # nothing to wait for


def test_a_terminal_shows_the_runs_in_progress_and_what_came_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"update": 3, "validation_loss": 2.25}\n')
    screen = io.StringIO()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^1 of 2 runs done, 1 running; 00:07 left; runs in progress go on$"):
        console = Console(file=screen, force_terminal=True, color_system=None, width=150)
        watch(TwoRuns(["running"], RunFolder(tmp_path)), console, curves=True)
    text = screen.getvalue()
    assert f"{tmp_path.parent.name}/{tmp_path.name}  3 of 6 updates  loss 2.250  01:01" in text
    assert "1/2" in text and "validation" in text and "█▁" in text


def test_states_are_counted_by_arm_and_together() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(state_table(TwoRuns(["failed"]), whole=True))
    rows = [row.split() for row in captured.get().splitlines()]
    assert ["layer", "1", "1"] in rows and ["all", "1", "0", "1", "0"] in rows
    assert line(TwoRuns(["failed"])) == "1 of 2 runs done, 1 failed"
