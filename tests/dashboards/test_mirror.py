"""wandb is a view: offline by default, whole, each run by itself, and never needed; a project is asked what it has."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import wandb

from experiments import mirror as command
from experiments.dashboards.wandb import mirror, places, process
from experiments.dashboards.wandb import run as runs
from experiments.dashboards.wandb.run import AXES, concluded, described, identifier, logged
from experiments.records.files import SuiteError
from experiments.records.folder import FAILED, RESULT, RunFolder
from experiments.records.table import read_table
from scripts.live_speed import append, begin, config, end, history
from tests.dashboards.wandb_server import ENTITY, WandbServer

RUN, NEXT = config("layer", 8, 0, 10), config("layer", 8, 1, 10)  # two runs of five evaluations
ROWS = history(RUN, 5)
FAILURE = {"sweep": "a", "attempts": 2, "reason": "in the middle", "log": []}
REFERENCE = Path("results/reference/laptop").resolve()
HOSTILE = (
    "a\nb",
    "a/../../b",
    "<b>&'\"",
    "x" * 500,
    "\U0001f600",
    "nul\0",
    "lone\ud800",
    "[a]*?",
    "..",
    "\x1b[31m",
    "",
)


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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PAUSES", (0.0,))
    monkeypatch.setattr(places, "API_TIMEOUT", 1)
    monkeypatch.setattr(runs, "INIT_TIMEOUT", 1.0)
    monkeypatch.setattr(runs, "FINISH_TIMEOUT", 1.0)


@contextmanager
def mirroring(results: Path, online: bool = False) -> Iterator[mirror.Mirror]:
    with places.place(results, online) as place:
        yield mirror.Mirror(place)


def show_all(results: Path, into: Path | None = None, online: bool = False) -> str:
    with mirroring(into or results, online) as shown:
        return "\n".join([mirror.show_all(shown, results), *shown.complaints()])


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The command, in this process; raises SystemExit where it ends with another code than 0."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(command, "leave", leave)
    monkeypatch.setattr(sys, "argv", ["mirror", *arguments])
    command.main()


def kept(results: Path) -> list[Path]:
    """The folders of the runs shown, by what follows the time in their names."""
    return sorted((results / "wandb").glob("offline-run-*"), key=lambda path: path.name.split("-", 3)[3])


def inspected(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What wandb itself reads in the folder of a run, by kind; its own process writes on for a moment after the end."""
    asked = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    entries: dict[str, list[dict[str, Any]]] = {}
    for _ in range(10):
        entries.clear()
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
        for entry in map(json.loads, answer.stdout.splitlines()):
            entries.setdefault(entry["type"], []).append(entry[entry["type"]])
        if "exit" in entries:
            break
    return entries


# ------------------------------------------------------------------------------------------------------- what is shown


def test_what_wandb_has_is_the_record(tmp_path: Path, wandb_server: WandbServer) -> None:
    end(tmp_path, RUN, ROWS)
    lost: list[dict[str, Any]] = [*ROWS[:2], ROWS[2] | {"validation_loss": None}]
    end(tmp_path, NEXT, lost, "diverged")
    assert show_all(tmp_path, online=True).startswith("2 runs")
    for settings, rows in ((RUN, ROWS), (NEXT, lost)):
        name = f"invented-{RunFolder(end(tmp_path, settings, rows)).path.name}"
        found = wandb_server.run(name)
        for shown, row in zip(found.history, rows, strict=True):
            wanted = {name if name in AXES else f"invented/{name}": value for name, value in row.items()}
            wanted |= {"_step": row["update"], "samples": 8 * row["update"]}
            assert {name: None if shown[name] != shown[name] else shown[name] for name in wanted} == wanted
        losses = [row["validation_loss"] for row in rows if row["validation_loss"] is not None]
        assert found.summary["invented/best_validation_loss"] == min(losses) and found.summary["cpu_seconds"] == 1.0
        assert (found.opened["groupName"], found.opened["jobType"]) == ("invented/layer_b8", "evaluate")
        assert set(found.opened["tags"]) == {"layer", "mlp", "mnist", "smoke"}
        assert json.loads(found.opened["config"])["optim"]["value"] == RUN["optim"]


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
    with mirroring(tmp_path) as first, mirroring(tmp_path) as second:
        assert first.look(folder.path)
        (failed,) = kept(tmp_path)
        assert inspected(failed)["exit"] == [{"exit_code": 1}]
        end(tmp_path, RUN, ROWS)
        assert second.look(folder.path)
    (again,) = kept(tmp_path)  # whose name is the other's, if both were made within a second
    found = inspected(again)
    assert found["exit"] in ([{}], [{"exit_code": 0}])
    assert [entry["item"]["_step"] for entry in found["history"]] == [2, 4, 6, 8, 10]
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == [again.name]


