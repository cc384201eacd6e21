"""One run: from a configuration to its record. `layernorm run experiment=online_rnn norm=layer seed=3`."""

import dataclasses
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.dashboards.wandb.process import mirroring
from experiments.records.files import from_json
from experiments.records.folder import CONFIG, DONE, RunFolder
from experiments.sweeps.arms import run_tuned
from experiments.sweeps.compose import configured
from experiments.sweeps.help import offer_help, short_help
from experiments.sweeps.options import named_folder, register
from experiments.training import checks, schema, torchrun
from experiments.training.errors import one_line, told_in_one_line
from experiments.training.identity import Run
from experiments.training.measured import outcome_line
from experiments.training.schema import Config, ConfigError


@hydra.main(config_path=str(schema.CONFIGS), config_name="run", version_base="1.3")
def main(composed: DictConfig) -> None:
    told_in_one_line(lambda: run_and_print(composed))  # here too: past this point Hydra adds lines of its own


def run_and_print(composed: DictConfig) -> None:
    from experiments.dashboards.progress import training_bar

    choices = HydraConfig.get().runtime.choices
    config = torchrun.as_started(configured(composed, choices["experiment"], choices["scale"]))
    if config.resume and config.debug:
        raise ConfigError(
            f"debug={config.debug} with resume={config.resume}: a debug run is always begun anew; leave one out"
        )
    if config.resume:
        config = torchrun.as_started(recorded(config.results, config.resume))
    if config.debug:
        from experiments.training.debug import debug

        return debug(config)
    with mirroring(config.tracking, config.results) as tell, training_bar(config) as observe:
        record = run_tuned(config, observe, tell)
    print(outcome_line(record))


def recorded(results: str, name: str) -> Config:
    """The configuration of a run that was started below `results`, by its id or `<experiment>/<id>`."""
    folders = map(RunFolder, sorted(Path(results, "runs").glob("*/*")))
    found = [folder for folder in folders if name in (folder.path.name, folder.name)]
    if len(found) != 1:
        which = f"; name one of {', '.join(folder.name for folder in found)}" if found else f" below {results}/runs"
        raise ConfigError(f"resume={name}: {'several runs have this id' if found else 'no such run'}{which}")
    (folder,) = found
    if not folder.path.resolve().is_relative_to(Path(results).resolve()):
        raise ConfigError(f"resume={name}: {folder.path} is a link that leaves {results}; nothing is written there")
    file = folder.path / CONFIG
    try:
        plain = from_json(file.read_text())["options"]
        config = dataclasses.replace(checks.from_plain(plain), results=results)
    except FileNotFoundError:
        done = folder.state == DONE
        raise ConfigError(f"resume={name}: {'this run is done' if done else 'it never started'}") from None
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"resume={name}: {file} is damaged: {one_line(error)}") from error
    if Run(config).folder.path != folder.path:
        raise ConfigError(f"resume={name}: {file} is another run's; give the command that began this one")
    return config


def start() -> None:
    folder, sys.argv[1:] = named_folder(sys.argv[1:])
    register(folder)
    offer_help()
    if len(sys.argv) == 1:
        return print(short_help())
    torchrun.led(main)


if __name__ == "__main__":
    told_in_one_line(start)
