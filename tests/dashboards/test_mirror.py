"""wandb is a view: offline by default, whole, each run by itself, and never needed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from experiments import mirror as command
from experiments.dashboards.wandb import mirror, process
from experiments.dashboards.wandb.run import AXES, concluded, described, identifier, logged
from experiments.records.folder import FAILED, RESULT, RunFolder
from experiments.records.table import read_table
from scripts.live_speed import append, begin, config, end, history
from tests.dashboards.wandb_server import WandbServer

RUN, NEXT = config("layer", 8, 0, 10), config("layer", 8, 1, 10)  # two runs of five evaluations
ROWS = history(RUN, 5)
FAILURE = {"sweep": "a", "attempts": 2, "reason": "in the middle", "log": []}


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """wandb reads its environment once a process."""
    yield
    wandb.teardown()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """wandb as it is without any settings; whatever tries to leave the machine comes to a door that is watched."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    for name, value in command.DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    with socket.create_server(("127.0.0.1", 0)) as door:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "WANDB_BASE_URL"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{door.getsockname()[1]}")
        yield
        door.setblocking(False)
        with pytest.raises(BlockingIOError):
            door.accept()


def show_all(results: Path, into: Path | None = None) -> str:
    shown = mirror.Mirror(into or results)
    try:
        return mirror.show_all(shown, results)
    finally:
        shown.place.close()


def kept(results: Path) -> list[Path]:
    """The folders of the runs shown, by what follows the time in their names."""
    return sorted((results / "wandb").glob("offline-run-*"), key=lambda path: path.name.split("-", 3)[3])