def test_a_run_in_progress_is_followed_over_its_death(tmp_path: Path, wandb_server: WandbServer) -> None:
    """Killed after three evaluations, then done, and shown by another mirror: no step twice, none missing."""
    folder = begin(tmp_path, RUN, ROWS[:2])
    with mirroring(tmp_path, online=True) as first:
        assert not first.look(folder) and not wandb_server.runs  # only a sweep's runs are followed
        assert not first.look(folder, follow=True)
        append(folder, ROWS[2:3])
        assert not first.look(folder, follow=True)
        first.close()
    (found,) = wandb_server.runs.values()
    assert [row["_step"] for row in found.history] == [2, 4, 6]
    end(tmp_path, RUN, ROWS)
    with mirroring(tmp_path, online=True) as second:
        assert second.look(folder) and second.look(folder)
    assert found.state == "finished" and found.summary["invented/test_loss"] == ROWS[-1]["validation_loss"]
    shown = [(row["_step"], row["invented/validation_loss"]) for row in found.history]
    assert shown == [(row["update"], row["validation_loss"]) for row in ROWS]


def test_runs_that_a_sweep_names_are_shown_by_the_time_it_ends(tmp_path: Path, offline: None) -> None:
    folders = [end(tmp_path, RUN, ROWS), end(tmp_path, NEXT, ROWS)]
    with process.mirroring("wandb", str(tmp_path)) as tell:
        for folder in folders:
            tell(folder)
    assert [folder.name.split("-", 3)[3] for folder in kept(tmp_path)] == [f"invented-{path.name}" for path in folders]


def test_a_probes_distributions_are_histograms(tmp_path: Path, wandb_server: WandbServer) -> None:
    record: dict[str, Any] = RunFolder(end(tmp_path, RUN, ROWS)).record() or {}
    record |= {"history": [], "histograms": {"border": ([1, 2, 3], [0.0, 0.5, 1.0, 1.5])}}
    with mirroring(tmp_path, online=True) as shown:
        assert shown.show(record) and not shown.refused
    ((row,),) = (run.history for run in wandb_server.runs.values())
    assert row["invented/border"] == {"_type": "histogram", "values": [1, 2, 3], "bins": [0, 0.5, 1, 1.5]}


def test_the_verdicts_of_a_reproduction_are_a_run_of_their_own_once(tmp_path: Path, offline: None) -> None:
    for _ in range(2):
        with mirroring(tmp_path) as shown:
            shown.verdicts(REFERENCE)
        (folder,) = kept(tmp_path)
        (folder / "mine").touch()
    found = inspected(folder)
    assert folder.name.endswith("-verdicts-laptop") and found["run"][0]["job_type"] == "verdicts"
    logged = {name.partition(".")[0] for entry in found["history"] for name in entry["item"]}
    assert {"verdicts", "report"} <= logged and any(name.startswith("figures/") for name in logged)


def test_what_is_sent_of_the_reference_stays_within_wandbs_limits() -> None:
    """Measurements are job type `exact`, tuning keeps apart."""
    kinds = set()
    for row in read_table(REFERENCE)[0]:
        about = described({**row, "group": row["arm"]}, ["claim"])
        kinds.add(about["job_type"])
        assert about["id"] == f"{row['experiment']}-{row['run']}"
        assert len(about["id"]) <= 128 and all(0 < len(tag) <= 64 for tag in about["tags"]) and "claim" in about["tags"]
        for point in row["history"]:
            assert any("/tuning/" in name for name in logged({**row}, point)) == (row["role"] == "tune")
        assert set(concluded({**row})) >= {"status", "wall_seconds"}
    assert kinds == {"tune", "evaluate", "exact"}


def test_claims_are_tags_of_their_own_arms_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a smoke run, and not of one that its record does not call an arm's."""
    tags: list[list[str]] = []
    monkeypatch.setattr(mirror, "WandbRun", lambda record, claims, _: tags.append(described(record, claims)["tags"]))
    claimed: dict[str, Any] = {"config": RUN | {"data": {"name": "text"}}}
    claimed |= {"experiment": "lm_gru", "run": "r", "group": "layer", "role": "evaluate", "scale": "laptop"}
    with mirroring(tmp_path) as shown:
        for record in (claimed, claimed | {"arm": "layer"}, claimed | {"scale": "smoke"}, claimed | {"arm": None}):
            shown.opened(record)
    assert tags[0] == tags[1] and len(tags[0]) > 4 and tags[2][3:] == ["smoke"] and tags[3][3:] == ["laptop"]


