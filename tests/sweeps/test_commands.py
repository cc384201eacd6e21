"""What is printed can be pasted: through a shell and Hydra it comes back as the value it was made of."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments.records.commands import make_command, override, run_command
from experiments.sweeps.failure import Failure
from experiments.training.identity import Run
from tests.training.test_run import tiny

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["my results", "a=b", "a,b", "#1", "it's", 'a "b"', "ünï/ç", "$HOME", "${HOME}", "\\${a}", "(x)", "", "null"]
TEXTS += [
    "True",
    "1e3",
    "0x10",
    "c\\",
    "c\\'",
    "~/x",
    "[a]",
    "{a: b}",
    " a ",
    "a:b",
    "-x",
    "a\nb",
    "12",
    "*?",
    "a;b|c&d",
]
VALUES = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.booleans())
NUMBERS = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))


def pasted(command: str, key: str) -> object:
    (word,) = [word for word in shlex.split(command) if word.startswith(f"{key}=")]
    config = OmegaConf.create({key: None})
    OmegaConf.update(config, key, OverridesParser.create().parse_override(word).value())
    return OmegaConf.to_container(config, resolve=True)[key]  # type: ignore[index, call-overload]


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.one_of(VALUES, NUMBERS, st.lists(NUMBERS), st.lists(VALUES)))
def test_a_printed_value_is_read_as_it_was(value: object) -> None:
    assert pasted(run_command([override("key", value)]), "key") == value


@pytest.mark.parametrize("text", [text for text in TEXTS if text.isprintable()])  # others are shown, as on any line
def test_the_command_of_a_failed_run_names_its_results(text: str) -> None:
    told = Failure(Run(tiny(Path(text or "."))), "no reason").text()
    assert pasted(told.partition("again: ")[2], "results") == str(Path(text or "."))


def test_the_words_of_make_go_through_two_shells_and_make() -> None:
    (_, _, args) = shlex.split(make_command("reproduce", ARGS=[override("results", "my $x's")]))
    assert shlex.split(args.removeprefix("ARGS=").replace("$$", "$")) == [override("results", "my $x's")]


def test_patterns_reach_the_command_as_they_are_given() -> None:
    """Through two shells in a folder with a file that the pattern matches."""
    (_, _, claims) = shlex.split(make_command("reproduce", CLAIM=["B5*", "6.6"]))
    assert claims == "CLAIM=B5* 6.6"
    line = ["make", "--no-print-directory", "-n", "reproduce", claims]  # it may be make that runs this test
    made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    words = shlex.split(made.stdout.splitlines()[-1])
    assert [words[place + 1] for place, word in enumerate(words) if word == "--claim"] == ["B5*", "6.6"]
    assert "'B5*'" in made.stdout  # which no shell expands
