"""What is done, running, failed and missing of the runs the claims need. `python -m experiments.status --help`.

Of chosen experiments (`--experiment`) also what came of each arm; with `--watch` again and again, until all is done.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from experiments.dashboards.progress import LINES_APART, SHOWN, minutes, progress_line
from experiments.dashboards.sparklines import MOST, ArmRuns, arm_tables
from experiments.records.folder import CONFIG, RESULT, read_failure
from experiments.records.locks import held
from experiments.sweeps.arm import evaluation_configs, tuned_rate, tuning_runs
from experiments.sweeps.compose import Arm, command_line, compose_arms
from experiments.sweeps.failure import Failure
from experiments.sweeps.order import Order, kind_of
from experiments.training import schema
from experiments.training.errors import told_in_one_line
from experiments.training.identity import folder_of, read
from experiments.training.schema import Config, ConfigError
from experiments.verdicts.claims_file import load_claims

STATES = ("done", "running", "failed", "missing")
APART = 2.0  # seconds from look to look, at least
SHARE = 0.05  # of a core's time for looking, at most


class Run:
    """A run and its state when last looked at. What is done stays done: its record is read once."""

    def __init__(self, config: Config) -> None:
        self.config, self.folder, self.kind = config, folder_of(config), kind_of(config)
        self.state = "missing"
        self.record: dict[str, Any] | None = None

    def look(self) -> None:
        if self.record is None and (self.folder / RESULT).exists():
            self.record = read(self.config)
        self.state = "done" if self.record else self.unfinished()

    def unfinished(self) -> str:
        if not self.folder.exists():
            return "missing"
        if held(self.folder):
            return "running"
        return "failed" if read_failure(self.folder) else "missing"

    def seconds(self) -> float:
        """Since it was started, or started again."""
        try:
            return max(0.0, time.time() - (self.folder / CONFIG).stat().st_mtime)
        except OSError:
            return 0.0


class ArmState:
    """The runs of an arm. Those of its evaluation have no identity before its tuning is done."""

    def __init__(self, config: Config) -> None:
        self.config, self.trials = config, [Run(trial) for trial in tuning_runs(config)]
        self.evaluations: list[Run] = []

    def look(self) -> None:
        for run in self.trials:
            run.look()
        trials = [run.record for run in self.trials if run.record]
        if not self.evaluations and len(trials) == len(self.trials):
            rate = tuned_rate(self.config, trials)
            finals = (schema.at(config, config.seed, rate) for config in evaluation_configs(self.config))
            self.evaluations = [Run(config) for config in finals]
        for run in self.evaluations:
            run.look()

    def runs(self) -> list[Run]:
        return self.trials + self.evaluations

    def counts(self) -> Counter[str]:
        found = Counter(run.state for run in self.runs())
        return found + Counter(missing=self.config.seeds - len(self.evaluations))


class Watched:
    """The arms asked for, and what can be told of them."""

    def __init__(self, arms: Mapping[Arm, Config]) -> None:
        self.arms = {arm: ArmState(config) for arm, config in arms.items()}
        self.by_arm = len({experiment for experiment, _ in arms}) == 1
        self.order, self.timed = Order(), set[Run]()

    def look(self) -> None:
        for arm in self.arms.values():
            arm.look()
        for run in self.runs("done"):
            if run not in self.timed and run.record:
                self.timed.add(run)
                self.order.timed(run.config, run.record["timing"]["wall_seconds"])

    def runs(self, state: str) -> Iterator[Run]:
        return (run for arm in self.arms.values() for run in arm.runs() if run.state == state)

    def total(self) -> Counter[str]:
        return sum((arm.counts() for arm in self.arms.values()), Counter[str]())

    def done(self) -> bool:
        return set(self.total()) <= {"done"}

    def line(self) -> str:
        """Such as `812 of 2990 runs done, 2 running, 2176 missing; 12:30 left`."""
        total = self.total()
        states = [f"{total[state]} {state}" for state in STATES[1:] if total[state]]
        told = ", ".join([f"{total['done']} of {total.total()} runs done", *states])
        left = self.seconds_left(total)
        return told if left is None else f"{told}; {minutes(left)} left"

    def seconds_left(self, total: Counter[str]) -> float | None:
        """With as many at a time as now, from the times of runs of the same kind."""
        running, overall = list(self.runs("running")), self.order.overall()
        if not running or overall is None:
            return None
        missing = [self.order.seconds(run.kind, overall) for run in self.runs("missing")]
        unnamed = overall * (total["missing"] - len(missing))
        begun = sum(max(0.0, self.order.seconds(run.kind, overall) - run.seconds()) for run in running)
        return (sum(missing) + unnamed + begun) / len(running)

    def failures(self) -> Iterator[str]:
        for run in self.runs("failed"):
            if known := read_failure(run.folder):
                yield Failure(run.config, known["reason"], known["log"]).told()

    def states(self, whole: bool) -> Table:
        """How many runs are in each state, by experiment or, of one, by arm; `whole`: also where all are done."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for (experiment, name), arm in self.arms.items():
            counts[name if self.by_arm else experiment].update(arm.counts())
        shown = {name: count for name, count in counts.items() if whole or set(count) != {"done"}}
        table = Table("arm" if self.by_arm else "experiment", box=box.SIMPLE_HEAD, pad_edge=False)
        for state in STATES:
            table.add_column(state, justify="right")
        for name, count in shown.items():
            table.add_row(name, *(str(count[state] or "") for state in STATES))
        table.add_section()
        table.add_row("all", *(str(self.total()[state]) for state in STATES))
        return table

    def in_progress(self) -> Table:
        """A line for each run in progress: updates so far, last validation loss, time."""
        table = Table.grid(padding=(0, 2))
        for run in islice(self.runs("running"), SHOWN):
            table.add_row(*progress_line(run.config, run.folder, run.seconds()))
        return table

    def outcomes(self, console: Console) -> Iterator[Table]:
        found = [
            ArmRuns(*name, arm.config.seeds, [run.record for run in arm.evaluations if run.record])
            for name, arm in self.arms.items()
        ]
        return arm_tables(found, plain=console.options.ascii_only)


