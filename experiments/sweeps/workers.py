"""Processes that take run after run: one that raises or dies, however hard, costs its own. What it says is kept."""

import errno
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from experiments.records.locks import Busy
from experiments.training.errors import EXPECTED
from experiments.training.identity import Run
from experiments.training.processes import RankDied, ServerDied, end_with_parent, server, started

DONE, RAISED, AGAIN, NO_SPACE, BUSY = 0, 1, 71, 74, 75  # how a worker says that it ends; else it died
LOST = 255  # nobody saw how it died, for the fork server was dead by then
LOG_LINES = 12  # the last ones, that are shown
A_WHILE = 5.0  # seconds
RUNS = 50  # that a process takes before a new one does, so that memory lost in pieces comes back


class Log:
    """A file without a name; a worker gets it as its standard output and error."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed, and so gone, with this object)

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return opened, (reduction.DupFd(self.file.fileno()),)

    def clear(self) -> None:
        """Of what an earlier run said. The place to write at is the worker's as well."""
        self.file.seek(0)
        self.file.truncate()

    def lines(self) -> list[str]:
        self.file.seek(0)
        return self.file.read().decode(errors="replace").strip().splitlines()


def opened(handle: Any) -> int:
    """The worker's own descriptor of its parent's log."""
    descriptor: int = handle.detach()
    return descriptor


class Worker:
    """A process that takes run after run. It says itself how each ended, for it may outlive the server it came from."""

    run: Run
    started: float

    def __init__(self) -> None:
        self.log, self.taken = Log(), 0
        self.pipe, there = server().Pipe()
        with there:
            self.process = started(work, self.log, there)  # no daemon: it may start ranks
        self.sentinel: int = self.pipe.fileno()  # ready when the run has ended, or the process

    def take(self, run: Run) -> None:
        """Begin a run. A process that has died meanwhile is found dead by `join`."""
        self.log.clear()
        self.run, self.started, self.taken = run, time.monotonic(), self.taken + 1
        with suppress(OSError):
            self.pipe.send(run)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def join(self) -> int:
        """Wait for the end of the run: one of the codes above, or how the process died: -9 if killed, say.

        After a run that ended well the process waits for another, unless it has had many; after any other it goes.
        """
        try:
            code: int | None = self.pipe.recv()
        except (EOFError, OSError):
            code = None
        if not self.waits(code):
            self.dismiss()
        return (self.process.exitcode or DONE) if code is None else code

    def waits(self, code: int | None = DONE) -> bool:
        """Whether it can take another run after one that ended so."""
        return code == DONE and self.taken < RUNS

    def dismiss(self) -> None:
        """Let the process end, which has nothing to do."""
        self.pipe.close()
        self.process.join()

    def kill(self) -> None:
        """End it, and with it its lock."""
        self.process.kill()
        with suppress(OSError):
            self.pipe.poll(A_WHILE)
        self.process.join(A_WHILE)


def work(log: int, pipe: Connection) -> None:
    """What a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    with suppress(EOFError):  # the parent has no more to do
        while True:
            pipe.send(attempt(pipe.recv()))


def attempt(run: Run) -> int:
    from experiments.training.run import run_alone  # the fork server has it; whoever starts workers needs it not

    try:
        with run.folder.hold(), warnings.catch_warnings():  # each run gives its own, though another gave them before
            if run.record() is not None:  # another sweep was quicker
                return BUSY
            run_alone(run)
    except Busy:
        return BUSY
    except Exception as error:
        expected = isinstance(error, (OSError, *EXPECTED))
        print(f"{error}" if expected else traceback.format_exc(), file=sys.stderr)
        return ending(error)
    return DONE


def ending(error: BaseException) -> int:
    """The exit code for an error: what a second try or an emptier disk may mend is told apart from the rest."""
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in (error, error.__cause__)):
        return NO_SPACE
    memory = "can't allocate memory" in str(error) or "out of memory" in str(error)
    return AGAIN if memory or isinstance(error, MemoryError | RankDied | ServerDied) else RAISED
