"""Who is told of a sweep as it goes. What shows it is none of the sweep's business: commands hand it in."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Look = Callable[[], None]  # called whenever something may have changed
Tasks = Callable[[int, int, str], None]  # called with runs done, runs in all, and a line to print or nothing


def nobody(folder: Path) -> None:
    pass


def unheard(record: Mapping[str, Any]) -> None:
    pass


@contextmanager
def unseen(sweep: object) -> Iterator[Look]:
    yield lambda: None


@contextmanager
def only_lines(total: int) -> Iterator[Tasks]:
    """Only the lines."""

    def show(done: int, total: int, line: str) -> None:
        if line:
            print(line, file=sys.stderr)

    yield show


@dataclass(frozen=True)
class Audience:
    """`tell` gets the folder of each run that starts, ends or is found done, `hear` the record of each that is done;
    `display` a sweep, `tasks` its size.
    """

    tell: Callable[[Path], None] = nobody
    display: Callable[..., AbstractContextManager[Look]] = unseen
    tasks: Callable[[int], AbstractContextManager[Tasks]] = only_lines
    hear: Callable[[Mapping[str, Any]], None] = unheard


QUIET = Audience()
