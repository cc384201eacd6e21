"""What a user can mend is told in one line; whatever else goes wrong is a fault of ours and keeps its traceback."""

import dataclasses
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

import data
import models
from experiments.records import files
from models import kernels

UNSET = ("arm", "paper", "deviations")  # keys that no command line sets
GROUP = "Config group override"  # begins Hydra's ValueError for model=null
# Lines of Hydra's and OmegaConf's messages that tell a user nothing.
HYDRA_CONTEXT = ("full_key:", "object_type=", "reference_type=")
EXPECTED = (files.SuiteError, data.DataError, models.ModelError, kernels.KernelError)


def one_line(error: BaseException) -> str:
    """The message of an error without the paragraphs that Hydra and OmegaConf put around it."""
    cause = error.__cause__ if isinstance(error, HydraException) else None
    text = str(error) if cause is None or str(cause) in str(error) else f"{error}; {cause}"
    override = getattr(error, "override", None) or ""
    text = (text if override in text else f"{override}: {text}").replace(GROUP, "model, data, experiment and scale")
    text = re.sub(r"To append to your config use \S+", "", text)
    text = text.split("Config search path:")[0].split("Set the environment variable")[0]
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(HYDRA_CONTEXT)]
    known = getattr(cause or error, "object_type", None)
    if dataclasses.is_dataclass(known) and "' not in '" in text:
        valid = [field.name for field in dataclasses.fields(known) if field.name not in UNSET]
        lines.append(f"; valid keys: {', '.join(valid)}")
    return " ".join(line for line in lines if line).replace(" ;", ";")


def told_in_one_line(command: Callable[[], None]) -> None:
    """Run a command; what its user can mend is said in one line on stderr, with a non-zero exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints paragraphs and exits by itself
    try:
        with stoppable():
            command()
    except (HydraException, OmegaConfBaseException, *EXPECTED) as error:
        if details := getattr(error, "details", ""):
            print(details, file=sys.stderr)
        sys.exit(f"error: {one_line(error)}")
    except ValueError as error:
        if GROUP not in str(error):
            raise
        sys.exit(f"error: {one_line(error)}")
    except OSError as error:  # a full disk, mostly
        sys.exit(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}")
    except KeyboardInterrupt as stop:
        print(f"\ninterrupted; {str(stop) or 'the same command goes on where this one stopped'}", file=sys.stderr)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))


class Stopped(KeyboardInterrupt):
    """What Ctrl-C is, by another signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second ends it at once
    raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Stopped, but for one that whoever started this process ignores or handles."""
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
