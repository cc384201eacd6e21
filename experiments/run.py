"""One run: from a configuration to its record. `python -m experiments.run experiment=online_rnn norm=layer seed=3`."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.dashboards.wandb.process import mirroring
from experiments.records.folder import CONFIG, read_record
from experiments.sweeps.arms import run_tuned
from experiments.training import parallel, schema
from experiments.training.errors import one_line, told_in_one_line
from experiments.training.final_tests import OF_A_BATCH, WAYS
from experiments.training.schema import Config, ConfigError
from experiments.training.training_run import take_part


@hydra.main(config_path=str(schema.CONFIGS), config_name="run", version_base="1.3")
def main(composed: DictConfig) -> None:
    told_in_one_line(lambda: run_and_print(composed))  # here too: past this point Hydra adds lines of its own


def run_and_print(composed: DictConfig) -> None:
    from experiments.dashboards.progress import training_bar
    from experiments.training import debug

    choices = HydraConfig.get().runtime.choices
    config = parallel.as_started(schema.to_config(composed, choices["experiment"], choices["scale"]))
    if config.resume:
        config = parallel.as_started(recorded(config.results, config.resume))
    if config.debug:
        return debug.debug(config)
    with mirroring(config.tracking, config.results) as tell, training_bar(config) as observe:
        record = run_tuned(config, observe, tell)
    print(outcome_line(record))


def recorded(results: str, name: str) -> Config:
    """The configuration of a run that was started below `results`, by its id or `<experiment>/<id>`."""
    found = sorted(folder for folder in Path(results, "runs").glob("*/*") if name in (folder.name, path_name(folder)))
    if len(found) != 1:
        which = f"; name one of {', '.join(map(path_name, found))}" if found else f" below {results}/runs"
        raise ConfigError(f"resume={name}: {'several runs have this id' if found else 'no such run'}{which}")
    try:
        plain = json.loads((found[0] / CONFIG).read_text())["options"]
        return dataclasses.replace(schema.from_plain(plain), results=results)
    except FileNotFoundError:
        done = read_record(found[0]) is not None
        raise ConfigError(f"resume={name}: {'this run is done' if done else 'it never started'}") from None
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"resume={name}: {found[0] / CONFIG} is damaged: {one_line(error)}") from error


def path_name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def outcome_line(record: Mapping[str, Any]) -> str:
    """What a run came to: its id, status and test metrics (a probe's: all)."""
    training = record["config"]["method"] == "train"
    final = (record["final"] or record["timing"]).items()
    if record["config"]["norm"] not in OF_A_BATCH:
        final = [(name, value) for name, value in final if not name.startswith(WAYS[1:])]
    shown = [(name, value) for name, value in final if name.startswith("test") or not training]
    numbers = "  ".join(f"{name}={'-' if value is None else format(value, '.4g')}" for name, value in shown)
    return f"{record['experiment']}/{record['run']}  {record['status']}  {numbers}"


if __name__ == "__main__":
    schema.register()
    told_in_one_line(lambda: parallel.led(main, take_part))
