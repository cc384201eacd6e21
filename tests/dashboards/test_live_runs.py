"""Runs that are read as they change, and folders of any kind."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document

from experiments.dashboards.live import texts
from experiments.dashboards.live.page import Page
from experiments.dashboards.live.runs import LiveResults, names, results_below
from experiments.records.files import RecordError
from experiments.records.folder import FAILED, RESULT, RunFolder
from experiments.records.locks import hold
from experiments.records.table import read_table
from experiments.reports.settings import RATE
from scripts.live_speed import EXPERIMENT, append, begin, config, described, end, history
from tests.dashboards.seen import POINTS, only_run


def test_a_table_of_runs_shows_what_its_records_did() -> None:
    rows, _ = read_table("results/reference/laptop")
    kept = results_below(Path("results/reference/laptop"))
    assert kept.counts() == {"done": len(rows)} and kept.folders[kept.latest()]
    shown = {(name, run.name): run for name in kept.folders for run in kept.runs(name)}
    for row in rows:
        run = shown[row["experiment"], row["run"]]
        assert (run.state, run.arm, run.role) == (row["status"], row["arm"], row["role"])
        assert run.config[RATE] == row["learning_rate"] and run.final == (row["final"] or row["timing"])
        assert [point.get("validation_loss") for point in row["history"]] == [
            None if np.isnan(loss) else loss for loss in run.curves.get("validation_loss", ())
        ]


def test_a_run_in_progress_is_read_on_and_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    settings, live = config("layer", 8, 0, 80), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:2])
    assert only_run(live).curves["update"].tolist() == [10, 20]
    changes = live.changes[EXPERIMENT]
    half = json.dumps(rows[2])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(half[:20])
        file.flush()
        assert only_run(live).curves["update"].tolist() == [10, 20]
        file.write(half[20:] + "\nno JSON\n")
    append(folder, [rows[3] | {"validation_loss": None}])
    found = only_run(live).curves
    assert found["update"].tolist() == [10, 20, 30, 40] and live.changes[EXPERIMENT] > changes
    assert np.array_equal(found["validation_loss"], [r["validation_loss"] for r in rows[:3]] + [np.nan], equal_nan=True)


def test_a_run_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    settings, live = config("layer", 8, 0), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:3])
    only_run(live)
    (folder / "metrics.jsonl").unlink()
    append(folder, [row | {"seconds": 9.0} for row in rows[:5]])  # already longer than what was read
    assert only_run(live).curves["seconds"].tolist() == [9.0] * 5


def test_states_follow_the_folder_and_nothing_is_written(tmp_path: Path) -> None:
    settings, live = config("batch", 8, 3), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:1])
    before = sorted(tmp_path.rglob("*"))
    assert (only_run(live).state, only_run(live).arm, only_run(live).role) == ("stopped", "batch_b8", "evaluate")
    assert sorted(tmp_path.rglob("*")) == before
    with hold(folder):
        assert only_run(live).state == "running" and live.counts() == {"running": 1}
    (folder / FAILED).write_text(json.dumps({"sweep": "", "attempts": 1, "reason": "no <room>", "log": []}))
    assert (only_run(live).state, only_run(live).reason) == ("failed", "no <room>")
    end(tmp_path, settings, rows, "diverged")
    assert only_run(live).diverged and live.counts() == {"done": 1}
    end(tmp_path, settings, rows[:2])  # another record in its place
    assert only_run(live).state == "completed" and len(only_run(live).curves["update"]) == 2
    (folder / RESULT).write_text("{}")
    assert only_run(live).state == "unreadable"


def test_done_runs_are_read_once_and_only_where_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        settings = config("none", 2, seed)
        end(tmp_path, settings, history(settings, 2))
    read: list[Path] = []
    whole = RunFolder.record

    def noted(folder: RunFolder) -> dict[str, Any] | None:
        read.append(folder.path)
        return whole(folder)

    monkeypatch.setattr(RunFolder, "record", noted)
    live = LiveResults(tmp_path)
    live.look()
    assert live.counts() == {"done": 3} and live.latest() in ("", EXPERIMENT) and read == []
    for _ in range(3):
        live.look(EXPERIMENT)
    assert len(read) == 3 == len(live.runs(EXPERIMENT))


@pytest.mark.parametrize("made", ["", "runs", "runs/empty"])
def test_an_empty_folder_is_waited_for(tmp_path: Path, made: str) -> None:
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    live = LiveResults(tmp_path if made else tmp_path / "missing")
    live.look("anything")
    assert (live.counts().total(), live.runs("anything"), live.latest()) == (0, [], "")


RIGHT = config("layer", 8, 0)


def test_odd_folders_stop_nothing(tmp_path: Path) -> None:
    texts = ("", "null", "[]", "3", "\0", '{"a":', "9" * 5000)
    changes: list[dict[str, Any]] = [
        {"config": None},
        {"config": []},
        {"run": 3},
        {"group": None},
        {"role": "x"},
        {"role": []},
        {},
    ]
    lines = ("[]", "3\nnull", '{"update": 1e999}', '{"update": "x"}', '{"update": 1, "x": [1]}', "{}")
    failed = {"failed.json": '{"sweep": 1, "attempts": null, "reason": [], "log": 3}'}
    written = [{"config.json": text} for text in texts] + [{"changes": json.dumps(change)} for change in changes]
    for seed, files in enumerate([*written, *({"metrics.jsonl": text} for text in lines), failed]):
        known = described(config("layer", 8, seed))
        known |= json.loads(files.pop("changes", "{}"))
        folder = tmp_path / "runs" / EXPERIMENT / described(config("layer", 8, seed))["run"]
        folder.mkdir(parents=True)
        for name, text in ({"config.json": json.dumps(known)} | files).items():
            (folder / name).write_text(text)
    assert_shown(tmp_path)


def test_odd_configurations_stop_nothing(tmp_path: Path) -> None:
    """Their hash is right: whoever wrote them meant it."""
    for key in ("seed", "batch_size", "updates", "norm", "evaluations", "model", "data", "optim"):
        values: tuple[Any, ...] = (None, [], {}, "x", 1e999, -1, 10**100, True, {"learning_rate": "x", "path": 10**400})
        for value in values:
            with suppress(TypeError, AttributeError, RecordError):  # nothing that has a name, or too long a one
                begin(tmp_path, RIGHT | {key: value}, history(RIGHT, POINTS))
    assert len(names(tmp_path / "runs" / EXPERIMENT)) > 50
    assert_shown(tmp_path)


def test_odd_records_stop_nothing(tmp_path: Path) -> None:
    for place, key in enumerate(("status", "history", "final", "timing", "role", "group")):
        for seed, value in enumerate((None, [3], "x", {"x": "y", "loss_at_rate_x": 1.0}, 10**400)):
            settings = config("layer", 8, 10 * place + seed)
            folder = RunFolder(end(tmp_path, settings, history(settings, POINTS)))
            folder.finish({**(folder.record() or {}), key: value})
    assert_shown(tmp_path)


def test_links_in_a_circle_and_files_in_the_place_of_folders_stop_nothing(tmp_path: Path) -> None:
    within = begin(tmp_path, RIGHT, [])
    for folder in (tmp_path / "runs", within.parent):
        (folder / "circle").symlink_to(folder / "circle")
        (folder / "file").write_bytes(bytes(range(256)))
    for name in ("result.json", "metrics.jsonl", "failed.json", "lock"):
        (within / name).unlink(missing_ok=True)
        (within / name).mkdir()
    assert_shown(tmp_path)


def assert_shown(results: Path) -> None:
    """A run that is well is drawn; the others as far as they can be, or as unreadable."""
    settings = config("batch", 8, 0, 80)
    well = end(results, settings, history(settings, POINTS)).name
    page = Page(Document(), LiveResults(results))
    runs = {run.name: run.state for run in page.results.runs(EXPERIMENT)}
    assert runs[well] == "completed" and well in page.table.source.data["note"]
    assert len(runs) > 1 and set(runs.values()) <= {"completed", "unreadable", "stopped", "failed", "diverged"}
    for name, widget in page.widgets.items():  # every choice there is
        for option in getattr(widget, "options", ()):
            widget.value = [option[0]] if name == "only" else option[0]
            assert page.curves.sources["dots"].data["x"].size or name in ("role", "only")


@pytest.mark.parametrize(
    "text", ["[3]", '[{"id": 3}]', "[" * 100_000, '{"made": 3, "verdicts": []}', '{"made": "x", "verdicts": []}']
)
def test_odd_verdicts_stop_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.json").write_text(text)
    told, verdicts = texts.verdicts(tmp_path)
    assert "claims.json" in told and "\n" not in told and verdicts == ()
    entry = json.loads(Path("tests/golden/claims.json").read_text())["verdicts"][0]
    for key in entry.keys() - {"reason"}:
        (tmp_path / "claims.json").write_text(json.dumps([entry | {key: {"x": [1]}}]))
        told, verdicts = texts.verdicts(tmp_path)
        assert verdicts or key in told
        texts.verdict_table(verdicts)
