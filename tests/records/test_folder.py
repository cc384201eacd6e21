"""One table of what may lie in a run's folder, and what everybody who shows or counts runs says of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from experiments.dashboards.live.runs import ENDED, LiveResults
from experiments.dashboards.standing import line, state_table, total
from experiments.dashboards.wandb import mirror
from experiments.records import files
from experiments.records.folder import CHECKPOINT, CONFIG, FAILED, LOCK, METRICS, RESULT, STATES, RunFolder
from experiments.records.studies import REFERENCE, studies
from experiments.records.table import read_table
from experiments.sweeps.arm import Arm
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.standing import Standing
from experiments.training import schema
from experiments.training.identity import Run
from experiments.training.run import run
from experiments.training.schema import Config
from tests.training.test_run import tiny

Record = dict[str, Any]
FAILURE = {"sweep": "a", "attempts": 2, "reason": "in the middle", "log": []}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return run(tiny(tmp_path_factory.mktemp("made")))


def start_of(record: Record) -> Record:
    return {key: record[key] for key in ("run", "experiment", "scale", "role", "group", "config")}


# ------------------------------------------------------------------------------------------------- what may lie there


def begun(folder: RunFolder, record: Record) -> None:
    folder.begin(start_of(record))
    (folder.path / METRICS).write_text('{"update": 3, "validation_loss": 2.25}\n{"upd')
    (folder.path / LOCK).touch()


def failed(folder: RunFolder, record: Record) -> None:
    begun(folder, record)
    folder.fail(FAILURE)


def done(folder: RunFolder, record: Record) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.finish(record)


def after(*steps: Callable[[RunFolder, Record], Any]) -> Callable[[RunFolder, Record], None]:
    def prepare(folder: RunFolder, record: Record) -> None:
        for step in steps:
            step(folder, record)

    return prepare


def wrote(name: str, content: str | bytes = "") -> Callable[[RunFolder, Record], None]:
    return lambda folder, record: files.write(folder.path / name, content)


def changed(name: str, change: Callable[[str], str]) -> Callable[[RunFolder, Record], None]:
    return lambda folder, record: wrote(name, change((folder.path / name).read_text()))(folder, record)


def copied(name: str, made: Callable[[RunFolder, Record], None], experiment: str, **of: Any) -> Any:
    """A file that lies in the folder of another run, copied into this one's."""

    def prepare(folder: RunFolder, record: Record) -> None:
        config = record["config"] | of
        other = record | {"run": files.run_id(config), "config": config, "experiment": experiment}
        source = RunFolder(folder.path.parents[3] / "elsewhere" / "runs" / experiment / other["run"])
        made(source, other)
        wrote(name, (source.path / name).read_text())(folder, record)

    return prepare


