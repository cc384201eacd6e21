"""Which run a configuration is: its folder, its record, its role and its arm."""

from functools import reduce
from pathlib import Path
from typing import Any

from experiments.records import files
from experiments.records.folder import read_record
from experiments.training import schema
from experiments.training.schema import Config


def folder_of(config: Config) -> Path:
    return files.run_folder(config.results, schema.scientific(config))


def read(config: Config) -> dict[str, Any] | None:
    """The record of a finished run; None also where it served to tune and is now to be evaluated, with test metrics."""
    record = read_record(folder_of(config))
    return record if record and (record["role"] == "evaluate" or role_of(config) == "tune") else None


def arm_of(config: Config) -> str:
    """The name of the experiment's arm with these settings, of several the most particular; else the norm and batch."""
    fitting = [name for name, overrides in config.arms.items() if all(holds(config, o) for o in overrides.split())]
    default = f"{config.norm}_b{config.batch_size}"
    return max(fitting, key=lambda name: len(config.arms[name].split()), default=default)


def holds(config: Config, override: str) -> bool:
    """Whether a configuration has what `key=value` asks for; a rate may have been tuned since."""
    key, value = override.split("=")
    found = reduce(getattr, key.split("."), config)
    return str(found) == value or (isinstance(found, float) and found == float(value))


def role_of(config: Config) -> str:
    return "tune" if config.seed in config.tuning.seeds else "evaluate"