def inspected(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What wandb itself reads in the folder of a run, by kind."""
    asked = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in map(json.loads, answer.stdout.splitlines()):
        entries.setdefault(entry["type"], []).append(entry[entry["type"]])
    return entries


def steps(folder: Path) -> list[int]:
    return [entry["item"]["_step"] for entry in inspected(folder).get("history", [])]


def test_what_wandb_reads_back_is_the_record(tmp_path: Path, offline: None) -> None:
    end(tmp_path, RUN, ROWS)
    lost: list[dict[str, Any]] = [*ROWS[:2], ROWS[2] | {"validation_loss": None}]
    end(tmp_path, NEXT, lost, "diverged")
    assert show_all(tmp_path).startswith("2 runs")
    for folder, rows in zip(kept(tmp_path), (ROWS, lost), strict=True):
        found = inspected(folder)
        assert [entry["item"]["_step"] for entry in found["history"]] == [row["update"] for row in rows]
        for shown, row in zip((entry["item"] for entry in found["history"]), rows, strict=True):
            assert shown["samples"] == 8 * row["update"]
            wanted = {name if name in AXES else f"invented/{name}": value for name, value in row.items()}
            assert {name: shown[name] for name in wanted} == {
                name: "NaN" if value is None else value for name, value in wanted.items()
            }
        summary: dict[str, Any] = {}
        for entry in found["summary"]:
            summary |= entry["update"]
        losses = [row["validation_loss"] for row in rows if row["validation_loss"] is not None]
        assert summary["invented/best_validation_loss"] == min(losses) and summary["cpu_seconds"] == 1.0
        (about,) = found["run"]
        assert (about["run_group"], about["job_type"]) == ("invented/layer_b8", "evaluate")
        assert set(about["tags"]) == {"layer", "mlp", "mnist", "smoke"}
        assert about["config"]["update"]["optim"] == RUN["optim"]


def test_what_is_there_already_is_left_alone(tmp_path: Path, offline: None) -> None:
    end(tmp_path, RUN, ROWS)
    for _ in range(2):
        assert show_all(tmp_path, tmp_path / "fresh").startswith("1 runs")
        (folder,) = kept(tmp_path / "fresh")
        (folder / "mine").touch()
    assert (folder / "mine").exists() and not (tmp_path / "wandb").exists()


def test_a_failed_run_is_failed_and_a_later_success_takes_its_place(tmp_path: Path, offline: None) -> None:
    """By whichever mirror: neither takes the other's stage away."""
    folder = RunFolder(begin(tmp_path, RUN, ROWS[:3]))
    folder.fail(FAILURE)
    os.utime(folder.path / FAILED, (1e9, 1e9))  # kept runs are told apart by the second
    first, second = mirror.Mirror(tmp_path), mirror.Mirror(tmp_path)
    assert first.look(folder.path) and first.look(end(tmp_path, NEXT, ROWS))
    failed, _ = kept(tmp_path)
    assert inspected(failed)["exit"] == [{"exit_code": 1}] and len(steps(failed)) == 3
    end(tmp_path, RUN, ROWS)
    assert second.look(folder.path) and not failed.exists()
    first.place.close()
    second.place.close()
    again, other = kept(tmp_path)
    assert inspected(again)["exit"] in ([{}], [{"exit_code": 0}]) and steps(again) == steps(other) == [2, 4, 6, 8, 10]
    assert [path.name for path in (tmp_path / "wandb").iterdir() if path.name.startswith(".")] == []


def test_a_run_in_progress_is_followed_over_its_death(
    tmp_path: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after three evaluations, then done, and shown by another mirror: no step twice, none missing."""
    monkeypatch.setenv("WANDB_MODE", "online")
    folder = begin(tmp_path, RUN, ROWS[:2])
    first = mirror.Mirror(tmp_path)
    assert not first.look(folder) and not wandb_server.runs  # only a sweep's runs are followed
    assert not first.look(folder, follow=True)
    append(folder, ROWS[2:3])
    assert not first.look(folder, follow=True)
    first.close()
    first.place.close()
    (found,) = wandb_server.runs.values()
    assert [row["_step"] for row in found.history] == [2, 4, 6]
    end(tmp_path, RUN, ROWS)
    second = mirror.Mirror(tmp_path)
    assert second.look(folder) and second.look(folder)
    second.place.close()
    assert found.state == "finished" and found.summary["invented/test_loss"] == ROWS[-1]["validation_loss"]
    shown = [(row["_step"], row["invented/validation_loss"]) for row in found.history]
    assert shown == [(row["update"], row["validation_loss"]) for row in ROWS]


def test_what_the_server_refused_is_sent_again(
    tmp_path: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    end(tmp_path, RUN, ROWS)
    wandb_server.denied = {"file_stream"}
    assert "did not say that it has 1 of them" in show_all(tmp_path)
    wandb_server.denied = set()
    assert "did not say" not in show_all(tmp_path)
    (found,) = wandb_server.runs.values()
    assert [row["update"] for row in found.history] == [row["update"] for row in ROWS]
    sent = len(wandb_server.operations)
    assert show_all(tmp_path).startswith("1 runs") and len(wandb_server.operations) == sent


def test_runs_that_a_sweep_names_are_shown_by_the_time_it_ends(tmp_path: Path, offline: None) -> None:
    folders = [end(tmp_path, RUN, ROWS), end(tmp_path, NEXT, ROWS)]
    with process.mirroring("wandb", str(tmp_path)) as tell:
        for folder in folders:
            tell(folder)
    assert [steps(folder) for folder in kept(tmp_path)] == [[2, 4, 6, 8, 10]] * 2


def test_a_server_that_is_not_there_costs_a_line(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0")  # too short to be one
    monkeypatch.setattr(process, "given_up", [])
    for settings in (RUN, NEXT):
        with process.mirroring("wandb", str(tmp_path)) as tell:
            tell(end(tmp_path, settings, ROWS))
    printed = capfd.readouterr().err
    assert printed.count("wandb: ") == 1 and "Traceback" not in printed and "experiments.mirror" in printed


def test_without_wandb_there_is_one_line_and_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    monkeypatch.setattr(process, "given_up", [])
    process.installed.cache_clear()
    for _ in range(2):
        with process.mirroring("wandb", str(tmp_path)) as tell:
            tell(tmp_path)
    process.installed.cache_clear()
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "wandb").exists()


def test_a_probes_distributions_are_histograms(tmp_path: Path, offline: None) -> None:
    record: dict[str, Any] = RunFolder(end(tmp_path, RUN, ROWS)).record() or {}
    record |= {"history": [], "histograms": {"border": ([1, 2, 3], [0.0, 0.5, 1.0, 1.5])}}
    shown = mirror.Mirror(tmp_path)
    shown.show(record, 1)
    shown.place.close()
    (row,) = inspected(kept(tmp_path)[0])["history"]
    drawn = {name: row["item"][f"invented/border.{name}"] for name in ("_type", "values", "bins")}
    assert drawn == {"_type": "histogram", "values": [1, 2, 3], "bins": [0, 0.5, 1, 1.5]}


def test_the_verdicts_of_a_reproduction_are_a_run_of_their_own_once(tmp_path: Path, offline: None) -> None:
    for _ in range(2):
        shown = mirror.Mirror(tmp_path)
        shown.verdicts(Path("results/reference"))
        shown.place.close()
        (folder,) = kept(tmp_path)
        (folder / "mine").touch()
    found = inspected(folder)
    assert folder.name.endswith("-verdicts-laptop") and found["run"][0]["job_type"] == "verdicts"
    logged = {name.partition(".")[0] for entry in found["history"] for name in entry["item"]}
    assert {"verdicts", "report"} <= logged and any(name.startswith("figures/") for name in logged)


def test_what_is_sent_of_the_reference_stays_within_wandbs_limits() -> None:
    """Measurements are job type `exact`, tuning keeps apart."""
    kinds = set()
    for row in read_table("results/reference")[0]:
        about = described({**row, "group": row["arm"]}, ["claim"])
        kinds.add(about["job_type"])
        assert len(about["id"]) <= 128 and all(0 < len(tag) <= 64 for tag in about["tags"]) and "claim" in about["tags"]
        for point in row["history"]:
            assert any("/tuning/" in name for name in logged({**row}, point)) == (row["role"] == "tune")
        assert set(concluded({**row})) >= {"status", "wall_seconds"} and identifier({**row}) == about["id"]
    assert kinds == {"tune", "evaluate", "exact"}


def test_claims_are_tags_of_their_own_arms_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a smoke run, and not of one that its record does not call an arm's."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    tags: list[list[str]] = []
    monkeypatch.setattr(
        mirror, "WandbRun", lambda record, claims, stage: tags.append(described(record, claims)["tags"])
    )
    shown = mirror.Mirror(tmp_path)
    claimed: dict[str, Any] = {"config": RUN | {"data": {"name": "text"}}}
    claimed |= {"experiment": "lm_gru", "run": "r", "group": "layer", "role": "evaluate", "scale": "laptop"}
    for record in (claimed, claimed | {"arm": "layer"}, claimed | {"scale": "smoke"}, claimed | {"arm": None}):
        shown.opened(record)
    shown.place.close()
    assert tags[0] == tags[1] and len(tags[0]) > 4 and tags[2][3:] == ["smoke"] and tags[3][3:] == ["laptop"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "null"), ("config.json", '{"seed": 0}'), (RESULT, "{"), ("metrics.jsonl", '{"upd')],
)
def test_an_odd_folder_is_passed_over(tmp_path: Path, offline: None, name: str, content: str) -> None:
    """A damaged record is to be made anew; until then nothing of the run is left open in wandb."""
    odd = begin(tmp_path, RUN, ROWS[:1])
    (odd / FAILED).write_text("no JSON")
    (odd / name).write_text(content)
    end(tmp_path, NEXT, ROWS)
    assert show_all(tmp_path).startswith("1 runs")
