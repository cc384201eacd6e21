"""How far the runs of several arms are: what is done, running, failed and missing, and how long the rest will take."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.sweeps.arm import Arm, Outcome
from experiments.sweeps.failure import Failure
from experiments.sweeps.order import Order, kind_of
from experiments.training.identity import Run


@dataclass(frozen=True)
class InProgress:
    """A run in progress, for whoever shows it."""

    run: Run

    def seconds(self) -> float:
        return self.run.folder.seconds()


class Standing:
    """The arms asked for, and what can be told of them. `look` sees what has changed since the last look."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = arms
        self.by_arm = len({arm.config.experiment for arm in arms}) == 1
        self.order, self.timed = Order(), set[Path]()

    def look(self) -> None:
        for arm in self.arms:
            arm.look()
        for run in self.runs("done"):
            if run.folder.path not in self.timed and run.kept:
                self.timed.add(run.folder.path)
                self.order.timed(run, run.kept["timing"]["wall_seconds"])

    def runs(self, state: str) -> Iterator[Run]:
        return (run for arm in self.arms for run in arm.runs if run.state == state)

    def running(self) -> Iterator[InProgress]:
        return map(InProgress, self.runs("running"))

    def counts(self) -> Mapping[str, Counter[str]]:
        """How many runs are in each state, by experiment or, of one, by arm."""
        counts: dict[str, Counter[str]] = {}
        for arm in self.arms:
            counts.setdefault(arm.name[self.by_arm], Counter()).update(arm.counts())
        return counts

    def outcomes(self) -> list[Outcome]:
        return [arm.outcome() for arm in self.arms]

    def seconds_left(self) -> float | None:
        """With as many at a time as now, from the times of runs of the same kind."""
        running, overall = list(self.runs("running")), self.order.overall()
        if not running or overall is None:
            return None
        begun = sum(max(0.0, self.order.mean(run) - run.folder.seconds()) for run in running)
        waiting = [run for state in ("missing", "stopped", "unreadable") for run in self.runs(state)]
        left = sum(self.order.seconds(kind_of(run), overall) for run in waiting)
        # Evaluations that wait for their rate take as long as the trials do.
        left += sum(len(arm.seeds) * self.order.mean(arm.trials[0]) for arm in self.arms if not arm.evaluations)
        return (begun + left) / len(running)

    def failures(self) -> Iterator[str]:
        for run in self.runs("failed"):
            if why := run.folder.failure():
                yield Failure(run, why["reason"], why["log"]).text()
