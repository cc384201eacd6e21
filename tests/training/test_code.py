"""The code a run goes through: what its digest depends on, and what is told and done where it has changed."""

import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from data import text
from experiments.records.folder import CHECKPOINT, RESULT, RunFolder, stable
from experiments.sweeps.arm import Arm
from experiments.sweeps.arms import run_arms, run_tuned
from experiments.training import code
from experiments.training.identity import Run
from experiments.training.run import run
from experiments.training.schema import Config, Optim, Tuning
from models import language_model
from tests.training.test_run import tiny

ROOT = Path(__file__).parents[2]
MLP, LSTM, TABLE1, BORDER = RUNS = (
    ("train", "mlp", "mnist"),
    ("train", "language_model", "text"),
    ("table1", "mlp", "mnist"),
    ("border", "cnn", "cifar10"),
)
TRAINED = {MLP, LSTM}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of data, models and experiments, to be edited."""
    root = tmp_path_factory.mktemp("clone")
    kinds = [path for top in ("data", "models", "experiments") for path in (ROOT / top).rglob("*")]
    for path in kinds:
        if path.suffix in (".py", ".cpp", ".h"):
            (root / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / path.relative_to(ROOT))
    return root


def read_in(root: Path) -> ModuleType:
    """experiments.training.code as it is where it is imported from that clone."""
    spec = importlib.util.spec_from_file_location("code_of_a_clone", root / "experiments" / "training" / "code.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("file", "of"),
    [
        ("models/case_norms.py", set(RUNS)),
        ("models/mlp.py", {MLP, TABLE1}),
        ("models/rnn.py", {LSTM}),
        ("models/lstm_variants.py", {LSTM}),
        ("models/cnn.py", {BORDER}),
        ("models/kernels/cells.h", set(RUNS)),
        ("data/__init__.py", set(RUNS)),
        ("data/mnist.py", {MLP, TABLE1}),
        ("data/streams.py", {LSTM}),
        ("data/recall.py", set()),
        ("experiments/training/machine.py", set(RUNS)),
        ("experiments/training/train.py", {*TRAINED, BORDER}),
        ("experiments/training/final_tests.py", TRAINED),
        ("experiments/training/probes/table1.py", {TABLE1}),
        ("experiments/training/probes/parts/histogram.py", {BORDER}),
        ("experiments/training/probes/learning_rates.py", set()),
        ("experiments/training/debug.py", set()),
        ("experiments/sweeps/sweep.py", set()),
        ("experiments/verdicts/verdicts.py", set()),
        ("experiments/reports/page.py", set()),
        ("experiments/dashboards/live/page.py", set()),
    ],
)
def test_the_digest_of_a_run_changes_with_the_files_it_goes_through(file: str, of: set[Any], copy: Path) -> None:
    path = copy / file
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    try:
        edited = read_in(copy)
        assert {names for names in RUNS if edited.digest(*names) != code.digest(*names)} == of
    finally:
        path.write_bytes(content)
    assert [read_in(copy).digest(*names) for names in RUNS] == [code.digest(*names) for names in RUNS]


def entered(config: Config) -> set[str]:
    """The modules of ours in which a run enters a function."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_globals.get("__name__", ""))

    run(replace(config, results=f"{config.results}/first"))  # by then all is imported
    sys.setprofile(note)
    try:
        run(config)
    finally:
        sys.setprofile(None)
    return {name for name in found if name in code.FILES}


TEXT = {
    "model": language_model.Config(hidden_size=4),
    "data": text.Config(corpus="synthetic", sequence_length=8, validation_size=500, test_size=500),
}


@pytest.mark.parametrize("changes", [{}, {"norm": "batch"}, TEXT, {"method": "table1"}, {"method": "input_scaling"}])
def test_a_run_enters_no_file_that_its_digest_does_not_cover(changes: dict[str, Any], tmp_path: Path) -> None:
    config = tiny(tmp_path, **changes)
    covered = code.modules(config.method, config.model.name, config.data.name)
    finds_files, chooses = "experiments.training.probes", "models.kernels"  # by their names, and among kernels, if any
    assert entered(config) <= {*covered, *code.ASIDE, finds_files, chooses}


# ------------------------------------------------------------------------------------------------ where it has changed

OTHER = "was made by other code than this; rerun_changed=true makes it anew\n"


def made_otherwise(folder: RunFolder, **changes: Any) -> None:
    """As if other code had made a record; `code=None`: one that does not say which, as old ones."""
    record = folder.record()
    assert record
    record = {**record, **{"code": "0123456789"}, **changes}
    folder.finish({key: value for key, value in record.items() if value is not None})


@pytest.mark.parametrize("by", ["0123456789", None])
def test_a_record_of_other_code_is_told_and_made_anew_if_asked(
    by: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path)
    first, wanted = run_tuned(config), Run(config)
    assert capsys.readouterr().err == ""
    made_otherwise(wanted.folder, code=by, status="diverged")
    assert run_tuned(config)["status"] == "diverged"
    assert capsys.readouterr().err == f"{wanted.name} {OTHER}"
    run_arms([config])
    assert capsys.readouterr().err.count(OTHER) == 1
    anew = tiny(tmp_path, rerun_changed=True)
    assert stable(run_tuned(anew)) == stable(first) == stable(wanted.record() or {})
    written = (wanted.folder.path / RESULT).read_bytes()
    run_arms([anew])  # by now it is of this code
    assert (wanted.folder.path / RESULT).read_bytes() == written and OTHER not in capsys.readouterr().err


def test_of_many_records_of_other_code_one_line_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    config = tiny(tmp_path, optim=Optim(), tuning=tuning)
    run_tuned(config)
    arm = Arm(config, [0])
    for trial in arm.trials[:2]:
        made_otherwise(trial.folder)
    for command in (lambda: run_tuned(config), lambda: run_arms([config])):
        capsys.readouterr()
        command()
        (told,) = (line for line in capsys.readouterr().err.splitlines() if "other code" in line)
        which = f"2 of 4 runs found done were made by other code than this, {arm.trials[0].name} for one"
        assert told == f"{which}; rerun_changed=true makes them anew"


def test_a_rate_is_chosen_anew_where_its_trials_are_made_anew(tmp_path: Path) -> None:
    tuning = Tuning([1e-3, 1e-2, 1e-1], [1000], [])
    config = tiny(tmp_path, optim=Optim(), tuning=tuning)
    best = run_tuned(config)["config"]["optim"]["learning_rate"]
    other = next(trial for trial in Arm(config, [0]).trials if trial.config.optim.learning_rate != best)
    record = other.record() or {}
    made_otherwise(other.folder, final={**record["final"], "validation_loss": 0.0})
    assert run_tuned(config)["config"]["optim"]["learning_rate"] == other.config.optim.learning_rate
    anew = tiny(tmp_path, optim=Optim(), tuning=tuning, rerun_changed=True)
    assert run_tuned(anew)["config"]["optim"]["learning_rate"] == best


def test_a_checkpoint_of_other_code_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(tiny(tmp_path / "whole"))
    config = tiny(tmp_path / "stopped", checkpoint_seconds=0.0)

    def stop(history: list[Any]) -> None:
        if len(history) == 2:
            raise InterruptedError

    with monkeypatch.context() as before, pytest.raises(InterruptedError):
        before.setattr(code, "digest", lambda *names: "0123456789")
        run(config, stop)
    assert (Run(config).folder.path / CHECKPOINT).exists()
    seen: list[int] = []
    assert stable(run(config, lambda history: seen.append(len(history)))) == stable(whole)
    assert "of another run or made by other code" in capsys.readouterr().err and seen == [0, 1, 2]
