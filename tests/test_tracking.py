"""wandb is a view: offline by default, whole, and never needed."""

import builtins
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
    folder = next((tmp_path / "wandb").glob("offline-run-*"))
    assert record["run"] in folder.name
    told = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    entries = [json.loads(line) for line in told.stdout.splitlines()]
    logged = [entry["history"] for entry in entries if entry["type"] == "history"]
    assert [row["validation_loss"] for row in logged] == [row["validation_loss"] for row in record["history"]]
    assert f"tiny/{record['group']}" in told.stdout and f'"status":"{record["status"]}"' in told.stdout.replace(" ", "")


def test_without_wandb_there_is_one_line_and_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert not tracking.available()
