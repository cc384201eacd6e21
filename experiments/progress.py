"""Progress bars with the remaining time on a terminal; silence elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
