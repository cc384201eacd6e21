"""How many of the runs asked for are done, running, failed and missing: a table once, or again and again."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from experiments.dashboards.progress import LINES_APART, InProgress, lines_of, minutes
from experiments.dashboards.sparklines import ArmOutcome, arm_tables
from experiments.records.folder import DONE, FAILED_STATE, MISSING, RUNNING, STATES

ALWAYS = (DONE, RUNNING, FAILED_STATE, MISSING)  # shown, also where there is none
APART = 2.0  # seconds from look to look, at least
SHARE = 0.05  # of a core's time for looking, at most


class Standing(Protocol):
    """What is known of the runs asked for. `look` sees what has changed since the last look."""

    @property
    def by_arm(self) -> bool:
        """Whether `counts` are those of the arms of one experiment, and not of experiments."""

    def look(self) -> None: ...
    def counts(self) -> Mapping[str, Counter[str]]:
        """How many runs are in each state, by experiment or arm."""

    def running(self) -> Iterable[InProgress]: ...
    def seconds_left(self) -> float | None: ...
    def outcomes(self) -> Sequence[ArmOutcome]: ...


class Expected(Protocol):
    """What a sweep is going to make: its missing runs, by where runs like them were timed, and their CPU time."""

    @property
    def runs(self) -> int: ...
    @property
    def missing(self) -> Counter[str]:
        """Counts of `study`, `here` and, of no known time, `nowhere`."""

    @property
    def seconds(self) -> float: ...
    @property
    def open(self) -> bool:
        """Whether more may turn out to be missing."""


def watch(standing: Standing, console: Console, *, curves: bool) -> None:
    """Look again and again until all is done. Ctrl-C ends the looking, not the runs."""
    terminal = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext()
    try:
        with terminal as live:
            last = -LINES_APART
            while not set(total(standing)) <= {DONE}:
                if live:
                    live.update(Group(*view(standing, console, curves)), refresh=True)
                elif time.monotonic() - last > LINES_APART:
                    last = time.monotonic()
                    print(line(standing), flush=True)
                busy = time.process_time()
                standing.look()
                time.sleep(max(APART, (time.process_time() - busy) / SHARE))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{line(standing)}; runs in progress go on") from None


def view(standing: Standing, console: Console, curves: bool) -> list[RenderableType]:
    """What matters most first: a terminal may be too low for all of it."""
    outcomes = outcome_tables(standing, console) if curves else ()
    return [line(standing), lines_of(standing.running()), state_table(standing, whole=False), *outcomes]


def total(standing: Standing) -> Counter[str]:
    return sum(standing.counts().values(), Counter[str]())


def line(standing: Standing) -> str:
    """Such as `812 of 2990 runs done, 2 running, 2176 missing; 12:30 left`."""
    count, left = total(standing), standing.seconds_left()
    parts = [f"{count[DONE]} of {count.total()} runs done"]
    parts += [f"{count[state]} {state}" for state in STATES if state != DONE and count[state]]
    return ", ".join(parts) + ("" if left is None else f"; {minutes(left)} left")


def expected_line(expected: Expected, at_once: int, study: str) -> str:
    """Before a sweep, such as `90 of 120 runs are missing: about 04:00 of CPU time, at best 02:00 with 2 at a time, as
    such runs took in results/reference/laptop`."""
    missing = expected.missing
    if not missing.total():
        return f"all {expected.runs} runs are done"
    count = f"{'at least ' * expected.open}{missing.total()} of {expected.runs} runs are missing"
    if missing["nowhere"] == missing.total():
        return f"{count}; how long they take is unknown, for no run like them is done"
    took = " and ".join(where for key, where in (("study", f"in {study}"), ("here", "here")) if missing[key])
    cpu, wall = minutes(expected.seconds), minutes(expected.seconds / at_once)
    rest = f"; that of {missing['nowhere']} is unknown" if missing["nowhere"] else ""
    return f"{count}: about {cpu} of CPU time, at best {wall} with {at_once} at a time, as such runs took {took}{rest}"


def state_table(standing: Standing, *, whole: bool) -> Table:
    """How many runs are in each state, by experiment or arm; `whole`: also where all are done."""
    table = Table("arm" if standing.by_arm else "experiment", box=box.SIMPLE_HEAD, pad_edge=False)
    all_runs = total(standing)
    shown = [state for state in STATES if state in ALWAYS or all_runs[state]]
    for state in shown:
        table.add_column(state, justify="right")
    for name, count in standing.counts().items():
        if whole or set(count) != {DONE}:
            table.add_row(name, *(str(count[state] or "") for state in shown))
    table.add_section()
    table.add_row("all", *(str(all_runs[state]) for state in shown))
    return table


def outcome_tables(standing: Standing, console: Console) -> Iterable[Table]:
    return arm_tables(standing.outcomes(), console)
