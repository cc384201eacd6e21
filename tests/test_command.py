"""The console script `layernorm`, from any directory; and the package it comes with, where there is no clone."""

import os
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import yaml

from models import command

ROOT = Path(__file__).parent.parent
NAMES = sorted({path.stem for path in (ROOT / "experiments").glob("[!_]*.py")} | {"data"})
SCRIPT = "import sys; sys.path.insert(0, {!r}); from {}.command import main; main()"  # what pip makes of it
TINY = ["model.hidden_sizes=[4]", "data.source=synthetic", "tracking=none", "updates=2", "evaluations=1"]


def layernorm(cwd: Path, *words: str) -> "Popen[str]":
    command = [sys.executable, "-c", SCRIPT.format(str(ROOT), "models"), *words]
    return Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, text=True)


def finished(process: "Popen[str]") -> tuple[int, str, str]:
    return process.wait(), *process.communicate()


def test_it_lists_every_command_with_a_line(tmp_path: Path) -> None:
    status, told, _ = finished(layernorm(tmp_path))
    lines = dict(line.split(maxsplit=1) for line in told.splitlines() if line.startswith("  "))
    assert status == 0 and sorted(lines) == NAMES
    assert all(text[0].isupper() and text[-1] not in ".,:;" for text in lines.values())


def test_every_command_has_its_help(tmp_path: Path) -> None:
    for name, process in [(name, layernorm(tmp_path, name, "--help")) for name in NAMES]:
        status, told, errors = finished(process)
        assert (status, errors) == (0, "")
        assert name == "run" or told.startswith(f"usage: layernorm {name} ")


def test_what_is_no_command_is_told_in_one_line(tmp_path: Path) -> None:
    told = f"error: layernorm train: choose one of {', '.join(name for name in NAMES if name != 'data')}, data\n"
    assert finished(layernorm(tmp_path, "train")) == (1, "", told)


def test_a_sweep_keeps_its_records_where_it_is_called(tmp_path: Path) -> None:
    sweep = ["run", "-m", *TINY, "norm=layer", "seed=0,1", "optim.learning_rate=0.1", "results=found"]
    status, told, errors = finished(layernorm(tmp_path, *sweep))
    assert status == 0, errors
    assert told.count("completed") == 2 and len(list(tmp_path.glob("found/runs/custom/*/result.json"))) == 2


def test_processes_that_it_starts_find_the_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of a cluster and of wandb's mirror are new Pythons, which start in the same directory."""
    monkeypatch.setenv("PYTHONPATH", "theirs")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["layernorm"])
    look = "from experiments.records import files; import sys; print('theirs' in ' '.join(sys.path))"
    started = []

    def run_module(*_: object, **__: object) -> None:
        started.append(subprocess.check_output([sys.executable, "-c", look], cwd=tmp_path, text=True))

    monkeypatch.setattr(runpy, "run_module", run_module)
    command.main()
    assert started == ["True\n"]


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    asked = {shell: layernorm(home, "completion", shell) for shell in ("bash", "zsh")}
    ended = {shell: finished(process) for shell, process in asked.items()}
    assert all((status, errors) == (0, "") for status, _, errors in ended.values())
    return {shell: told for shell, (_, told, _) in ended.items()}


# What a shell does at Tab, and the words that it would show: zsh chooses among those it is given by itself.
PRESS = {
    "bash": (
        "{script}\ncompopt() {{ :; }}\n"
        "COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _layernorm; echo ${{COMPREPLY[@]}}"
    ),
    "zsh": (
        "compdef() {{ }}; _files() {{ }}; {script}\n"
        "compadd() {{ shift ${{@[(i)--]}}; print -rn -- ${{(M)@:#$words[-1]*}} ''; }}\n"
        "line={line!r}; words=(${{=line}}); CURRENT=$#words; _layernorm"
    ),
}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("layernorm rep", "reproduce"),
        (".venv/bin/layernorm rep", "reproduce"),
        ("layernorm run norm=ren", "renorm"),
        ("layernorm run -m seed=0,1 optim.learning_r", "optim.learning_rate="),
        ("layernorm run experiment=lm_", "lm_gru lm_lstm lm_tanh"),
        ("layernorm reproduce data=cif", "cifar10"),
        ("layernorm status --scale ev", "evening"),
        ("layernorm status --experiment mlp_o", "mlp_online"),
        ("layernorm status --claim P6.3-", "P6.3-time-gru P6.3-time-lstm"),
        ("layernorm verify norm=ren", ""),
    ],
)
def test_tab_completes(shell: str, line: str, completed: str, completion: dict[str, str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} on this machine")
    press = PRESS[shell].format(script=completion[shell], line=line)
    plain = {"bash": "--norc", "zsh": "-f"}[shell]
    told = subprocess.run([shell, plain, "-c", press], capture_output=True, text=True)
    before = line.rpartition(" ")[2].partition("=")[0] + "="  # bash completes what follows it, zsh the whole word
    assert (told.stdout.replace(before, "").strip(), told.stderr) == (completed.replace(before, ""), "")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and nothing else."""
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("site-packages")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in ("models", "data", "experiments"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (wheel,) = clone.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_a_wheel_installs_one_package_with_the_sources_of_its_kernels(installed: Path) -> None:
    assert [path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")] == [
        "layernorm_reproduced"
    ]
    ours = {
        path.relative_to(ROOT / "models")
        for path in (ROOT / "models").rglob("*")
        if path.suffix in (".py", ".cpp", ".h")
    }
    package = installed / "layernorm_reproduced"
    assert ours == {path.relative_to(package) for path in package.rglob("*") if path.suffix in (".py", ".cpp", ".h")}
    assert (package / "py.typed").exists()


def test_its_layers_run_and_import_nothing_of_the_clone(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from layernorm_reproduced import LSTM; import torch\n"
        "outputs, (h, c) = LSTM(3, 4, batch_first=True)(torch.zeros(2, 5, 3)); print(tuple(outputs.shape))\n"
        "print([name for name in ('models', 'data', 'experiments') if name in sys.modules])"
    )
    alone = {**os.environ, "PYTHONPATH": str(installed)}
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=alone, capture_output=True, text=True, check=True
    )
    assert made.stdout == "(2, 5, 4)\n[]\n"


def test_without_a_clone_the_command_says_what_is_missing(installed: Path, tmp_path: Path) -> None:
    script = SCRIPT.format(str(installed), "layernorm_reproduced")
    told = subprocess.run([sys.executable, "-c", script, "status"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 1 and told.stdout == ""
    assert told.stderr == (
        "error: only the layers are installed here; the commands need a clone of the suite, and make setup there\n"
    )


def test_the_version_to_cite_is_that_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
