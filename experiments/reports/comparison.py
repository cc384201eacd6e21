"""Two studies side by side, for a terminal: verdicts, runs and configurations that differ."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from experiments.records.differences import Difference, Differences, differences
from experiments.records.rows import Row
from experiments.records.table import RUNS, Origin, read_table
from experiments.reports.beside import beside_lines
from experiments.reports.tables import terminal_table
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.replication import AGREED, Repeated, compared
from experiments.verdicts.verdict import INCOMPLETE, Verdict
from experiments.verdicts.wording import number


@dataclass(frozen=True)
class Study:
    """A folder with a table of runs and what it led to."""

    name: str
    rows: Sequence[Row]
    origin: Origin
    verdicts: Sequence[Verdict]

    @property
    def complete(self) -> set[str]:
        return {verdict.id for verdict in self.verdicts if verdict.verdict != INCOMPLETE}

    def line(self) -> str:
        made = f", {self.origin.made}" if self.origin.made else ""
        return f"{self.name}: {len(self.rows)} runs by `{self.origin.command}`{made}"


def read_study(path: Path) -> Study:
    """Of a folder, or of the runs.csv in it. Raises TableError or VerdictsError, in a line."""
    folder = path.parent if path.name == RUNS else path
    here = folder.resolve().is_relative_to(Path.cwd())
    name = str(folder.resolve().relative_to(Path.cwd()) if here else folder)
    return Study(name, *read_table(folder), read_verdicts(folder / "claims.json"))


def comparison(first: Study, second: Study, *, every: bool = False) -> Iterator[str | Table]:
    """What is printed: of the claims in both those that moved or, if asked for, every one."""
    yield f"A  {first.line()}\nB  {second.line()}\n"
    pairs = compared(second.verdicts, first.verdicts)
    yield claims_line(pairs, first, second)
    if told := [pair for pair in pairs if every or pair.outcome != AGREED]:
        told.sort(key=lambda pair: pair.outcome == AGREED)
        yield beside_lines(told, "B", "A")
    found = differences(first.rows, second.rows)
    yield runs_line(found)
    if found.runs:
        yield terminal_table(run_columns(found))
    yield configs_line(found)
    if found.configs:
        yield terminal_table(config_columns(found))


def claims_line(pairs: Sequence[Repeated], first: Study, second: Study) -> str:
    outcomes = [pair.outcome for pair in pairs]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys((AGREED, *sorted(outcomes))))
    apart = [len(one.complete - other.complete) for one, other in ((first, second), (second, first))]
    return f"Claims: {len(pairs)} answered by both: {counts}; {apart[0]} by A alone, {apart[1]} by B alone."


def runs_line(found: Differences) -> str:
    count = f"{sum(found.both.values())} in both, {len(found.runs)} of them with other numbers"
    return f"Runs: {count}; {found.only[0]} in A alone, {found.only[1]} in B alone."


def configs_line(found: Differences) -> str:
    return f"Configurations: those of {sum(map(len, found.configs.values()))} of {found.arms} arms in both differ."


def run_columns(found: Differences) -> dict[str, list[str]]:
    """Of each experiment how many runs differ, and the largest difference."""
    by_experiment: dict[str, list[Difference]] = {}
    for difference in found.runs:
        by_experiment.setdefault(difference.experiment, []).append(difference)
    most = [max(group, key=lambda one: one.relative) for group in by_experiment.values()]
    return {
        "experiment": list(by_experiment),
        "differ": [f"{len(group)} of {found.both[name]}" for name, group in by_experiment.items()],
        "by at most": [number(one.relative, 2) if math.isfinite(one.relative) else "not finite" for one in most],
        "in": [f"{one.metric} of {one.run}" for one in most],
        "A": [number(one.values[0], 6) for one in most],
        "B": [number(one.values[1], 6) for one in most],
    }


def config_columns(found: Differences) -> dict[str, list[str]]:
    return {
        "experiment": [experiment for experiment, _ in found.configs],
        "arms": [
            ", ".join(arms[:3]) + (f", {len(arms) - 3} more" if len(arms) > 3 else "")
            for arms in found.configs.values()
        ],
        "A → B": ["\n".join(changes) for _, changes in found.configs],
    }
