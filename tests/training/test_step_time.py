"""Time per update, side by side: what is recorded and shown. How long it takes is never asserted."""

from pathlib import Path
from typing import Any

import pytest

from data import text
from experiments.records.arm_rows import group_runs
from experiments.records.table import Origin
from experiments.reports.page import contents
from experiments.reports.page import text as markdown
from experiments.sweeps.preflight import check_runnable
from experiments.training.probes import step_time
from experiments.training.run import run
from experiments.training.schema import ConfigError
from experiments.verdicts.claims import Registry
from models import kernels, language_model
from tests.invented import row
from tests.models.implementation import on
from tests.training.test_run import tiny


def recurrent(results: Path, **changes: Any) -> Any:
    source = text.Config(corpus="synthetic", sequence_length=6, validation_size=400, test_size=400)
    return tiny(results, model=language_model.Config(hidden_size=4), data=source, **changes)


def test_times_are_recorded_as_times_and_every_norm_is_measured(tmp_path: Path) -> None:
    record = run(recurrent(tmp_path, method="step_time"))
    assert record["final"] == {} and set(step_time.METRICS) == set(record["timing"]) - {"cpu_seconds", "wall_seconds"}
    assert all(record["timing"][name] > 0 for name in step_time.METRICS)


@pytest.mark.parametrize("kernel", ["native", "reference"])
def test_a_record_says_which_implementation_recurrent_layers_ran_on(kernel: str, tmp_path: Path) -> None:
    on(kernel)
    assert run(recurrent(tmp_path, kernel=kernel))["environment"]["kernel"] == kernel
    assert run(tiny(tmp_path, kernel=kernel))["environment"]["kernel"] == kernel  # of the updates of an MLP


def test_a_kernel_that_is_not_there_is_refused_before_the_first_run_or_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "unavailable", lambda: "the kernels are away")
    for config in (recurrent(tmp_path, kernel="native"), tiny(tmp_path, kernel="native")):
        with pytest.raises(ConfigError, match=r"^kernel=native: the kernels are away$"):
            check_runnable([config])
    check_runnable([recurrent(tmp_path), recurrent(tmp_path, norm="none"), recurrent(tmp_path, kernel="reference")])
    assert capsys.readouterr().err.count("the kernels are away") == 1


def test_the_report_shows_medians_and_ratios() -> None:
    config = {"method": "step_time", "batch_size": 16, "model": {"name": "language_model", "hidden_size": 64}}
    times = {f"milliseconds_{norm}": 2.0 for norm in step_time.COMPARED} | {
        "layer_over_none": 1.1,
        "batch_over_none": 1.25,
    }
    rows = [
        row("gru", seed, None, timing={k: v * scale for k, v in times.items()}, config=config, experiment="step_time")
        for seed, scale in enumerate((1.0, 2.0, 50.0))
    ]
    report = markdown(contents(Registry(0.05, 10, ()), group_runs(rows), [], Origin("make reproduce"), {}))
    assert "| recurrent layer | runs | none | batch | layer |" in report
    assert "| `gru` | 3 | 4.00 | 4.00 (× 2.50) | 4.00 (× 2.20) |" in report
