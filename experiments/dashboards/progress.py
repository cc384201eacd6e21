"""What is seen of a run or a sweep while it goes: bars and tables on a terminal, a line now and then elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

LINES_APART = 30.0  # seconds, where there is no terminal
SHOWN = 16  # of the runs in progress


def bar() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not sys.stderr.isatty())


@contextmanager
def training_bar(config: Any) -> Iterator[Callable[[list[dict[str, float]]], None]]:
    """A bar over the updates of one run; gives what is to be called with the history after each evaluation."""
    with bar() as progress:
        task = progress.add_task(f"{config.experiment} {config.norm} seed {config.seed}", total=config.updates)

        def observe(history: list[dict[str, float]]) -> None:
            if history:
                progress.update(task, completed=history[-1]["update"])

        yield observe


@contextmanager
def sweep_table(sweep: Any) -> Iterator[Callable[[], None]]:
    """A live table of a sweep, then its summary; without a terminal what is given prints a line now and then."""
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if not sys.stderr.isatty() and time.monotonic() - told > LINES_APART:
            told = time.monotonic()
            print(state_of(sweep), file=sys.stderr, flush=True)

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=lambda: table_of(sweep), console=console, refresh_per_second=2, transient=True):
            yield tell
    else:
        yield tell
    if sweep.counts["here"] or sweep.counts["elsewhere"]:
        print(sweep.summary(), file=sys.stderr)


def state_of(sweep: Any) -> str:
    """Such as `812 of 2834 runs done, 2 running, 1 failed, 12:30 left`."""
    done, total = sum(sweep.counts.values()), max(sweep.total, len(sweep.known))
    parts = [f"{done} of {total} runs done", f"{len(sweep.active)} running"]
    parts += [f"{len(sweep.elsewhere)} in other hands"] if sweep.elsewhere else []
    parts += [f"{len(sweep.failures)} failed"] if sweep.failures else []
    left = sweep.seconds_left()
    return ", ".join([*parts, *([] if left is None else [f"{minutes(left)} left"])])


def minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return (f"{hours}:" if hours else "") + f"{rest // 60:02}:{rest % 60:02}"


def table_of(sweep: Any) -> Group:
    """The state of a sweep and, a line each, its runs in progress: updates so far, last validation loss, time."""
    done, total = sum(sweep.counts.values()), max(sweep.total, len(sweep.known))
    running = Table.grid(padding=(0, 2))
    for worker in list(sweep.active.values())[:SHOWN]:
        running.add_row(*progress_line(worker.config, worker.folder, worker.seconds()))
    return Group(state_of(sweep), ProgressBar(total=total, completed=done, width=60), running)


def progress_line(config: Any, folder: Path, seconds: float) -> tuple[str, ...]:
    """The cells of a run in progress: name, updates so far, last validation loss, time."""
    row = last_row(folder)
    at = f"{row['update']:.0f} of {config.updates} updates" if row else ""
    loss = f"loss {row['validation_loss']:.3f}" if row and row.get("validation_loss") is not None else ""
    return f"{config.experiment}/{folder.name}", at, loss, minutes(seconds)


def last_row(folder: Path) -> dict[str, Any] | None:
    """The last evaluation of a run in progress."""
    try:
        row: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        return row
    except (OSError, ValueError, IndexError):
        return None
