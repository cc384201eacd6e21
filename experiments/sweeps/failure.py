"""How a run of a sweep failed, and what its user is told of it."""

from dataclasses import dataclass, field

from experiments.records import files
from experiments.records.commands import override, run_command
from experiments.records.printable import printable
from experiments.training.identity import Run


class SweepError(files.SuiteError):
    """Some runs failed; `details` tells each."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Failure:
    run: Run
    reason: str
    log: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The run, why it failed, the last it said, and the command that runs it again."""
        log = (f"  | {line}" for line in self.log)
        again = run_command([override("resume", self.run.name), override("results", self.run.config.results)])
        return "\n".join(map(printable, [f"{self.run.name}: {self.reason}", *log, f"  again: {again}"]))
