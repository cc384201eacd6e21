"""Claims and experiments of the user's own, outside the clone: judged alone, with every mistake in one line."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from experiments import reproduce, run, status
from experiments.records.table import read_table
from experiments.sweeps import memory, options
from experiments.sweeps.arm import Name
from experiments.sweeps.options import named_folder
from experiments.training.schema import Config, ConfigError
from experiments.verdicts.claims_json import read_verdicts
from experiments.verify import verify
from tests.invented import row, tuning

CLAIM: dict[str, Any] = {
    "id": "mine",
    "said_by": "own",
    "statement": "Layer norm helps.",
    "experiment": "lm_lstm",
    "kind": "difference",
    "contrast": {"layer": 1, "none": -1},
    "metric": "test_loss",
    "direction": "less",
    "refuted": "It hurts.",
    "expected": "It helps.",
}
SEEDS = 6
MINE = """\
# @package _global_
defaults: [override /model: language_model, override /data: text]
batch_size: 16
updates: 50
model: {cell: lstm, hidden_size: 32}
data: {source: synthetic, corpus: synthetic, sequence_length: 16, test_length: 32}
tuning: {learning_rates: [1e-2, 3e-2, 1e-1]}
arms: {none: {norm: none}, layer: {norm: layer}}
sizes: {smoke: {updates: 7}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A claim about the suite's arms, and an experiment of the user's beside the claim and its results."""
    write(tmp_path, CLAIM)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine_lstm.yaml").write_text(MINE.replace("source: synthetic, ", ""))
    (tmp_path / "results").mkdir()
    yield tmp_path
    options.OUTSIDE.clear()


def write(folder: Path, *claims: dict[str, Any]) -> None:
    document = {"family": {"alpha": 0.05, "seeds": SEEDS}, "claims": list(claims)}
    (folder / "my.yaml").write_text(yaml.safe_dump(document))


def rows(experiment: str) -> list[dict[str, Any]]:
    """Invented runs: the arm with layer norm always ends lower."""
    found = []
    for arm, loss in (("layer", 1.0), ("none", 2.0)):
        found += [row(arm, seed, loss + 0.01 * seed) for seed in range(SEEDS)]
        found += tuning(arm, {0.003: loss + 1, 0.01: loss, 0.03: loss + 1})
    return [{**one, "experiment": experiment, "scale": "smoke"} for one in found]


def reproduced(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> list[tuple[Name, int]]:
    """The arms and seeds that are run; the runs that come of it are invented."""
    asked: list[tuple[Name, int]] = []

    def run_arms(configs: Sequence[Config]) -> None:
        asked.extend(((config.experiment, config.arm), config.seed) for config in configs)

    launcher: Any = lambda overrides: SimpleNamespace(run_arms=run_arms, at_once=lambda *_: 1)  # noqa: E731
    monkeypatch.setattr(reproduce, "launcher", launcher)
    monkeypatch.setattr(reproduce, "collect_rows", lambda arms: rows(next(iter(arms))[0]))
    words = ("--claims", f"{folder}/my.yaml", *words)
    where = [] if any(word.startswith("results=") for word in words) else [f"results={folder}/results"]
    monkeypatch.setattr(sys, "argv", ["reproduce", "--scale", "smoke", *words, *where, "tracking=none"])
    reproduce.main()
    return asked


def test_an_own_claim_is_judged_alone_on_as_many_seeds_as_it_says(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    asked = reproduced(monkeypatch, folder)
    assert asked == [(("lm_lstm", arm), seed) for arm in ("none", "layer") for seed in range(SEEDS)]
    (verdict,) = read_verdicts(folder / "results" / "claims.json")
    assert (verdict.id, verdict.verdict, verdict.p_holm) == ("mine", "supported", 2.0**-SEEDS)  # one test, so as it is
    text = (folder / "results" / "report.md").read_text(encoding="utf-8")
    command = f"make reproduce SCALE=smoke CLAIMS={folder}/my.yaml"
    assert f"Claims: 1 of `{folder}/my.yaml`, a family of their own." in text and f"made by `{command}` at" in text
    assert f"make reproduce SCALE=smoke CLAIM=mine CLAIMS={folder}/my.yaml" in text
    assert "Sentence by sentence" not in text and "## Beside" not in text
    assert text.startswith(f"# my: what the evidence says\n\nThe claims of {folder}/my.yaml, each with its verdict")
    assert "corrected by Holm over all claims of the file" in text
    assert verify(folder / "results", Path("of the suite"))[1] == []


def test_an_experiment_outside_the_clone_is_run_reproduced_and_looked_at(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its folder has one with the name of an option, `results`."""
    write(folder, CLAIM | {"experiment": "mine_lstm", "deviations": "none"})
    beside = ("--config-dir", str(folder))
    asked = reproduced(monkeypatch, folder, *beside)
    assert {name for name, _ in asked} == {("mine_lstm", "none"), ("mine_lstm", "layer")}
    assert read_table(folder / "results")[1].own == {"CLAIMS": f"{folder}/my.yaml", "CONFIGS": str(folder)}
    assert memory.place("arms") is None  # what is composed may change with the folder
    capsys.readouterr()
    monkeypatch.setattr(
        sys,
        "argv",
        ["status", "--scale", "smoke", "--claims", f"{folder}/my.yaml", *beside, f"results={folder}/results"],
    )
    status.main()
    assert "layer" in capsys.readouterr().out
    given = ["experiment=mine_lstm", "scale=smoke", "norm=layer", "optim.learning_rate=0.01", "tracking=none"]
    monkeypatch.setattr(sys, "argv", ["run", *beside, *given, f"results={folder}/results"])
    seen: list[Config] = []

    def run_tuned(config: Config, *_: object) -> dict[str, Any]:
        seen.append(config)
        return {}

    monkeypatch.setattr(run, "run_tuned", run_tuned)
    monkeypatch.setattr(run, "outcome_line", lambda record: "done")
    run.start()
    assert [(config.experiment, config.arm, config.updates) for config in seen] == [("mine_lstm", "layer", 7)]


@pytest.mark.parametrize(
    ("claim", "words", "line"),
    [
        (
            {"experiment": "lm_ltsm", "deviations": "x"},
            (),
            "claim 'mine': experiment 'lm_ltsm' is unknown; did you mean",
        ),
        ({"experiment": "mine_lstm"}, (), "of an experiment of your own the claim itself has `deviations`"),
        ({"contrast": {"layr": 1, "none": -1}}, (), "claim 'mine': arm of lm_lstm 'layr' is unknown; did you mean"),
        ({"metric": "test_los"}, (), "claim 'mine': metric of lm_lstm 'test_los' is unknown; did you mean"),
        ({"margn": 1}, (), "claim 'mine': key 'margn' is unknown; did you mean 'margin'"),
        ({"said_by": "me"}, (), "claim 'mine': said_by: 'me' should be 'literature', 'suite' or 'own'"),
        ({}, ("--claim", "B4*"), "claim 'B4*' is unknown; did you mean"),
        ({}, ("--all",), "--all is for the claims of the suite"),
        ({}, ("results=results/reference/laptop",), "results=results/reference/laptop: there studies are frozen"),
        ({}, ("--claims", "no.yaml"), "no.yaml does not exist"),
        ({}, ("--config-dir", "nowhere"), "--config-dir nowhere: there is no experiment/<name>.yaml"),
    ],
)
def test_a_mistake_is_a_line(
    claim: dict[str, Any], words: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    write(folder, CLAIM | claim)
    with pytest.raises(SystemExit) as end:
        reproduced(monkeypatch, folder, *words)
    assert str(end.value).startswith("error: ") and line in str(end.value) and "\n" not in str(end.value)
    assert not (folder / "results" / "report.md").exists()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("lm_lstm", MINE, "the suite has an experiment lm_lstm; choose another name"),
        ("broken", "arms: [", "broken.yaml: not valid YAML"),
        ("list", "[1]", "list.yaml: no experiment"),
    ],
)
def test_an_experiment_that_is_none_is_a_line(name: str, text: str, line: str, folder: Path) -> None:
    (folder / "experiment" / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError) as told:
        options.register(str(folder))
    assert line in str(told.value) and "\n" not in str(told.value)


def test_hydra_sees_the_other_words_alone() -> None:
    assert named_folder(["-m", "--config-dir", "x", "norm=layer"]) == ("x", ["-m", "norm=layer"])
    assert named_folder(["norm=layer", "--help"]) == (None, ["norm=layer", "--help"])
