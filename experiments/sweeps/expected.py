"""What a sweep is going to cost, before it begins: how many of its runs are missing, and the time of runs like them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from experiments.records.rows import Row
from experiments.sweeps.arm import Arm, Name

Times = dict[tuple[Name, str], list[float]]  # CPU seconds of an arm's runs of each role
STUDY, HERE, NOWHERE = "study", "here", "nowhere"  # where runs like a missing one were timed


@dataclass(frozen=True)
class Expected:
    """What is missing of `runs`, counted by where runs like it were timed, and the CPU seconds of all those that were.

    `open`: of some arm it is not known how many learning rates it will try.
    """

    runs: int
    missing: Counter[str]
    seconds: float
    open: bool


def expected(arms: Sequence[Arm], study: Iterable[Row]) -> Expected:
    """Of arms that have been looked at, by the runs that a study has of the same arms, else by those done here."""
    timed = times_of(study)
    asked: set[Path] = set()
    costs = [cost for arm in arms for cost in missing(arm, asked, timed)]
    kept = {run.folder.path for arm in arms for run in arm.runs if run.kept}
    waiting = any(not arm.evaluations and (arm.name, "tune") not in timed for arm in arms)
    counts = Counter(where for where, _ in costs)
    return Expected(len(kept) + len(costs), counts, sum(seconds for _, seconds in costs), waiting)


def missing(arm: Arm, asked: set[Path], timed: Times) -> Iterator[tuple[str, float]]:
    """Where runs like each missing one of an arm were timed, and their mean; trials that other arms have asked for are
    made once."""
    trials = {run.folder.path for run in arm.trials if not run.kept} - asked
    asked |= trials
    tried = len(timed.get((arm.name, "tune"), ()))
    further = 0 if arm.evaluations else max(0, tried - len(arm.trials))
    evaluations = len(arm.seeds) - sum(run.kept is not None for run in arm.evaluations)
    here = [run.kept["timing"]["cpu_seconds"] for run in arm.runs if run.kept]
    for role, count in (("tune", len(trials) + further), ("evaluate", evaluations)):
        if like := timed.get((arm.name, role)):
            yield from [(STUDY, fmean(like))] * count
        else:
            yield from [(HERE, fmean(here)) if here else (NOWHERE, 0.0)] * count


def times_of(rows: Iterable[Row]) -> Times:
    times: Times = defaultdict(list)
    for row in rows:
        times[(row["experiment"], row["arm"]), row["role"]].append(row["timing"]["cpu_seconds"])
    return times
