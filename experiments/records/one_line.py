"""How every command ends: what its user can mend is one line on stderr, on any terminal, and a non-zero exit code.

Whatever else goes wrong is a fault of ours and keeps its traceback.
"""

import argparse
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, NoReturn

from experiments.records.files import SuiteError
from experiments.records.printable import printable

REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EACCES: "give yourself access, or choose another place",
    errno.EPERM: "give yourself access, or choose another place",
    errno.EROFS: "choose another place",
    errno.EISDIR: "move this folder away, a file belongs here",
    errno.ENOTDIR: "move the file away that is in the place of a folder",
    errno.EEXIST: "move the file away that is in the place of a folder",
    errno.ELOOP: "remove the link, it leads to itself",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class Arguments(argparse.ArgumentParser):
    """A parser whose refusals are one line too; an option is given by its whole name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; {self.prog} --help lists what there is\n")


def told_in_one_line(
    command: Callable[[], None],
    words: Callable[[Exception], str | None] = lambda error: None,
    *,
    before: str = "error: ",
    after: str = "",
) -> None:
    """Run a command. `words` puts further errors into words, None of those it does not know."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a terminal that knows no such letters
    try:
        with stoppable():
            command()
        if sys.stdout:
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        end_stopped(str(stop))
    except Exception as error:
        if Stopped.by:  # in the middle of what then tripped over it
            end_stopped()
        if isinstance(error, OSError) and not error.filename and unread():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tells once more that it cannot write
            sys.exit(128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else f"error: output: {told(error)}")
        if (text := words(error) or told(error)) is None:
            raise
        if details := getattr(error, "details", ""):
            print(details, file=sys.stderr)
        sys.exit(f"{before}{printable(text)}{after}")


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or what is like it."""

    by: ClassVar[int] = 0  # the signal that stopped this command


def stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second ends it at once
    Stopped.by = number
    raise Stopped


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, INT, TERM and HUP raise Stopped, but for one that whoever started this process ignores or handles."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    Stopped.by = 0
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL if Stopped.by else before[number])


def end_stopped(said: str = "") -> NoReturn:
    print(f"\ninterrupted; {said or 'the same command goes on where this one stopped'}", file=sys.stderr)
    sys.exit(128 + (Stopped.by or signal.SIGINT))


def name_what_is_not_installed() -> None:
    """While a command still imports what it needs."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = told(error)
        print(f"error: {text}", file=sys.stderr) if text else usual(kind, error, trace)

    sys.excepthook = hook


def of_a_value(error: Exception) -> str | None:
    """The `words` of commands that only read: what they read is what is wrong there."""
    return " ".join(str(error).split()) if isinstance(error, ValueError) else None


def unread() -> bool:
    """Whether nobody reads what is printed any more, or nothing more can be written there."""
    try:
        if sys.stdout:
            sys.stdout.flush()
            os.write(1, b"")
        poll = select.poll()
        poll.register(1, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except OSError:
        return True


def told(error: BaseException) -> str | None:
    """What went wrong and what helps, in a line; None of what no user can mend."""
    if isinstance(error, SuiteError):
        return " ".join(str(error).split("\n"))
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return f"{package} is not installed; make setup, or pip install -r requirements.in"
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "")
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        return "; ".join(filter(None, [what, remedy]))
    return None
