"""One process a run: one that raises or dies, however hard, touches no other. What it says is kept."""

import errno
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.process import BaseProcess
from typing import Any

from experiments.records.locks import Busy
from experiments.training.errors import EXPECTED
from experiments.training.identity import Run
from experiments.training.parallel import RankDied
from experiments.training.processes import end_with_parent, main_hidden, server
from experiments.training.run import run_alone

DONE, RAISED, AGAIN, NO_SPACE, BUSY = 0, 1, 71, 74, 75  # how a worker ends; any other way it died
LOG_LINES = 12  # the last ones, that are shown


class Log:
    """A file without a name; a worker gets it as its standard output and error."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed, and so gone, with this object)

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return opened, (reduction.DupFd(self.file.fileno()),)

    def lines(self) -> list[str]:
        self.file.seek(0)
        return self.file.read().decode(errors="replace").strip().splitlines()


def opened(handle: Any) -> int:
    """The worker's own descriptor of its parent's log."""
    descriptor: int = handle.detach()
    return descriptor


class Worker:
    """A process at one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.log, self.started = Log(), time.monotonic()
        self.process = started(run, self.log)
        self.sentinel: int = self.process.sentinel  # ready when the process has ended

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def join(self) -> int:
        """Wait for the end; one of the codes above, or how the process died: -9 if killed, say."""
        self.process.join()
        return self.process.exitcode or DONE


def started(run: Run, log: Log) -> BaseProcess:
    """A process at work; once more if the server itself had died just then (a new one takes its place)."""
    try:
        return forked(run, log)
    except (EOFError, ConnectionError):
        return forked(run, log)


def forked(run: Run, log: Log) -> BaseProcess:
    process: BaseProcess = server().Process(target=work, args=(run, log))  # no daemon: it may start ranks
    with main_hidden():
        process.start()
    return process


def work(run: Run, log: int) -> None:
    """What a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    try:
        with run.folder.hold():
            if run.record() is not None:  # another sweep was quicker
                sys.exit(BUSY)
            run_alone(run)
    except Busy:
        sys.exit(BUSY)
    except Exception as error:
        expected = isinstance(error, (OSError, *EXPECTED))
        print(f"{error}" if expected else traceback.format_exc(), file=sys.stderr)
        sys.exit(ending(error))


def ending(error: BaseException) -> int:
    """The exit code for an error: what a second try or an emptier disk may mend is told apart from the rest."""
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in (error, error.__cause__)):
        return NO_SPACE
    memory = "can't allocate memory" in str(error) or "out of memory" in str(error)
    return AGAIN if memory or isinstance(error, MemoryError | RankDied) else RAISED