PLACES: dict[str, tuple[Callable[[RunFolder, Record], Any], str]] = {
    "nothing": (lambda folder, record: None, "missing"),
    "an empty folder": (lambda folder, record: folder.path.mkdir(parents=True), "missing"),
    "a lock nobody holds": (wrote(LOCK), "missing"),
    "begun and killed": (begun, "stopped"),
    "begun and killed before its first evaluation": (lambda folder, record: folder.begin(start_of(record)), "stopped"),
    "begun and held": (begun, "running"),
    "failed": (failed, "failed"),
    "failed, tried again and held": (failed, "running"),
    "begun, its failure damaged": (after(begun, wrote(FAILED, "{")), "stopped"),
    "done": (done, "done"),
    "done, what a killed process left beside it": (after(failed, done, begun, wrote(CHECKPOINT)), "done"),
    "done, and told of a death that was none": (after(done, failed), "done"),
    "done, and held": (done, "done"),
    "half a record": (after(done, changed(RESULT, lambda text: text[: len(text) // 2])), "unreadable"),
    "an empty record": (wrote(RESULT), "unreadable"),
    "a record that is a list": (wrote(RESULT, "[]"), "unreadable"),
    "a record that is no text": (wrote(RESULT, b"\xff\xfe"), "unreadable"),
    "a number changed in the record": (after(done, changed(RESULT, lambda text: text.replace("1", "2"))), "unreadable"),
    "the record of another seed": (copied(RESULT, done, "tiny", seed=1), "unreadable"),
    "the record of another experiment": (copied(RESULT, done, "other"), "unreadable"),
    "a damaged record, held": (after(begun, wrote(RESULT, "{")), "running"),
    "a damaged record, and failed when done again": (after(failed, wrote(RESULT, "{")), "failed"),
    "a damaged start": (wrote(CONFIG, "{"), "unreadable"),
    "a start that is a list": (wrote(CONFIG, "[]"), "unreadable"),
    "a start without a configuration": (
        lambda folder, record: folder.begin(start_of(record) | {"config": None}),
        "unreadable",
    ),
    "the start of another seed": (copied(CONFIG, begun, "tiny", seed=1), "unreadable"),
    "the start of another experiment": (copied(CONFIG, begun, "other"), "unreadable"),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, record: Record, tmp_path: Path) -> Iterator[tuple[Config, str]]:
    """The configuration of a run and the state its folder is in."""
    prepare, state = PLACES[request.param]
    config = tiny(tmp_path / "results")
    folder = Run(config).folder
    prepare(folder, record)
    with folder.hold() if "held" in request.param and "nobody" not in request.param else nullcontext():
        yield config, state


# --------------------------------------------------------------------------------------------------------- who is asked


def test_the_state_of_a_folder(place: tuple[Config, str]) -> None:
    config, state = place
    folder = Run(config).folder
    assert [folder.state, folder.state] == [state, state]  # it remembers what it saw of the record
    assert (folder.record() is not None) == (state == "done")
    assert state not in ("stopped", "failed") or folder.start() is not None


def test_a_sweep_does_again_what_is_not_done(place: tuple[Config, str]) -> None:
    config, state = place
    assert (Run(config).record() is not None) == (state == "done")


def test_status_counts_it_in_its_state(place: tuple[Config, str]) -> None:
    config, state = place
    standing = Standing([Arm(config, [config.seed])])
    standing.look()
    assert total(standing) == {state: 1}
    assert line(standing) == ("1 of 1 runs done" if state == "done" else f"0 of 1 runs done, 1 {state}")
    assert state in [column.header for column in state_table(standing, whole=True).columns]


def test_the_live_page_shows_it_in_its_state(place: tuple[Config, str]) -> None:
    config, state = place
    live = LiveResults(Path(config.results))
    live.look(config.experiment)
    shown = ["done" if found.state in ENDED else found.state for found in live.runs(config.experiment)]
    assert shown == ([] if state == "missing" else [state])
    assert live.counts() == Counter(shown)


class Shown:
    """In place of a run in wandb: what it was told."""

    told: ClassVar[list[str]] = []

    def __init__(self, record: Record, *_: Any) -> None:
        self.told.append(record["status"])

    def log(self, history: Any) -> None: ...
    def finish(self, *_: Any) -> None: ...


def test_the_mirror_shows_it_in_its_state(place: tuple[Config, str], monkeypatch: pytest.MonkeyPatch) -> None:
    config, state = place
    server: Any = SimpleNamespace(online=True, options={}, there={}, keep=lambda *_: None)
    monkeypatch.setattr(mirror, "WandbRun", Shown)
    monkeypatch.setattr(Shown, "told", [])
    ended = mirror.Mirror(server).look(Run(config).folder.path, follow=True)
    shown = ["done" if status in ENDED else status for status in Shown.told]
    assert shown == ([] if state in ("missing", "unreadable") else [state])
    assert ended == (state in ("done", "failed"))


def test_a_record_is_another_runs_if_its_configuration_is(record: Record, tmp_path: Path) -> None:
    config = tiny(tmp_path)
    done(Run(config).folder, record | {"config": record["config"] | {"seed": 1}})
    assert Run(config).record() is None
    assert run(config)["config"]["seed"] == 0


def test_the_table_has_every_state() -> None:
    assert {state for _, state in PLACES.values()} == set(STATES)


# ---------------------------------------------------------------------------------------------------------- old records


def test_a_record_of_an_older_age_is_read_shown_and_judged(record: Record, tmp_path: Path) -> None:
    """Such as are in results/ since before records said what code and which bytes they were made of."""
    config = tiny(tmp_path)
    old = {key: value for key, value in record.items() if key not in ("code", "data_digest", "alphabet")}
    wanted = Run(config)
    done(wanted.folder, old | {"group": "layer_b8"})
    text = (wanted.folder.path / RESULT).read_text()
    assert wanted.folder.state == "done" and run(config) == wanted.folder.record()
    assert (wanted.folder.path / RESULT).read_text() == text  # nobody has done it again
    assert wanted.changed(run(config))
    (row,) = collect_rows({("tiny", "layer"): Arm(config, [0])})
    assert (row["run"], row["final"].keys()) == (record["run"], record["final"].keys())


SMALL = 1000  # runs of a study of a few experiments, whose arms are quicker composed alone


@pytest.mark.parametrize("study", studies(REFERENCE), ids=lambda folder: folder.name)
def test_the_references_runs_have_the_ids_that_their_configurations_have_today(study: Path) -> None:
    rows, _ = read_table(study)
    assert all(files.run_id(row["config"]) == row["run"] for row in rows)
    scale, _, first_seed = study.name.partition("-")
    asked = [f"scale={scale}", *([f"first_seed={first_seed}"] if first_seed else [])]
    arms = composed_arms(asked, sorted({row["experiment"] for row in rows}) if len(rows) < SMALL else ())
    for row in rows:
        config = arms[row["experiment"], row["arm"]]
        seeds = config.tuning.every_seed if row["role"] == "tune" else config.evaluation_seeds
        assert row["seed"] in seeds
        once = {"evaluations": 1} if row["role"] == "tune" else {}
        science = schema.scientific(schema.at(config, row["seed"], row["learning_rate"])) | once
        assert files.run_id(science) == row["run"], (row["experiment"], row["arm"])
