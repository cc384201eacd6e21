"""Debug runs say what they find and leave nothing behind that could be taken for a result."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import data
from data import text
from experiments.sweeps.arms import run_arms
from experiments.training import debug
from experiments.training.debug import DebugError
from experiments.training.schema import Config, ConfigError, Optim, Tuning
from models import language_model
from tests.training.test_run import tiny

LANGUAGE = {
    "model": language_model.Config(hidden_size=32),
    "data": text.Config(corpus="synthetic", sequence_length=12, validation_size=200, test_size=200),
    "batch_size": 4,
}


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "results"
    assert not (tmp_path / "results" / "runs").exists()


@pytest.mark.parametrize("changes", [{}, LANGUAGE], ids=["mlp", "language_model"])
def test_one_mini_batch_is_memorised(
    changes: dict[str, Any], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    debug.debug(tiny(results, debug="overfit", updates=200, optim=Optim(learning_rate=0.05), **changes))
    assert capsys.readouterr().out.splitlines()[-1].startswith("memorised: after 200 updates on one mini-batch")
    assert not results.exists()


@pytest.mark.parametrize(
    ("optim", "told"),
    [
        (Optim(learning_rate=1e-9), "% of its start, not below 1 %; try more updates or another learning rate"),
        (Optim(name="sgd", learning_rate=1e300), "the loss is nan, nan % of its start; debug=nan finds where it broke"),
    ],
)
def test_a_mini_batch_that_is_not_memorised_is_an_error(optim: Optim, told: str, results: Path) -> None:
    with pytest.raises(DebugError, match=told):
        debug.debug(tiny(results, debug="overfit", norm="none", optim=optim, updates=20))


@pytest.mark.parametrize("changes", [{}, LANGUAGE], ids=["mlp", "language_model"])
def test_the_whole_path_is_gone_once(
    changes: dict[str, Any], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optim, tuning = Optim(), Tuning(learning_rates=[1e-3, 1e-2, 1e-1])
    debug.debug(tiny(results, debug="fast", optim=optim, tuning=tuning, **changes))
    told = capsys.readouterr().out
    assert told.startswith("optim.learning_rate=0.01, the middle of tuning.learning_rates\ncompleted, ")
    assert "ms an update" in told and "validation_loss" in told and "test_loss" in told
    assert not results.exists()


def test_what_is_finite_is_said_to_be(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    debug.debug(tiny(results, debug="nan", **LANGUAGE))
    assert capsys.readouterr().out == "every output, gradient and weight of 6 updates is finite\n"


def broken(name: str, forward: Any) -> Any:
    """A net of the suite whose module `name` computes something else."""

    def build(config: Config, source: Any) -> nn.Module:
        model = BUILT(config, source)
        model.get_submodule(name).forward = forward
        return model

    return build


BUILT = debug.built


@pytest.mark.parametrize(
    ("name", "forward", "told"),
    [
        ("norms.1", lambda a: a / 0, r"update 1: output of norms.1 \(Unnormalized\) is not finite; its input was fin"),
        (
            "norms.0",
            lambda a: (a * 0).sqrt(),
            "update 1: in the backward pass Function 'SqrtBackward0' returned nan values in its 0th output.",
        ),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(
    name: str, forward: Any, told: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debug, "built", broken(name, forward))
    with pytest.raises(DebugError, match=told):
        debug.debug(tiny(results, debug="nan"))


def test_a_poisoned_weight_is_named(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: Config, source: Any) -> nn.Module:
        model = BUILT(config, source)
        model.get_parameter("linears.1.weight").data[0, 0] = torch.inf
        return model

    monkeypatch.setattr(debug, "built", build)
    with pytest.raises(DebugError, match=r"before update 1: linears\.1\.weight is not finite"):
        debug.debug(tiny(results, debug="nan"))


def test_a_wild_rate_is_named(results: Path) -> None:
    config = tiny(results, debug="nan", norm="none", optim=Optim(name="sgd", learning_rate=1e30))
    with pytest.raises(
        DebugError,
        match=r"update 3: output of linears\.1 \(Linear\) is not finite; its input was finite, largest \S+e\+30$",
    ):
        debug.debug(config)
    with pytest.raises(
        DebugError, match=r"update 1: the optimiser made linears\.\d\.weight not finite; its gradient was"
    ):
        debug.debug(replace(config, optim=Optim(name="sgd", learning_rate=1e300)))


def test_an_infinite_gradient_is_named(results: Path) -> None:
    config = tiny(results, debug="nan")
    source = data.load(config.data, batch_size=8, seed=0)
    watch = debug.Watch(BUILT(config, source))
    with pytest.raises(DebugError, match=r"update 0: gradient of linears\.1.weight is not finite"):
        (watch.model.get_parameter("linears.1.weight") * Tensor([torch.inf])).sum().backward()


def test_only_single_training_runs_can_be_debugged(results: Path) -> None:
    with pytest.raises(ConfigError, match="debug=nan with method=table1: only training runs can be debugged"):
        debug.debug(tiny(results, debug="nan", method="table1"))
    with pytest.raises(ConfigError, match="debug=nan is for single runs; leave it out, or -m"):
        run_arms([tiny(results, debug="nan")])


@pytest.mark.parametrize("arguments", [["debug=overfit"], ["-m", "debug=fast", "norm=layer", "seed=0"]])
def test_on_the_command_line_what_is_wrong_is_one_line(arguments: list[str], results: Path) -> None:
    options = ["data.source=synthetic", "model.hidden_sizes=[8]", "updates=2", f"results={results}"]
    command = [sys.executable, "-m", "experiments.run", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
