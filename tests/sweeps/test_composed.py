"""Arms that were composed before are those that Hydra composes, and only as long as nothing has changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.sweeps import composed, memory
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.compose import compose_arms
from experiments.training import schema
from experiments.training.schema import Config

ASKED = ["scale=smoke"]


@pytest.fixture(autouse=True)
def few_experiments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A configs/ with a training run, a probe and a text, and a cache of its own."""
    configs = tmp_path / "configs"
    shutil.copytree(schema.CONFIGS, configs)
    for path in (configs / "experiment").glob("*.yaml"):
        if path.stem not in ("custom", "cnn_gap", "exact_mlp", "lm_lstm"):
            path.unlink()
    monkeypatch.setattr(schema, "CONFIGS", configs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def composings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Hydra was asked to compose."""
    asked: list[list[str]] = []

    def told(overrides: list[str], experiments: list[str]) -> dict[Name, Config]:
        asked.append(overrides)
        return compose_arms(overrides, experiments)

    monkeypatch.setattr(composed, "compose_arms", told)
    return asked


def test_what_is_remembered_is_what_was_composed(composings: list[list[str]]) -> None:
    first, again = composed.composed_arms(ASKED), composed.composed_arms(ASKED)
    assert composings == [ASKED]
    assert first == again == compose_arms(ASKED)
    assert [[run.id for run in Arm(config, [0]).runs] for config in first.values()] == [
        [run.id for run in Arm(config, [0]).runs] for config in again.values()
    ]
    assert composed.measured(first) == composed.measured(again)


def test_one_experiment_is_composed_alone_or_found_among_all(composings: list[list[str]]) -> None:
    alone = composed.composed_arms(ASKED, ["lm_lstm"])
    assert {experiment for experiment, _ in alone} == {"lm_lstm"}
    every = composed.composed_arms(ASKED)
    assert composed.composed_arms(ASKED, ["lm_lstm"]) == alone == {name: every[name] for name in alone}
    assert len(composings) == 2


def test_the_experiments_metrics_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    arms = compose_arms(ASKED)
    found = composed.measured(arms)
    monkeypatch.delattr(composed, "metric_names")
    assert composed.measured(arms) == found and "gradient_difference" not in found["lm_lstm"]


def damage(path: Path) -> None:
    path.write_text(path.read_text().replace("0.01", "0.02"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\x00")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [damage, cut, binary, folder])
def test_a_damaged_answer_is_made_anew_without_a_word(
    harm: Callable[[Path], None], composings: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    first = composed.composed_arms(ASKED)
    (kept,) = memory.root().glob("*.json")
    harm(kept)
    assert composed.composed_arms(ASKED) == first
    assert composings == [ASKED] * 2
    assert capfd.readouterr() == ("", "")


def change_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = schema.CONFIGS / "experiment" / "lm_lstm.yaml"
    path.write_text(path.read_text().replace("hidden_size: 64", "hidden_size: 65"))


def change_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SOURCES", [*memory.SOURCES, ("new.py", b"")])


@pytest.mark.parametrize("change", [change_a_file, change_the_code])
def test_nothing_is_remembered_beyond_a_change(
    change: Callable[[pytest.MonkeyPatch], None], composings: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    composed.composed_arms(ASKED)
    change(monkeypatch)
    assert composed.composed_arms(ASKED) == compose_arms(ASKED)
    assert len(composings) == 2


def test_what_lies_elsewhere_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, and a text of the user's own, whose content tells runs apart."""
    asked = [*ASKED, "updates=${oc.env:HOW_MANY}"]
    for updates in ("7", "8"):
        monkeypatch.setenv("HOW_MANY", updates)
        assert {config.updates for config in composed.composed_arms(asked).values()} == {int(updates)}
    arms = compose_arms(ASKED)
    arms["lm_lstm", "layer"].data.path = "own.txt"
    monkeypatch.setattr(composed, "compose_arms", lambda *asked: arms)
    composed.composed_arms(ASKED)
    assert not list(memory.root().glob("*.json"))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert composed.composed_arms(ASKED) == compose_arms(ASKED)


@pytest.mark.parametrize("answer", [{1: "a key that JSON makes a text"}, {"a": Path("value")}])
def test_what_json_cannot_hold_is_not_remembered(answer: object) -> None:
    memory.keep("question", answer)
    assert memory.recalled("question") is None


def test_only_the_newest_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", 3)
    for number in range(5):
        memory.keep(number, {"answer": number})
    assert len(list(memory.root().iterdir())) == 3
    assert memory.recalled(4) == {"answer": 4}
