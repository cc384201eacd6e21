"""What is seen of a sweep while it goes, on terminals wide and narrow."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from experiments.dashboards.progress import sweep_view
from experiments.records.folder import RunFolder


@dataclass
class Active:
    run: Any

    def seconds(self) -> float:
        return 75.0


@dataclass
class Sweep:
    active: dict[int, Active]
    total: int = 12
    counts: dict[str, int] = field(default_factory=lambda: {"here": 3})
    known: list[Path] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)
    failures: list[object] = field(default_factory=list)

    def seconds_left(self) -> float:
        return 90.0


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_line_for_each_run_below_the_bar(width: int, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "exact_data_parallel" / "sync_batch-s1000-0123456789")
    folder.path.mkdir(parents=True)
    (folder.path / "metrics.jsonl").write_text('{"update": 1234, "validation_loss": 0.5}\n')
    run = SimpleNamespace(config=SimpleNamespace(updates=12345), folder=folder)
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(sweep_view(Sweep({1: Active(run), 2: Active(run)})))
    state, bar, *runs = captured.get().splitlines()
    assert (
        state == "3 of 12 runs done, 2 running, 01:30 left" and set(bar.strip()) <= {"━", "╸", "╺"} and len(runs) == 2
    )
    for line in runs:
        assert len(line) <= width and line.startswith("exact_data_par")
        assert line.split()[-7:] == ["1234", "of", "12345", "updates", "loss", "0.500", "01:15"]
