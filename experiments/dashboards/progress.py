"""What is seen of a run or a sweep while it goes: bars and tables on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from experiments.dashboards.terminal import Terminal
from experiments.records.folder import RunFolder

LINES_APART = 30.0  # seconds, where there is no terminal
SHOWN = 16  # of the runs in progress


class ShownPlan(Protocol):
    """Of a run's configuration what is shown."""

    @property
    def experiment(self) -> str: ...
    @property
    def norm(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def updates(self) -> int: ...


class ShownRun(Protocol):
    """A run: its plan, and where it writes."""

    @property
    def config(self) -> ShownPlan: ...
    @property
    def folder(self) -> RunFolder: ...


class InProgress(Protocol):
    """A run in progress, and for how many seconds it has been at work."""

    @property
    def run(self) -> ShownRun: ...
    def seconds(self) -> float: ...


class SweepState(Protocol):
    """How far a sweep has come."""

    @property
    def total(self) -> int:
        """Of runs, where it is known before they all are."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Runs done: `found` done, done `here`, done `elsewhere`."""

    @property
    def known(self) -> Collection[Path]: ...
    @property
    def active(self) -> Mapping[int, InProgress]: ...
    @property
    def elsewhere(self) -> Collection[Path]:
        """Runs in the hands of another sweep."""

    @property
    def failures(self) -> Collection[object]: ...
    def seconds_left(self) -> float | None: ...


def bar() -> Progress:
    console = Terminal(stderr=True)
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
def training_bar(config: ShownPlan) -> Iterator[Callable[[list[dict[str, float]]], None]]:
    """A bar over the updates of one run; gives what is to be called with the history after each evaluation."""
    with bar() as progress:
        task = progress.add_task(f"{config.experiment} {config.norm} seed {config.seed}", total=config.updates)

        def observe(history: list[dict[str, float]]) -> None:
            if history:
                progress.update(task, completed=history[-1]["update"])

        yield observe


@contextmanager
def display(sweep: SweepState) -> Iterator[Callable[[], None]]:
    """A live table of a sweep; without a terminal, what is given prints a line now and then."""
    last = time.monotonic()

    def print_line() -> None:
        nonlocal last
        if not sys.stderr.isatty() and time.monotonic() - last > LINES_APART:
            last = time.monotonic()
            print(state_of(sweep), file=sys.stderr, flush=True)

    console = Terminal(stderr=True)
    if console.is_terminal:
        # What is printed meanwhile goes above it; where that is read by a program, not through it.
        above = sys.stdout.isatty()
        with Live(
            get_renderable=lambda: sweep_view(sweep),
            console=console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=above,
        ):
            yield print_line
    else:
        yield print_line


def state_of(sweep: SweepState) -> str:
    """Such as `812 of 2834 runs done, 2 running, 1 failed, 12:30 left`."""
    done, total = done_of(sweep)
    parts = [f"{done} of {total} runs done", f"{len(sweep.active)} running"]
    parts += [f"{len(sweep.elsewhere)} in other hands"] if sweep.elsewhere else []
    parts += [f"{len(sweep.failures)} failed"] if sweep.failures else []
    left = sweep.seconds_left()
    return ", ".join([*parts, *([] if left is None else [f"{minutes(left)} left"])])


def done_of(sweep: SweepState) -> tuple[int, int]:
    """How many runs are done, and of how many."""
    return sum(sweep.counts.values()), max(sweep.total, len(sweep.known))


def minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return (f"{hours}:" if hours else "") + f"{rest // 60:02}:{rest % 60:02}"


def sweep_view(sweep: SweepState) -> Group:
    """The state of a sweep and its runs in progress."""
    done, total = done_of(sweep)
    bar = Padding(ProgressBar(total=total, completed=done, width=60), 0)  # by itself it does not end its line
    return Group(state_of(sweep), bar, lines_of(sweep.active.values()))


def lines_of(running: Iterable[InProgress]) -> Table:
    """A line for each of the first runs in progress: name, updates so far, last validation loss, time."""
    table = Table.grid(padding=(0, 2))
    for numbers in (False, True, True, True):  # where there is no room for all, the name is cut
        table.add_column(no_wrap=numbers, overflow="ellipsis")
    for one in islice(running, SHOWN):
        row: dict[str, float | None] = one.run.folder.last_evaluation()
        at = f"{row['update']:.0f} of {one.run.config.updates} updates" if "update" in row else ""
        loss = row.get("validation_loss")
        table.add_row(one.run.folder.name, at, "" if loss is None else f"loss {loss:.3f}", minutes(one.seconds()))
    return table


@contextmanager
def tasks(total: int) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the runs of a sweep whose tasks are elsewhere; gives what is to be called with how far it is."""
    with bar() as progress:
        task = progress.add_task("runs", total=total)

        def show(done: int, total: int, line: str) -> None:
            progress.update(task, completed=done, total=total)
            if line:
                progress.console.print(line, soft_wrap=True)

        yield show
