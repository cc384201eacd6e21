"""Two studies are compared in a few short tables; what cannot be read is a line."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from experiments import compare
from experiments.records import studies
from experiments.records.rows import Row
from experiments.records.table import write_table
from experiments.reports.write import write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import judge
from tests.conftest import ORIGIN


def compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, words)])
    compare.main()
    return capsys.readouterr().out


@pytest.fixture
def moved(registry: Registry, rows: list[Row], tmp_path: Path) -> Path:
    """The golden runs but for one experiment, in which the arms are worse by what would settle a claim."""
    worse = [
        {**row, "final": {name: value and value + 1 for name, value in row["final"].items()}}
        if row["arm"] == "layer" and row["experiment"] == "language" and row["role"] == "evaluate"
        else row
        for row in rows
    ]
    write_table(worse, tmp_path / "moved", ORIGIN)
    write_report(registry, worse, judge(registry, worse), tmp_path / "moved", ORIGIN)
    return tmp_path / "moved"


def test_verdicts_that_moved_are_beside_each_other_and_runs_that_differ_are_counted(
    report: Path, moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = compared(monkeypatch, capsys, moved, report / "runs.csv")
    assert all(len(line) <= 80 for line in text.splitlines()) and "by A alone" in text
    assert re.search(
        r"^G1-better: opposed\n  A +✘ contradicted  \S+ bits/character \[.*\n  B +✔ supported ", text, re.M
    )
    assert re.search(r"^Runs: 93 in both, 8 of them with other numbers; 0 in A alone, 0 in B alone\.$", text, re.M)
    assert re.search(r"^ language +8 of \d+ ", text, re.M)
    assert not re.search(r"^G7-invariant", text, re.M)
    assert re.search(r"^G7-invariant", compared(monkeypatch, capsys, moved, report, "--all"), re.M)


def test_the_frozen_study_of_the_scale_is_the_other_unless_another_is_named(
    report: Path, moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = "smoke"  # of the golden runs
    monkeypatch.setattr(studies, "REFERENCE", moved.parent / "reference")
    with pytest.raises(SystemExit, match=f"no frozen study of scale {scale}; name a second folder"):
        compared(monkeypatch, capsys, moved)
    shutil.copytree(report, moved.parent / "reference" / scale)
    assert "8 of them with other numbers" in compared(monkeypatch, capsys, moved)


@pytest.mark.parametrize("missing", ["configs.json", "runs.csv", "claims.json"])
def test_a_folder_without_a_table_is_a_line(
    missing: str, moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (moved / missing).unlink()
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{missing} does not exist; make reproduce writes") as end:
        compared(monkeypatch, capsys, moved, moved)
    assert end.value.code != 0
