"""Processes forked from a server that has imported torch already, for the runs of a sweep and the ranks of a run."""

import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import data
import models
from experiments.records.files import SuiteError

PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds, after which a process that could not be started is tried again


class ServerDied(SuiteError):
    """No process can be started, tried again and again."""


class ParallelError(SuiteError):
    """A run that cannot be shared by processes as asked, or whose rank failed."""


class RankDied(ParallelError):
    """A rank's process is gone without a word."""


def started(work: Callable[..., None], *arguments: object, daemon: bool = False) -> BaseProcess:
    """A process at work. Where the fork server has died, or dies meanwhile, a new one takes its place."""
    for pause in (*PAUSES, None):
        try:
            process: BaseProcess = server().Process(target=work, args=arguments, daemon=daemon)
            with main_hidden():
                process.start()
            return process
        except (EOFError, OSError) as error:
            why = f"{error}"
        if pause is not None:
            time.sleep(pause)
    times = f"{len(PAUSES) + 1} times in a row"
    raise ServerDied(f"the fork server, which starts the processes of runs, died {times} ({why}); is memory short?")


def server() -> Any:
    """A fork server with all that a run imports, so that a run starts in hundredths of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded())
    known: Any = forkserver._forkserver
    # A process forked by a server knows it, but would start another one, for seconds (python/cpython#86354, open).
    if known._forkserver_address and known._forkserver_pid is None and getattr(known, "_forkserver_authkey", True):
        known.ensure_running = lambda: None
    before = known._forkserver_pid
    with ignored(signal.SIGINT), warnings.catch_warnings():  # Ctrl-C is for the command, also while its server imports
        warnings.filterwarnings("ignore", "resource_tracker: process died")  # it is started anew, and tracks nothing
        known.ensure_running()
    if before not in (None, known._forkserver_pid):
        print("the fork server had died; another one is started", file=sys.stderr)
    return context


@cache
def preloaded() -> list[str]:
    """What the runs of all models and data sets import."""
    runs = ["experiments.sweeps.workers", "experiments.training.run", "torch._dynamo"]
    data_sets = (module.__name__ for module in data.modules().values())
    return [*runs, *data_sets, *(f"models.{name}" for name in models.available())]


@contextmanager
def ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore signals; processes started meanwhile do so for good."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep a starting worker from importing the command's own module once more: all it needs is in the server."""
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def end_with_parent() -> None:
    """A sweep killed outright must leave no worker behind that writes into the folders of the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
