"""Whatever a user gets wrong is told in one line on stderr, with the remedy, and by the exit code: no traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.one_line import told_in_one_line
from experiments.training.errors import one_line

ROOT = Path(__file__).parents[1]
VERIFY, STATUS, MIRROR, RUN = ("verify",), ("status",), ("mirror",), ("run", "tracking=none")


def made(name: str) -> str:
    return f"{{folder}}/{name}"


# The command, its environment beside ours (None: without), and the words of its line.
WRONG: list[tuple[tuple[str, ...], dict[str, str | None], tuple[str, ...]]] = [
    ((*VERIFY, made("nothing")), {}, ("nothing/configs.json does not exist", "make reproduce")),
    ((*VERIFY, made("file")), {}, ("file/configs.json", "move the file away")),
    ((*VERIFY, made("folders")), {}, ("configs.json", "move this folder away")),
    ((*VERIFY, made("loop")), {}, ("loop/configs.json", "remove the link")),
    ((*VERIFY, made("garbage")), {}, ("garbage/configs.json", "make reproduce")),
    ((*VERIFY, "--fast"), {}, ("--fast", "--help")),
    ((*MIRROR, made("nothing")), {}, ("nothing", "make reproduce")),
    ((*MIRROR, made("file")), {"WANDB_MODE": "onlin"}, ("WANDB_MODE=onlin", "choose one of")),
    (("dashboard", "--port", "x"), {}, ("--port", "'x'", "--help")),
    (("dashboard", "--port", "0"), {}, ("--port 0", "choose one")),
    ((*STATUS, "--scale", "huge"), {}, ("huge", "evening, figure6, laptop, paper, section6, smoke")),
    ((*RUN, "optim=sgd"), {}, ("optim=sgd", "optim.name=sgd")),
    ((*RUN, "batch_size=abc"), {}, ("batch_size=abc", "whole number")),
    ((*RUN, "results=a=b"), {}, ("results=a=b", "quote")),
    ((*RUN, "results=a#b"), {}, ("results=a#b", "quote")),
    ((*RUN, "data.source=synthetic", f"results={made('file')}"), {}, ("file", "results=<folder>")),
    ((*RUN, "resume=layer"), {}, ("resume=layer", "no such run")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wrong")
    (made / "file").write_text("a file")
    (made / "folders" / "configs.json").mkdir(parents=True)
    (made / "loop").mkdir()
    (made / "loop" / "configs.json").symlink_to("configs.json")
    (made / "garbage").mkdir()
    (made / "garbage" / "configs.json").write_text("[" * 100_000)
    return made


def started(words: tuple[str, ...], **more: object) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | more
    return subprocess.Popen([sys.executable, "-m", f"experiments.{words[0]}", *words[1:]], **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize(("words", "environment", "said"), WRONG, ids=lambda value: " ".join(map(str, value)))
def test_what_is_wrong_is_told_in_one_line(
    words: tuple[str, ...],
    environment: dict[str, str | None],
    said: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, for each would import PyTorch anew; the package itself is asked below."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    code, line = ended([word.format(folder=folder) for word in words], monkeypatch, capsys)
    assert code not in (0, None) and line.startswith("error: ") and line.count("\n") <= 1, line
    assert all(word in line for word in said), line


class Left(Exception):
    """The mirror leaves without Python's own end."""


def ended(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of a command, and what it said on stderr."""
    from importlib import import_module

    from hydra.core.global_hydra import GlobalHydra

    from experiments.sweeps.options import register

    register()
    GlobalHydra.instance().clear()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as a command has it, not only after another one in this process
    monkeypatch.setattr(sys, "argv", [f"experiments.{words[0]}", *words[1:]])
    command = import_module(f"experiments.{words[0]}")

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    try:
        told_in_one_line(command.main, lambda error: None if isinstance(error, Left) else hydras(error))
    except SystemExit as end:
        said = end.code if isinstance(end.code, str) else ""
        return end.code, said + capsys.readouterr().err
    except Left as end:
        return end.args[0], capsys.readouterr().err
    return 0, capsys.readouterr().err


def hydras(error: Exception) -> str | None:
    return one_line(error) if type(error).__module__.startswith(("hydra", "omegaconf", "experiments")) else None


@pytest.mark.parametrize("command", ["verify", "run", "mirror"])
def test_ctrl_c_while_a_command_is_imported_says_nothing(command: str) -> None:
    with started((command, "--help"), env={**os.environ, "PYTHONVERBOSE": "1"}) as process:
        assert process.stderr
        for line in process.stderr:
            if "import 'experiments.records" in line:  # the first of ours; then come hundreds of others
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT) and "Traceback" not in rest


TALKING = "from experiments.records.one_line import told_in_one_line; told_in_one_line(lambda: print('x' * 10**6))"


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [("|", 128 + signal.SIGPIPE, ""), ("/dev/full", 1, "error: output: No space left on device; make room\n")],
)
def test_a_reader_that_goes_away_is_no_error_and_a_full_disk_is_a_line(place: str, code: int, said: str) -> None:
    with open("/dev/full", "w") as full:
        output = subprocess.PIPE if place == "|" else full
        process = subprocess.Popen(
            [sys.executable, "-c", TALKING], stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        if process.stdout:
            process.stdout.close()
        assert process.stderr and process.stderr.read() == said and process.wait() == code


def test_a_package_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError('no', name='yaml')")
    process = started(("verify",), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    said = process.communicate()[1]
    assert process.returncode == 1 and said.count("\n") == 1
    assert said.startswith("error: yaml is not installed; make setup")


def test_a_terminal_without_our_letters_gets_others(tmp_path: Path) -> None:
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    homeless = {name: value for name, value in os.environ.items() if name not in ("HOME", "TMPDIR")}
    process = started(("verify", str(tmp_path / "é")), env={**homeless, **plain, "TERM": "dumb", "COLUMNS": "9"})
    said = process.communicate()[1]
    assert process.returncode == 1 and said.count("\n") == 1 and "configs.json does not exist" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_trips_over_an_interruption_was_interrupted(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a library does whose own clean-up fails in the middle of things."""

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            raise ValueError("nothing to clean up")

    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        with pytest.raises(SystemExit) as ended:
            told_in_one_line(command)
    finally:
        signal.signal(number, before)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on where this one stopped\n"
