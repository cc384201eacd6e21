"""wandb is a view: offline by default, whole, each run by itself, and never needed."""

import json
import math
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
from experiments.dashboards.wandb import run as shown_run
from experiments.records import files
from experiments.records.folder import FAILED, RESULT
from experiments.records.table import read_table
from experiments.sweeps.arms import run_arms
from experiments.training.identity import folder_of
from experiments.training.run import run
from experiments.verdicts.claims_file import load_claims
from tests.dashboards.wandb_server import WandbServer
from tests.training.test_run import tiny

FIVE = {"updates": 10, "evaluations": 5}


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


def inspected(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What wandb itself reads in the folder of a run, by kind."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in map(json.loads, told.stdout.splitlines()):
        found.setdefault(entry["type"], []).append(entry[entry["type"]])
    return found


def folders(results: Path) -> list[str]:
    """The names of the runs shown below a folder, by what follows the time in them."""
    names = [path.name for path in (results / "wandb").glob("offline-run-*")]
    return sorted(names, key=lambda name: name.split("-", 3)[3])


def test_what_wandb_reads_back_is_the_record(tmp_path: Path, offline: None) -> None:
    record, diverged = run(tiny(tmp_path)), run(tiny(tmp_path, seed=1, optim=steep()))
    assert diverged["status"] == "diverged"
    shown = mirror.Mirror(tmp_path)
    assert mirror.show_all(shown, tmp_path).startswith("2 runs")
    shown.place.close()
    for expected in (record, diverged):
        (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{shown_run.identifier(expected)}")
        found = inspected(folder)
        rows = [entry["item"] for entry in found["history"]]
        assert [row["_step"] for row in rows] == [row["update"] for row in rows]
        for row, recorded in zip(rows, expected["history"], strict=True):
            assert row["samples"] == 8 * recorded["update"]
            for name, value in recorded.items():
                assert same(row[name if name in shown_run.AXES else f"tiny/{name}"], value), name
        summary: dict[str, Any] = {}
        for entry in found["summary"]:
            summary |= entry["update"]
        for name, value in expected["final"].items():
            assert same(summary[f"tiny/{name}"], value), name
        assert {name: summary[name] for name in expected["timing"]} == expected["timing"]
        best = [row["validation_loss"] for row in expected["history"] if row["validation_loss"] is not None]
        assert not best or summary["tiny/best_validation_loss"] == min(best)
        (about,) = found["run"]
        assert (about["run_group"], about["job_type"]) == (f"tiny/{expected['group']}", "evaluate")
        assert {"layer" if expected["config"]["norm"] == "layer" else "none", "mlp", "smoke"} <= set(about["tags"])
        assert about["config"]["update"]["optim"] == expected["config"]["optim"]


def steep() -> Any:
    from experiments.training.schema import Optim

    return Optim(name="sgd", learning_rate=1e38)


def same(shown: Any, recorded: float | None) -> bool:
    return shown == recorded or (recorded is None and (shown == "NaN" or math.isnan(float(shown))))


def test_what_is_there_already_is_left_alone(tmp_path: Path, offline: None) -> None:
    run(tiny(tmp_path))
    (tmp_path / "fresh").mkdir()
    before = None
    for _ in range(2):
        shown = mirror.Mirror(tmp_path / "fresh")
        mirror.show_all(shown, tmp_path)
        shown.place.close()
        found = [(path.name, path.stat().st_ino) for path in (tmp_path / "fresh").glob("wandb/offline-run-*")]
        assert len(found) == 1 and before in (None, found)
        before = found
    assert not (tmp_path / "wandb").exists()


def test_a_failed_run_is_failed_and_stays_by_itself(tmp_path: Path, offline: None) -> None:
    """It leaves nothing in the next one, and a later success takes its place."""
    broken, next_one = tiny(tmp_path, **FIVE), tiny(tmp_path, seed=1)
    with pytest.raises(RuntimeError, match="in the middle"):
        run(broken, fail_after(3))
    told = {"sweep": "a", "attempts": 2, "reason": "in the middle", "log": []}
    files.write(folder_of(broken) / FAILED, json.dumps(told))
    shown = mirror.Mirror(tmp_path)
    assert shown.look(folder_of(broken))
    run(next_one)
    assert shown.look(folder_of(next_one))
    failed, other = (inspected(tmp_path / "wandb" / name) for name in folders(tmp_path))
    assert failed["exit"] == [{"exit_code": 1}] and len(failed["history"]) == 3
    assert other["exit"] in ([{}], [{"exit_code": 0}]) and len(other["history"]) == 2
    (folder_of(broken) / FAILED).unlink()
    run(broken)
    assert shown.look(folder_of(broken)) and len(folders(tmp_path)) == 2
    shown.place.close()
    again, _ = (inspected(tmp_path / "wandb" / name) for name in folders(tmp_path))
    assert [row["item"]["_step"] for row in again["history"]] == [2, 4, 6, 8, 10] and again["exit"] != failed["exit"]


def fail_after(rows: int) -> Any:
    def observe(history: list[dict[str, float]]) -> None:
        if len(history) == rows:
            raise RuntimeError("in the middle")

    return observe


def test_a_run_in_progress_is_followed_over_its_death(
    tmp_path: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after three evaluations, then done, and shown by another mirror: no step twice, none missing."""
    monkeypatch.setenv("WANDB_MODE", "online")
    config, folder = tiny(tmp_path, **FIVE), folder_of(tiny(tmp_path, **FIVE))
    with pytest.raises(RuntimeError):
        run(config, fail_after(3))
    first = mirror.Mirror(tmp_path)
    assert not first.look(folder) and not wandb_server.runs  # only a sweep's runs are followed
    assert not first.look(folder, follow=True) and not first.look(folder, follow=True)
    first.close()
    first.place.close()
    (name,) = wandb_server.runs
    assert [row["_step"] for row in wandb_server.runs[name].history] == [2, 4, 6]
    record = run(config)
    second = mirror.Mirror(tmp_path)
    assert second.look(folder) and second.look(folder)
    second.place.close()
    found = wandb_server.runs[name]
    assert found.state == "finished" and found.summary["tiny/test_loss"] == record["final"]["test_loss"]
    shown = [(row["_step"], row["tiny/validation_loss"]) for row in found.history]
    assert shown == [(row["update"], row["validation_loss"]) for row in record["history"]]


def test_a_sweep_is_mirrored_by_the_time_it_ends(tmp_path: Path, offline: None) -> None:
    run_arms([tiny(tmp_path, seed=0)])  # one is done before
    run_arms([tiny(tmp_path, tracking="wandb", seed=seed) for seed in range(3)])
    found = [name.split("-", 3)[3][: len("tiny-layer-s0")] for name in folders(tmp_path)]
    assert found == [f"tiny-layer-s{seed}" for seed in range(3)]


def test_a_server_that_is_not_there_costs_the_sweep_a_line(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0")  # too short to be one
    monkeypatch.setattr(process, "given_up", [])
    run_arms([tiny(tmp_path, tracking="wandb", seed=seed) for seed in range(2)])
    told = capfd.readouterr().err
    assert told.count("wandb") >= 1 and "Traceback" not in told and "experiments.mirror" in told
    assert len(list(tmp_path.rglob("result.json"))) == 2


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


def test_the_reference_can_be_shown_from_its_table_alone() -> None:
    """Claims of each arm are its tags; measurements are job type `exact`, and tuning keeps apart."""
    rows, _ = read_table("results/reference")
    registry = {arm: claim.id for claim in load_claims().claims for arm in claim.arms()}
    kinds = set()
    for row in rows:
        record = {**row, "group": row["arm"]}
        about = shown_run.described(record, [registry.get((row["experiment"], row["arm"]), "no claim")])
        kinds.add(about["job_type"])
        assert len(about["id"]) <= 128 and all(0 < len(tag) <= 64 for tag in about["tags"])
        for point in row["history"]:
            logged = shown_run.logged(record, point)
            assert ("/tuning/" in min(logged, key=lambda name: "/" not in name)) == (row["role"] == "tune")
        assert set(shown_run.concluded(record)) >= {"status", "wall_seconds"}
    assert kinds == {"tune", "evaluate", "exact"}


def test_a_probes_distributions_are_histograms(tmp_path: Path, offline: None) -> None:
    record = run(tiny(tmp_path))
    record |= {"config": {**record["config"], "method": "border"}, "history": []}
    record["histograms"] = {"pre_activations_border": ([1, 2, 3], [0.0, 0.5, 1.0, 1.5])}
    shown = mirror.Mirror(tmp_path)
    shown.show(record, 1)
    shown.place.close()
    (row,) = inspected(tmp_path / "wandb" / folders(tmp_path)[0])["history"]
    drawn = {name: row["item"][f"tiny/pre_activations_border.{name}"] for name in ("_type", "values", "bins")}
    assert drawn == {"_type": "histogram", "values": [1, 2, 3], "bins": [0, 0.5, 1, 1.5]}


def test_what_the_server_refused_is_sent_again(
    tmp_path: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    record = run(tiny(tmp_path))
    wandb_server.denied = {"file_stream"}
    first = mirror.Mirror(tmp_path)
    assert "did not say that it has 1 of them" in mirror.show_all(first, tmp_path)
    first.place.close()
    wandb_server.denied = set()
    second = mirror.Mirror(tmp_path)
    assert "did not say" not in mirror.show_all(second, tmp_path)
    second.place.close()
    (found,) = wandb_server.runs.values()
    assert [row["update"] for row in found.history] == [row["update"] for row in record["history"]]
    sent = len(wandb_server.operations)
    assert mirror.Mirror(tmp_path).look(folder_of(tiny(tmp_path))) and len(wandb_server.operations) == sent


def test_two_mirrors_leave_one_folder_of_a_run(tmp_path: Path, offline: None) -> None:
    """The failure that one has shown goes when the other shows the success; neither takes the other's stage away."""
    first, second = mirror.Mirror(tmp_path), mirror.Mirror(tmp_path)
    config = tiny(tmp_path, **FIVE)
    with pytest.raises(RuntimeError):
        run(config, fail_after(1))
    told = {"sweep": "a", "attempts": 2, "reason": "in the middle", "log": []}
    files.write(folder_of(config) / FAILED, json.dumps(told))
    assert first.look(folder_of(config))
    run(config)
    assert second.look(folder_of(config)) and len(folders(tmp_path)) == 1
    first.place.close()
    second.place.close()
    assert [path.name for path in (tmp_path / "wandb").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "null"), ("config.json", '{"seed": 0}'), ("result.json", "{"), ("metrics.jsonl", '{"upd')],
)
def test_an_odd_folder_is_passed_over(tmp_path: Path, offline: None, name: str, content: str) -> None:
    config = tiny(tmp_path, **FIVE)
    with pytest.raises(RuntimeError):
        run(config, fail_after(1))
    files.write(folder_of(config) / FAILED, "no JSON")
    (folder_of(config) / name).write_text(content)
    run(tiny(tmp_path, seed=1))
    shown = mirror.Mirror(tmp_path)
    assert mirror.show_all(shown, tmp_path).startswith("1 runs")
    shown.place.close()


def test_a_damaged_record_with_its_beginning_is_not_shown(tmp_path: Path, offline: None) -> None:
    """The run is to be made anew; until then nothing of it is left open in wandb."""
    config = tiny(tmp_path, **FIVE)
    with pytest.raises(RuntimeError):
        run(config, fail_after(1))
    (folder_of(config) / RESULT).write_text("{")
    shown = mirror.Mirror(tmp_path)
    assert not shown.look(folder_of(config)) and not shown.look(folder_of(config), follow=True) and not shown.open
    shown.place.close()
