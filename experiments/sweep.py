"""Many runs on the cores of one machine: one process a run, forked from a server that has imported torch already.

A run that raises or dies touches no other; all failures are told at the end. What is done is skipped, what was
interrupted goes on from its checkpoint: both are in `run` itself.
"""

import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from experiments import records, tracking
from experiments.machine import commit
from experiments.processes import end_with_parent, main_hidden, server
from experiments.progress import bar
from experiments.run import EXPECTED, folder_of, read, run
from experiments.schema import Config
from experiments.training_run import pick_device

Done = Callable[[Config, dict[str, Any]], Iterable[Config]]  # what a finished run makes possible
TOLD = 10  # failures named in an error


class SweepError(records.SuiteError):
    """Runs that failed, each with its id and where to read why."""


def run_all(
    configs: Iterable[Config],
    *,
    workers: int = 0,
    total: int | None = None,
    on_done: Done = lambda config, record: (),
) -> None:
    """Run every configuration, `workers` at a time (0: one for each core).

    `on_done` gets each record, in the parent, and returns further configurations to run. Raises SweepError after the
    last run if any failed.
    """
    queue, failed = deque({folder_of(config): config for config in configs}.values()), list[str]()
    active: dict[Any, tuple[BaseProcess, Config]] = {}  # by the sentinel that tells its end
    commit()  # git is asked here, once: the workers inherit the answer
    context = server()
    with bar() as progress:
        task = progress.add_task("runs", total=total or len(queue))

        def settle(config: Config, record: dict[str, Any] | None) -> None:
            progress.advance(task)
            if record is None:
                failed.append(failure(config))
            else:
                queue.extend(on_done(config, record))

        def fill() -> None:
            while queue and len(active) < (workers or cores(queue[0])):
                config = queue.popleft()
                if (done := read(config)) is not None:
                    settle(config, done)
                    continue
                process = context.Process(target=work, args=(config,))  # no daemon: those may have no ranks
                with main_hidden():
                    process.start()
                active[process.sentinel] = process, config

        try:
            fill()
            while active:
                for sentinel in wait(list(active)):
                    process, config = active.pop(sentinel)
                    process.join()
                    record = read(config)
                    settle(config, record)
                    fill()  # before the mirror, so that no core waits for it
                    if record and config.tracking == "wandb":
                        tracking.mirror(record, config.results)
        finally:
            for process, _ in active.values():
                process.kill()
    if failed:
        more = f"; and {len(failed) - TOLD} more" if len(failed) > TOLD else ""
        raise SweepError(f"{len(failed)} of {total or 'the'} runs failed: " + "; ".join(failed[:TOLD]) + more)


def cores(config: Config) -> int:
    """How many runs at a time: their ranks together one for each processor this process may use; one run on a GPU."""
    if config.device != "cpu" and str(pick_device(config.device)) != "cpu":
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(usable // config.ranks, 1)


def work(config: Config) -> None:
    """What a worker does; its failure is a file in the run's folder."""
    (folder_of(config) / "error.txt").unlink(missing_ok=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        run(config)
    except Exception as error:
        expected = isinstance(error, (OSError, *EXPECTED))
        try:
            records.write(folder_of(config) / "error.txt", str(error) if expected else traceback.format_exc())
        except records.RecordError:  # a full disk has no room for the reason either
            print(f"{folder_of(config).name}: {error}", file=sys.stderr)
        sys.exit(1)


def failure(config: Config) -> str:
    path = folder_of(config) / "error.txt"
    lines = path.read_text().strip().splitlines() if path.exists() else []
    reason = f"{lines[-1]}; see {path}" if lines else "its process died"
    return f"{config.experiment}/{path.parent.name} ({reason})"
