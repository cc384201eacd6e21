"""wandb is a view: offline by default, whole, and never needed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import tracking
from experiments.run import run
from tests.test_run import tiny

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, CLOSED)  # whatever tried to leave the machine would fail here


def test_a_finished_run_is_mirrored_whole_and_offline(tmp_path: Path, offline: None) -> None:
    record = run(tiny(tmp_path))
    tracking.mirror(record, tmp_path)
    assert os.environ["WANDB_MODE"] == "offline" and os.environ["WANDB_ERROR_REPORTING"] == "false"
    tracking.mirror(record, tmp_path)  # asked twice, mirrored once
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert record["run"] in folder.name
    told = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    entries = [json.loads(line) for line in told.stdout.splitlines()]
    logged = [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    assert [row["validation_loss"] for row in logged] == [row["validation_loss"] for row in record["history"]]
    assert f"tiny/{record['group']}" in told.stdout and f'"status":"{record["status"]}"' in told.stdout.replace(" ", "")


def test_without_wandb_there_is_one_line_and_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    tracking.installed.cache_clear()
    record = run(tiny(tmp_path))
    for _ in range(2):
        tracking.mirror(record, tmp_path)
    tracking.installed.cache_clear()
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "wandb").exists()


def test_a_failing_mirror_is_told_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(record: dict[str, Any], results: Path) -> None:
        raise OSError("no space\nleft")

    monkeypatch.setattr(tracking, "write", fail)
    monkeypatch.setattr(tracking, "given_up", [])
    for seed in (0, 1):
        tracking.mirror(run(tiny(tmp_path, seed=seed)), tmp_path)
    told = capsys.readouterr().err
    assert "not mirrored to wandb, nor are later runs: no space left" in told and told.count("\n") == 1
