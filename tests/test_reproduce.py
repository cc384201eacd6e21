"""The command behind `make reproduce`: the arms of claims first, judged before any other arm is run."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import reproduce, status
from experiments.sweeps.arm import Name
from experiments.sweeps.compose import compose_arms
from experiments.sweeps.composed import composed_arms
from experiments.training.schema import Config
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.claims_json import read_claims

HERE = ("results=.", "tracking=none")  # so that all tests ask the same, which is then composed once


def stages(monkeypatch: pytest.MonkeyPatch, results: Path, *words: str) -> list[tuple[set[Name], bool]]:
    """The arms that the command hands to the launcher, each time, and whether there were verdicts before."""
    found = []

    def run_arms(configs: Sequence[Config]) -> None:
        found.append(({(config.experiment, config.arm) for config in configs}, (results / "claims.json").exists()))

    launcher: Any = lambda overrides: SimpleNamespace(run_arms=run_arms, at_once=lambda *_: 1)  # noqa: E731
    monkeypatch.setattr(reproduce, "launcher", launcher)
    results.mkdir(exist_ok=True)
    monkeypatch.chdir(results)
    command = ["reproduce", "--scale", "smoke", *words, *HERE]
    monkeypatch.setattr(sys, "argv", command)
    reproduce.main()
    return found


def test_verdicts_come_first_and_all_other_arms_follow_only_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = load_claims().at("smoke")
    every, claimed = set(registry.covered(composed_arms(["scale=smoke", *HERE]))), registry.arms()
    assert claimed < every
    assert stages(monkeypatch, tmp_path / "claims") == [(claimed, False)]
    assert f"{len(every - claimed)} more arms" in capsys.readouterr().out
    assert stages(monkeypatch, tmp_path / "all", "--all") == [(claimed, False), (every - claimed, True)]
    assert read_claims(tmp_path / "all" / "claims.json")[1].command == "make reproduce SCALE=smoke ALL=1"
    stages(monkeypatch, tmp_path / "again", "first_seed=100")
    assert read_claims(tmp_path / "again" / "claims.json")[1].command == "make reproduce SCALE=smoke SEEDS=100"
    chosen = load_claims().select(["B4-lstm-better"]).arms()
    assert stages(monkeypatch, tmp_path / "one", "--claim", "B4-lstm-better") == [(chosen, False)]


def test_of_chosen_claims_only_their_experiments_are_composed_and_the_report_shows_them_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[str]] = []

    def composed(overrides: Sequence[str], experiments: Sequence[str] = ()) -> dict[Name, Config]:
        asked.append(experiments)
        return compose_arms(overrides, experiments)

    monkeypatch.setattr(reproduce, "composed_arms", composed)
    stages(monkeypatch, tmp_path, "--claim", "B4-lstm-*", "--claim", "6.6")
    verdicts, origin = read_claims(tmp_path / "claims.json")
    chosen = load_claims().at("smoke").select(["B4-lstm-*", "6.6"])
    assert [verdict["id"] for verdict in verdicts] == [claim.id for claim in chosen.claims] and len(verdicts) > 3
    assert asked == [sorted({name for name, _ in chosen.arms()})] and len(asked[0]) < 10
    assert origin.command == "make reproduce SCALE=smoke CLAIM='B4-lstm-* 6.6'"
    assert " runs are missing; how long they take is unknown" in capsys.readouterr().err.splitlines()[0]


def test_the_state_shown_is_that_of_the_arms_that_claims_need_or_of_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--all"]):
        monkeypatch.setattr(sys, "argv", ["status", "--scale", "smoke", *words, *HERE])
        status.main()
        shown.append(int(capsys.readouterr().out.split()[-1]))
    arms = composed_arms(["scale=smoke", *HERE])
    assert shown[0] < shown[1] and shown[1] >= sum(config.seeds for config in arms.values())