def status(options: argparse.Namespace) -> None:
    arms = compose_arms([f"scale={options.scale}", *options.overrides])
    asked, console = wanted(options, arms), Console()
    watched = Watched({arm: config for arm, config in arms.items() if arm in asked})
    curves = bool(options.experiment) and len(asked) <= MOST
    watched.look()
    if options.watch:
        watch(watched, console, curves)
    console.print(watched.states(whole=True), *(watched.outcomes(console) if curves else ()), sep="")
    for told in watched.failures():
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def watch(watched: Watched, console: Console, curves: bool) -> None:
    """Look again and again until all is done. Ctrl-C ends the looking, not the runs."""
    try:
        with (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live
        ):
            told = -LINES_APART
            while not watched.done():
                if live:
                    live.update(Group(*live_parts(watched, console, curves)), refresh=True)
                elif time.monotonic() - told > LINES_APART:
                    told = time.monotonic()
                    print(watched.line(), flush=True)
                busy = time.process_time()
                watched.look()
                time.sleep(max(APART, (time.process_time() - busy) / SHARE))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{watched.line()}; runs in progress go on") from None


def live_parts(watched: Watched, console: Console, curves: bool) -> list[RenderableType]:
    """What matters most first: a terminal may be too low for all of it."""
    outcomes = watched.outcomes(console) if curves else ()
    return [watched.line(), watched.in_progress(), watched.states(whole=False), *outcomes]


def wanted(options: argparse.Namespace, arms: dict[Arm, Config]) -> set[Arm]:
    """The arms of the chosen claims and experiments; without any, all."""
    known = {experiment for experiment, _ in arms}
    for name in options.experiment or []:
        if name not in known:
            raise ConfigError(f"--experiment {name}: choose one of {', '.join(sorted(known))}")
    found = {arm for arm in arms if arm[0] in (options.experiment or [])}
    if options.claim:
        registry = load_claims().select(options.claim)
        found |= {arm for claim in registry.claims for arm in claim.arms()}
    return found if options.claim or options.experiment else set(arms)


def main() -> None:
    parser = command_line("python -m experiments.status", __doc__)
    parser.add_argument("--experiment", action="append", help="only this one (repeatable), arm by arm")
    parser.add_argument("--watch", action="store_true", help="look again and again until all is done, or Ctrl-C")
    options = parser.parse_args()
    told_in_one_line(lambda: status(options))


if __name__ == "__main__":
    main()
