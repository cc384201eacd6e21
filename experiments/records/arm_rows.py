"""The runs of each arm, and the learning rate that its tuning runs choose: looked up, however many ask for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from experiments.records.rows import Row
from experiments.records.tuning import Choice, choose, tuning_losses

ROLES = ("evaluate", "tune")


@dataclass(frozen=True)
class ArmRows:
    """The tuning and the evaluation runs of one arm, each in order of learning rate and seed."""

    tuning: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)

    def of(self, role: str) -> list[Row]:
        return self.tuning if role == "tune" else self.evaluations

    @property
    def every(self) -> list[Row]:
        return [*self.evaluations, *self.tuning]

    @cached_property
    def losses(self) -> dict[float, dict[int, float]]:
        """Learning rate -> seed -> final validation loss of each tuning run."""
        return tuning_losses(self.tuning)

    @cached_property
    def choice(self) -> Choice:
        """The learning rate that the tuning runs choose. Raises ValueError if there are none."""
        return choose(self.tuning)


class Runs(dict[tuple[str, str], ArmRows]):
    """The runs of each (experiment, arm); an arm that has none is an empty one."""

    def __missing__(self, key: tuple[str, str]) -> ArmRows:
        return ArmRows()

    def seeds(self, least: int) -> int:
        """On how many every arm has to be evaluated: at least so many or, where some arms were on more, on these."""
        return max([least, *(len({row["seed"] for row in arm.evaluations}) for arm in self.values())])

    def rows(self) -> list[Row]:
        return [row for arm in self.values() for row in arm.every]


def group_runs(rows: Iterable[Row]) -> Runs:
    """Rows by (experiment, arm), in that order, whatever that of the rows."""
    runs = Runs()
    for row in sorted(rows, key=lambda row: (row["experiment"], row["arm"], row["learning_rate"] or 0.0, row["seed"])):
        runs.setdefault((row["experiment"], row["arm"]), ArmRows()).of(row["role"]).append(row)
    return runs
