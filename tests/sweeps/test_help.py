"""--help explains every option and every experiment, in words that stand beside them, on any terminal."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from experiments import reproduce
from experiments.records.columns import WIDTH
from experiments.records.files import setting
from experiments.sweeps import help as told
from experiments.sweeps.compose import load
from experiments.sweeps.options import register
from experiments.sweeps.slurm import Options
from experiments.training import probes
from experiments.training.checks import GROUPS, settable
from experiments.training.schema import CONFIGS, Config, Optim, Tuning, default
from experiments.verdicts.claims_file import load_claims

ROOT = Path(__file__).parents[2]
NODES: list[Any] = [Config, Optim, Tuning, Options, *(node for found in GROUPS.values() for node in found().values())]
UNTOLD = {"arms", "additional", "optim", "tuning", *told.CHOSEN}  # mappings, and what is listed by itself


@pytest.fixture(scope="module")
def text() -> Iterator[str]:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield told.full_help(load([]))


@pytest.mark.parametrize("node", NODES)
def test_every_option_is_explained_where_it_is_declared(node: Any) -> None:
    comments = {key: said for one in reversed(node.__mro__[:-1]) for key, said in told.comments_in(one).items()}
    beside = {key.removeprefix("data.") for key in told.BESIDE}
    assert {spec.name for spec in settable(node) if not comments.get(spec.name)} <= UNTOLD | beside


@pytest.mark.parametrize("node", NODES)
def test_every_option_is_listed_with_its_default_and_its_choices(node: Any, text: str) -> None:
    words = " ".join(text.split())
    for spec in settable(node):
        if spec.name not in (*UNTOLD, "learning_rate"):  # which the experiment sets
            assert f"{setting(spec.name, default(spec))} " in words
        for choice in spec.metadata.get("choices", ()):
            assert str(choice) in words


def test_every_choice_is_listed_with_what_it_is(text: str) -> None:
    known = {group: list(found()) for group, found in GROUPS.items()} | {"method": list(probes.NAMES)}
    known |= {group: [path.stem for path in (CONFIGS / group).glob("*.yaml")] for group in ("experiment", "scale")}
    for names in known.values():
        for name in names:
            lines = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
            assert lines and all(len(line.split()) > 1 for line in lines)
            assert not any(line.split()[1:3] == ["layernorm", "run"] for line in lines), "its command, not what it is"


def test_eighty_columns_are_enough(text: str) -> None:
    for line in (*text.splitlines(), *told.short_help().splitlines()):
        assert len(line) <= WIDTH, line


def test_what_is_chosen_shows_its_own_values(text: str) -> None:
    register()
    chosen = told.full_help(load(["experiment=online_rnn", "model.hidden_size=99"]))
    assert "batch_size=32 " in text and "batch_size=1 " in chosen
    assert "model.hidden_size=99 " in chosen and "model.hidden_size=64 " in text
    assert "model.hidden_sizes=[256,256]" in chosen  # of another model


def test_comments_above_and_behind_are_told() -> None:
    @dataclasses.dataclass
    class Node:
        first: int = 1  # behind
        # above,
        # in two lines.
        second: str = "ü#"  # and behind

    assert told.comments_in(Node) == {"first": "behind", "second": "above, in two lines. and behind"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("One. Two.", "One"),
        ("At 32 ... 2, section 6.7 too. Cost: 1 s.", "At 32 ... 2, section 6.7 too"),
        ("Who? He.", "Who?"),
        ("Costs: none", "Costs: none"),
        ('(A).\n"So', "(A)"),
    ],
)
def test_the_first_sentence(words: str, sentence: str) -> None:
    assert told.sentence(words) == sentence


def test_the_command_alone_shows_how_to_begin_and_trains_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "experiments.run"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{told.short_help()}\n" and not done.stderr and not [*tmp_path.iterdir()]


def test_the_claims_are_listed_with_what_they_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce", "--list"])
    reproduce.main()
    told = capsys.readouterr().out
    for claim in load_claims().at("laptop").claims:
        assert f"  {claim.id}" in told and claim.statement in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= WIDTH
