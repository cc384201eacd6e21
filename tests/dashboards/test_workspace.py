"""The workspace in wandb: its panels show what runs have, and it is made once however often it is made."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import dashboard
from experiments.dashboards.wandb import outline as parts
from experiments.dashboards.wandb import workspace
from experiments.dashboards.wandb.outline import Outline, outlines
from experiments.records.files import SuiteError
from experiments.records.table import read_table
from experiments.reports.settings import RATE
from experiments.verdicts.claims_file import load_claims
from tests.dashboards.wandb_server import ENTITY, WandbServer

ROOT = Path(__file__).parents[2]
CLOSED = "http://127.0.0.1:9"  # where nobody answers


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return read_table(ROOT / "results" / "reference" / "laptop")[0]


@pytest.fixture(scope="module")
def every(table: list[dict[str, Any]]) -> list[Outline]:
    return outlines(table, load_claims())


def only(every: list[Outline], *names: str) -> list[Outline]:
    return [outline for outline in every if outline.experiment in names]


def test_what_there_is_to_show_is_what_runs_have(every: list[Outline], table: list[dict[str, Any]]) -> None:
    """Trainings come first; a metric of the panels is one of the runs; batch sizes are those of configurations."""
    trained = {row["experiment"] for row in table if row["history"]}
    assert [outline.experiment in trained for outline in every] == sorted(
        (outline.experiment in trained for outline in every), reverse=True
    )
    for outline in every:
        rows = [row for row in table if row["experiment"] == outline.experiment]
        ends = {name for row in rows for name in row["final"]}
        points = {name for row in rows for point in row["history"] for name in point}
        assert set(outline.finals) <= ends and set(outline.curves) <= points
        assert set(outline.colours) == {row["arm"] for row in rows}
        assert outline.by_batch == (len({row["config"]["batch_size"] for row in rows}) > 1)
        assert len(workspace.panels(outline)) == (
            (3 * bool(outline.curves) + outline.tuned + outline.by_batch) + len(outline.finals) + bool(outline.claims)
        )


def test_batch_sizes_are_asked_of_configurations_not_of_names() -> None:
    rows: list[dict[str, Any]] = [
        {"experiment": "mine", "arm": arm, "role": "evaluate", "learning_rate": 0.1, "history": [], "final": {}}
        | {"config": {"norm": "none", "batch_size": size}}
        for arm, size in (("plain", 8), ("other_b8", 8))
    ]
    registry = load_claims()
    assert not parts.outline_of("mine", rows, registry).by_batch
    rows[0]["config"] = {"norm": "none", "batch_size": 4}
    assert parts.outline_of("mine", rows, registry).by_batch


def test_made_again_it_is_renewed_and_once_deleted_made_anew(
    wandb_server: WandbServer, every: list[Outline], tmp_path: Path
) -> None:
    kept = tmp_path / "wandb" / "workspace.txt"
    first = workspace.publish(ENTITY, "project", only(every, "lm_lstm"), kept)
    address = kept.read_text().strip()
    assert first == f"the workspace is a new saved view of the project: {address}"
    assert address.startswith(f"{wandb_server.url}/{ENTITY}/project?nw=")
    again = workspace.publish(ENTITY, "project", only(every, "lm_lstm", "lm_gru"), kept)
    assert again == f"the workspace is renewed: {address}"
    (view,) = wandb_server.views.values()
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["Verdicts", "lm_gru", "lm_lstm"]
    assert all(f"lm_lstm/{name}" in view["spec"] for name in ("validation_bits_per_character", "train_loss"))
    assert RATE.replace(".", ".value.") in view["spec"]
    wandb_server.views.clear()
    assert "new saved view" in workspace.publish(ENTITY, "project", only(every, "lm_lstm"), kept)
    assert "new saved view" in workspace.publish(ENTITY, "another", only(every, "lm_lstm"), kept)
    assert len(wandb_server.views) == 2


def test_what_wandb_does_not_take_is_told_in_one_line(
    wandb_server: WandbServer, every: list[Outline], tmp_path: Path
) -> None:
    wandb_server.fault = lambda *_: 401
    with pytest.raises(SuiteError, match=r"^wandb: .*refused; [^\n]*--project[^\n]*$"):
        workspace.publish(ENTITY, "project", every[:1], tmp_path / "kept")
    assert not wandb_server.views and not (tmp_path / "kept").exists()


def test_without_a_key_or_a_server_the_command_ends_with_a_line(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**dashboard.WANDB, "HOME": str(tmp_path), "WANDB_BASE_URL": CLOSED}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["dashboard", str(tmp_path), "--entity", ENTITY])
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(SystemExit, match=r"^error: wandb: No API key.* `wandb login` .*WANDB_API_KEY[^\n]*$"):
        dashboard.main()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(SystemExit, match=r"^error: wandb: .*http://127.0.0.1:9.*connection refused[^\n]*$"):
        dashboard.main()


def test_without_the_library_the_command_says_so() -> None:
    script = "import sys; sys.modules['wandb_workspaces'] = None; from experiments.dashboard import main; main()"
    command = [sys.executable, "-c", script, "--entity", ENTITY]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1 and told.stderr.count("\n") == 1
    assert told.stderr.startswith("error: wandb_workspaces is not installed; make setup")