# ------------------------------------------------------------------------------------------------- what a project says


def test_what_a_project_does_not_have_is_sent_to_it(
    tmp_path: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was sent before: it was emptied, it is another one or another account's."""
    folders = [end(tmp_path, config("layer", 8, seed, 10), ROWS) for seed in range(3)]
    names = {f"invented-{folder.name}" for folder in folders}
    places_of = {
        "": (ENTITY, places.PROJECT),
        "WANDB_ENTITY": ("team", places.PROJECT),
        "WANDB_PROJECT": ("team", "mine"),
    }
    for variable, place in places_of.items():
        if variable:
            monkeypatch.setenv(variable, place[variable == "WANDB_PROJECT"])
        wandb.teardown()  # the environment is read anew
        for emptied in (False, True):
            if emptied:
                wandb_server.runs.clear()
            told = show_all(tmp_path, online=True)
            assert told == f"3 runs of {tmp_path} are in {wandb_server.url}/{'/'.join(place)}/workspace"
            assert {run[2] for run in wandb_server.runs if run[:2] == place} == names
    sent = len(wandb_server.operations)
    assert show_all(tmp_path, online=True) == told
    assert not {"upsertBucket", "file_stream"} & {*wandb_server.operations[sent:]}
    end(tmp_path, RUN, ROWS, "diverged")  # another record of the same run
    show_all(tmp_path, online=True)
    assert wandb_server.run(f"invented-{folders[0].name}").summary["status"] == "diverged"


@pytest.mark.parametrize("status", [400, 403, 409])
def test_a_run_that_is_refused_is_a_line_and_the_rest_is_sent(
    tmp_path: Path,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    hasty: None,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    for seed in range(3):
        end(tmp_path, config("layer", 8, seed, 10), ROWS)
    (tmp_path / "claims.json").write_bytes((REFERENCE / "claims.json").read_bytes())
    (tmp_path / "report.html").touch()
    name = f"invented-{RunFolder(end(tmp_path, RUN, ROWS)).path.name}"
    wandb_server.reason = f"run {name} was\npreviously created and deleted" if status == 409 else "\x1b[31mno"
    wandb_server.fault = lambda operation, run: status if (operation, run) == ("upsertBucket", name) else 0
    with pytest.raises(SystemExit, match=f"^{process.SOME_REFUSED}$"):
        given(monkeypatch, str(tmp_path))
    told = capsys.readouterr()
    assert told.out.startswith("2 runs of ") and told.out.endswith(" (1 refused)\n")
    assert told.err.startswith(f"wandb refused {name}: ") and told.err.count("\n") == 1 and "\x1b" not in told.err
    assert ("restore it" in told.err) == (status == 409)
    assert len(wandb_server.runs) == 3 and wandb_server.run("verdicts-laptop")


def test_what_did_not_arrive_is_told_and_sent_again(tmp_path: Path, wandb_server: WandbServer, hasty: None) -> None:
    end(tmp_path, RUN, ROWS)
    wandb_server.fault = lambda operation, run: 403 if operation == "file_stream" else 0
    told = show_all(tmp_path, online=True)
    assert told.startswith("0 runs") and "(1 refused)\nwandb refused invented-" in told
    wandb_server.fault = lambda operation, run: 0
    assert show_all(tmp_path, online=True).startswith("1 runs")
    (found,) = wandb_server.runs.values()
    assert [row["update"] for row in found.history] == [row["update"] for row in ROWS]


@pytest.mark.parametrize(
    ("since", "trouble"),
    [("viewer", "it hangs"), ("viewer", "it errs"), ("upsertBucket", "it errs"), ("file_stream", "it hangs")],
)
def test_a_server_in_trouble_costs_a_line(
    tmp_path: Path, wandb_server: WandbServer, hasty: None, since: str, trouble: str
) -> None:
    """From the start, or from the middle on: the mirror ends, and nothing of it is left."""
    end(tmp_path, RUN, ROWS)
    over, begun = Event(), Event()

    def fault(operation: str, run: str) -> int:
        if operation == since:
            begun.set()
        if begun.is_set() and trouble == "it hangs":
            over.wait(30)
        return 500 if begun.is_set() else 0

    wandb_server.fault = fault
    with pytest.raises(SuiteError, match=r"^wandb: [^\n]* WANDB_BASE_URL [^\n]*$"):
        show_all(tmp_path, online=True)
    over.set()
    assert not [*(tmp_path / "wandb").iterdir()]


def test_a_slow_server_is_waited_for(tmp_path: Path, wandb_server: WandbServer) -> None:
    def fault(operation: str, run: str) -> int:
        time.sleep(0.1)
        return 0

    wandb_server.fault = fault
    end(tmp_path, RUN, ROWS)
    assert show_all(tmp_path, online=True).startswith("1 runs")


# ------------------------------------------------------------------------------------------------- what is not shown


@pytest.mark.parametrize("key", ["", "0", "0" * 40])  # none, too short to be one, refused
def test_without_an_account_there_is_one_line(
    tmp_path: Path,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    key: str,
) -> None:
    """Also of a command that has several sweeps."""
    wandb_server.fault = lambda *_: 401
    for name, value in {"WANDB_MODE": "online", "WANDB_API_KEY": key, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process, "given_up", [])
    for settings in (RUN, NEXT):
        with process.mirroring("wandb", str(tmp_path)) as tell:
            tell(end(tmp_path, settings, ROWS))
    printed = capfd.readouterr().err
    assert printed.startswith("wandb: ") and printed.count("\n") == 1
    assert all(word in printed for word in ("WANDB_API_KEY", "wandb login", "WANDB_BASE_URL", "layernorm mirror"))


@pytest.mark.parametrize(
    "switch", ["WANDB_MODE=disabled", "WANDB_DISABLED=true", "WANDB_DISABLED=1", "config/settings", "wandb/settings"]
)
def test_switched_off_it_shows_nothing(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], switch: str
) -> None:
    """By the environment, in which case no mirror is even started, or by `wandb disabled`."""
    monkeypatch.chdir(tmp_path)
    end(tmp_path / "results", RUN, ROWS)
    name, _, value = switch.partition("=")
    if value:
        monkeypatch.setenv(name, value)
        assert not process.wanted()
    else:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("[default]\nmode = disabled\n")
    given(monkeypatch)
    assert capsys.readouterr().out.startswith("nothing is shown") and not (tmp_path / "results" / "wandb").exists()


@pytest.mark.parametrize("mode", ["", "offline", "dryrun"])
def test_it_is_online_only_if_the_environment_says_so(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nmode = online\n")
    end(tmp_path, RUN, ROWS)
    given(monkeypatch, str(tmp_path))
    assert len(kept(tmp_path)) == 1


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


@pytest.mark.parametrize("online", [False, True])
def test_any_text_is_shown_or_refused_and_nothing_is_written_elsewhere(
    tmp_path: Path, wandb_server: WandbServer, online: bool
) -> None:
    record: dict[str, Any] = RunFolder(end(tmp_path / "made", RUN, ROWS[:2])).record() or {}
    record = json.loads(json.dumps(record))
    verdicts = json.loads((REFERENCE / "claims.json").read_text())["verdicts"][: len(HOSTILE)]
    results = tmp_path / "a" / "b" / "results"
    with mirroring(results, online) as shown:
        for text, verdict in zip(HOSTILE, verdicts, strict=True):
            verdict |= {"id": text, "statement": text, "scale": "../\n"}
            hostile = {**record, "experiment": text, "group": text, "final": {text: 1.0}, "timing": {text: 1.0}}
            hostile["config"] = {**record["config"], "data": {"name": text, "path": text}, text: text}
            hostile["history"] = [row | {text: 1.0} for row in record["history"]]
            assert shown.show(hostile)
        (results / "claims.json").write_text(json.dumps(verdicts))
        (results / "report.html").touch()
        shown.verdicts(results)
        shown.close()
    there = {path.name.split("-", 3)[3] for path in kept(results)} | {run[2] for run in wandb_server.runs}
    assert {*shown.shown} <= there and len({*shown.shown, *shown.refused}) == len(HOSTILE) + 1
    assert len(shown.refused) <= 2
    assert all(line.isprintable() for line in shown.complaints())
    assert {path.name for path in tmp_path.iterdir()} <= {"made", "a", "wandb-home"}
    assert [path.name for path in results.parent.iterdir()] == ["results"]


def test_ids_are_names_of_files_and_differ() -> None:
    ids = [identifier(text, "run") for text in (*HOSTILE, "a\tb", "x" * 499)]
    assert len({*ids}) == len(ids) and all(len(name) <= 128 and name.isascii() and "/" not in name for name in ids)
