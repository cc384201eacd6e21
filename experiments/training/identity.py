"""A run: a configuration, and the folder that is its own."""

from typing import Any

from experiments.records.files import run_folder
from experiments.records.folder import DONE, MISSING, RunFolder
from experiments.training import code, schema
from experiments.training.schema import Config


class Run:
    """A configuration and its folder, named once.

    What it measured is told by three things: the scientific configuration, of which its id is a hash; the bytes of the
    data that were read; the code they went through. The last two are in its record.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.science = schema.scientific(config)
        self.folder = RunFolder(run_folder(config.results, self.science))
        self.id = self.folder.path.name
        self.kept: dict[str, Any] | None = None  # the record, once `look` has found it
        self.state = MISSING  # when last looked at

    @property
    def name(self) -> str:
        """Such as `lm_lstm/layer-s0-0123456789`."""
        return self.folder.name

    @property
    def code(self) -> str:
        return code.digest(self.config.method, self.config.model.name, self.config.data.name)

    @property
    def owner(self) -> str:
        """What a checkpoint belongs to."""
        return f"{self.id} made by {self.code}"

    def record(self) -> dict[str, Any] | None:
        """The record of a finished run; None also where it is to be made anew.

        So it is where the run served to tune and is now to be evaluated, with test metrics, and where it was made by
        other code and `rerun_changed` is set.
        """
        record = self.folder.record()
        if record is None or (record["role"] == "tune" and role_of(self.config) == "evaluate"):
            return None
        return None if self.config.rerun_changed and self.changed(record) else record

    def look(self) -> None:
        """See how far it is. What is done stays done: its record is read once."""
        if self.kept is None:
            state = self.folder.state
            self.kept = self.record() if state == DONE else None
            self.state = MISSING if state == DONE and self.kept is None else state

    def changed(self, record: dict[str, Any]) -> bool:
        """Whether a record was made by other code than this, or does not say by which."""
        return bool(record.get("code") != self.code)

    def described(self) -> dict[str, Any]:
        """What the run is, known before it starts."""
        config = self.config
        return {
            "run": self.id,
            "experiment": config.experiment,
            "scale": config.scale,
            "role": role_of(config),
            "group": config.arm or f"{config.norm}_b{config.batch_size}",
            "code": self.code,
            "config": {key: value for key, value in self.science.items() if key != "experiment"},
        }


def role_of(config: Config) -> str:
    return "tune" if config.seed in config.tuning.every_seed else "evaluate"
