"""In which order runs are started: those that take long first, so that no core is left with a long one at the end."""

from collections import deque
from math import inf
from statistics import fmean
from typing import Any

from experiments.training.identity import Run

Kind = tuple[Any, ...]


def kind_of(run: Run) -> Kind:
    """What runs must share to take about equally long."""
    config = run.config
    size = config.batch_size, config.ranks, config.updates, config.evaluations
    return (config.experiment, config.norm, *size, str(config.model))


class Order:
    """Runs to be started, by kind. How long a kind takes is measured: new kinds go before those that are known.

    With share=(k, n) the k-th of n shares of the kinds comes first.
    """

    def __init__(self, share: tuple[int, int] = (0, 1)) -> None:
        self.share = share
        self.waiting: dict[Kind, deque[Run]] = {}
        self.last: deque[Run] = deque()
        self.times: dict[Kind, tuple[int, float]] = {}  # runs measured, the sum of their seconds

    def push(self, run: Run, *, last: bool = False) -> None:
        if last:
            self.last.append(run)
        else:
            self.waiting.setdefault(kind_of(run), deque()).append(run)

    def pop(self) -> Run | None:
        ready = [(kind, index) for index, (kind, runs) in enumerate(self.waiting.items()) if runs]
        if not ready:
            return self.last.popleft() if self.last else None
        kind, _ = max(ready, key=lambda item: (self.own(item[1]), self.seconds(item[0], inf)))
        return self.waiting[kind].popleft()

    def own(self, index: int) -> bool:
        k, n = self.share
        return index % n == k

    def timed(self, run: Run, seconds: float) -> None:
        count, total = self.times.get(kind := kind_of(run), (0, 0.0))
        self.times[kind] = count + 1, total + seconds

    def seconds(self, kind: Kind, unknown: float) -> float:
        count, total = self.times.get(kind, (0, 0.0))
        return total / count if count else unknown

    def mean(self, run: Run) -> float:
        """Seconds a run like this takes: its kind's mean, else that of all."""
        return self.seconds(kind_of(run), self.overall() or 0.0)

    def overall(self) -> float | None:
        """Seconds of a run of unknown kind. Each kind counts once: of those that take long more are done by now."""
        return fmean(total / count for count, total in self.times.values()) if self.times else None

    def expected(self, unborn: int) -> float | None:
        """Seconds all waiting runs will take one after another, and `unborn` more of unknown kind; None: no idea."""
        if (overall := self.overall()) is None:
            return None
        waiting = sum(len(runs) * self.seconds(kind, overall) for kind, runs in list(self.waiting.items()))
        return waiting + (len(self.last) + unborn) * overall
