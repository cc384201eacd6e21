"""How a run of a sweep failed, and what its user is told of it."""

from dataclasses import dataclass, field

from experiments.records import files
from experiments.training.identity import folder_of
from experiments.training.schema import Config


class SweepError(files.SuiteError):
    """Some runs failed; `details` tells each."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Failure:
    config: Config
    reason: str
    log: list[str] = field(default_factory=list)

    def told(self) -> str:
        """The run, why it failed, the last it said, and the command that runs it again."""
        name = f"{self.config.experiment}/{folder_of(self.config).name}"
        again = f"python -m experiments.run resume={name} results={self.config.results}"
        return "\n".join([f"{name}: {self.reason}", *(f"  | {line}" for line in self.log), f"  again: {again}"])
