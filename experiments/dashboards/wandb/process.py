"""Weights & Biases as a view of our records: offline unless asked, never read back, never needed.

A process of its own, `experiments.mirror`, shows there what the files of the runs say; it is told here which runs to
look at. So nothing of wandb is imported where runs are made, and neither its network nor its failures hold them up.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Tell = Callable[[Path], None]
SOME_REFUSED = 3  # how a mirror ends that showed all but some runs
ROOT = Path(__file__).parents[3]
given_up: list[int] = []  # how a mirror of this command ended that could not do its work; the next could not either


@contextmanager
def mirroring(tracking: str, results: str) -> Iterator[Tell]:
    """What is given is to be called with the folder of each run that starts, ends or is found done.

    With tracking=none, or without wandb, it does nothing. On leaving, what has not been shown yet is; where the block
    is left by an interruption it waits for `layernorm mirror`.
    """
    if tracking != "wandb" or not wanted():
        yield lambda folder: None
        return
    process = start("--follow", results)

    def tell(folder: Path) -> None:
        with suppress(BrokenPipeError):  # it has said itself why it ended
            assert process.stdin is not None
            print(folder.resolve(), file=process.stdin, flush=True)

    try:
        yield tell
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        finished(process)


def show_all(results: str) -> None:
    """Show whatever lies below a results folder, verdicts and figures too, and is not shown yet."""
    if wanted():
        finished(start(results))


def finished(process: "subprocess.Popen[str]") -> None:
    """Wait until it has shown what it was told of; an interruption ends it."""
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.close()
        if process.wait() not in (0, SOME_REFUSED):
            given_up.append(process.returncode)
    except KeyboardInterrupt:
        process.kill()
        raise


def start(*arguments: str) -> "subprocess.Popen[str]":
    """The mirror, in a process group of its own: Ctrl-C is for the command, which then ends it."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.mirror", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )


def wanted() -> bool:
    return not switched_off() and not given_up and installed()


def switched_off() -> str:
    """The variable of the environment that switches wandb off, if one does: its own, or the one it had before."""
    values = {"WANDB_MODE": ("disabled",), "WANDB_DISABLED": ("1", "on", "true", "yes")}
    return next((name for name, off in values.items() if os.environ.get(name, "").lower() in off), "")


@cache
def installed() -> bool:
    """Whether wandb can be imported; the first time it cannot, one line says so."""
    if not has_wandb():
        print("wandb is not installed: runs are recorded but not mirrored (tracking=none)", file=sys.stderr)
    return has_wandb()


def has_wandb() -> bool:
    """A folder wandb/ where one stands is not it."""
    found = find_spec("wandb")
    return found is not None and found.origin is not None
