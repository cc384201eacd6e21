"""Who is told of a sweep as it goes. What shows it is none of the sweep's business: commands hand it in."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Look = Callable[[], None]  # called whenever something may have changed
Tasks = Callable[[int, int, str], None]  # called with runs done, runs in all, and a line to print or nothing


class Summed(Protocol):
    """Of a sweep what is told in the end."""

    @property
    def counts(self) -> Mapping[str, int]: ...
    def summary(self) -> str: ...


def nobody(folder: Path) -> None:
    pass


@contextmanager
def quiet(sweep: Summed) -> Iterator[Look]:
    """Only what the sweep came to, in the end."""
    yield lambda: None
    if sweep.counts.get("here") or sweep.counts.get("elsewhere"):
        print(sweep.summary(), file=sys.stderr)


@contextmanager
def only_lines(total: int) -> Iterator[Tasks]:
    """Only the lines."""

    def show(done: int, total: int, line: str) -> None:
        if line:
            print(line, file=sys.stderr)

    yield show


@dataclass(frozen=True)
class Audience:
    """`tell` gets the folder of each run that starts, ends or is found done; `display` a sweep, `tasks` its size."""

    tell: Callable[[Path], None] = nobody
    display: Callable[..., AbstractContextManager[Look]] = quiet
    tasks: Callable[[int], AbstractContextManager[Tasks]] = only_lines


QUIET = Audience()
