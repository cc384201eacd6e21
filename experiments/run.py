"""One run: from a configuration to its record. `python -m experiments.run experiment=online_rnn norm=layer seed=3`."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import data
from experiments import machine, parallel, probes, records, schema
from experiments.errors import one_line, told_in_one_line
from experiments.evidence import best_learning_rate
from experiments.final_tests import OF_A_BATCH, WAYS
from experiments.locks import hold
from experiments.schema import Config, ConfigError
from experiments.tracking import Tell, mirroring
from experiments.training_run import Observer, pick_device, role_of, take_part, train_model
from models import kernels
from models.recurrence import RecurrentConfig


def run(config: Config, observe: Observer = lambda history: None) -> dict[str, Any]:
    """The record of a run: read where it is done, else trained, going on from its checkpoint if it has one.

    Raises Busy where another process is at it.
    """
    if (done := read(config)) is not None:
        return done
    records.make_folder(folder_of(config))
    with hold(folder_of(config)):
        return read(config) or run_alone(config, observe)  # it may be done by now, by whoever held the lock before


def run_alone(config: Config, observe: Observer = lambda history: None) -> dict[str, Any]:
    """Train, by a process that holds the run's lock."""
    folder = folder_of(config)
    if records.damaged(folder):
        print(f"{folder / records.RESULT}: damaged, the run is done again", file=sys.stderr)
    started = {**described(config), "options": dataclasses.asdict(config)}
    records.write(folder / records.CONFIG, json.dumps(started, indent=1) + "\n")
    record = measure(config, folder, observe)
    records.write_record(folder, record)
    records.tidy(folder)
    finite: dict[str, Any] = records.finite(record)
    return finite


def measure(config: Config, folder: Path, observe: Observer) -> dict[str, Any]:
    """Train, or measure what the configuration's probe does; the record."""
    prepared = machine.prepare(config.threads, config.batch_size // config.ranks, config.kernel)
    started = time.perf_counter()
    source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
    if config.method == "train":
        outcome = train_model(config, source, folder, observe)
    else:
        probe = probes.load(config.method)
        found = probe.measure(config, source)
        drawn = {"histograms": found.pop("histograms")} if "histograms" in found else {}
        final, timing = ({}, found) if probe.times else (found, {})  # times are no results
        outcome = {"status": "completed", "history": [], "timing": timing, "final": final, **drawn}
    outcome["timing"]["wall_seconds"] = time.perf_counter() - started
    return {
        "record_version": records.VERSION,
        **described(config),
        "synthetic": source.synthetic,
        **outcome,
        "environment": {**machine.environment(), "device": device_of(config), **prepared, "kernel": kernel_used()},
    }


def described(config: Config) -> dict[str, Any]:
    """What a run is, known before it starts."""
    plain = schema.scientific(config)
    return {
        "run": records.run_id(plain),
        "experiment": config.experiment,
        "scale": config.scale,
        "role": role_of(config),
        "group": arm_of(config),
        "config": {key: value for key, value in plain.items() if key != "experiment"},
    }


def device_of(config: Config) -> str:
    return str(pick_device(config.device)) if config.method == "train" else "cpu"


def kernel_used() -> str | None:
    """What the recurrent layers of this run ran on; None where it had none."""
    return " and ".join(sorted(kernels.used)) or None


def folder_of(config: Config) -> Path:
    return records.run_folder(config.results, schema.scientific(config))


def read(config: Config) -> dict[str, Any] | None:
    """The record of a finished run; None also where it served to tune and is now to be evaluated, with test metrics."""
    record = records.read_record(folder_of(config))
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


def tuning_runs(config: Config) -> list[Config]:
    """The runs that choose this arm's learning rate; none if the configuration names one."""
    if config.method != "train" or config.optim.learning_rate is not None:
        return []
    if not config.tuning.learning_rates:
        raise ConfigError("optim.learning_rate is null and tuning.learning_rates empty: give a rate or a grid of rates")
    once = dataclasses.replace(config, evaluations=1)  # what a rate is chosen by is the loss at the end
    return [schema.at(once, seed, rate) for rate in config.tuning.learning_rates for seed in config.tuning.seeds]


def tuned_rate(config: Config, tuned: list[dict[str, Any]]) -> float | None:
    """The learning rate to evaluate with, from the records of `tuning_runs(config)`."""
    if not tuned:
        return config.optim.learning_rate
    rows = [{**trial, "learning_rate": trial["config"]["optim"]["learning_rate"], "role": "tune"} for trial in tuned]
    return best_learning_rate(rows)[0]


def run_tuned(
    config: Config, observe: Observer = lambda history: None, tell: Tell = lambda folder: None
) -> dict[str, Any]:
    """`run`, after the tuning runs where the learning rate is left open; `tell` gets the folder of each."""
    check_runnable([config])
    trials = []
    for trial in tuning_runs(config):
        tell(folder_of(trial))
        trials.append(run(trial))
    final = schema.at(config, config.seed, tuned_rate(config, trials))
    tell(folder_of(final))
    return run(final, observe)


def check_runnable(configs: Sequence[Config]) -> None:
    """Find what would fail in every run before the first: the folder, the device, the data, a model that reads it."""
    for results in {config.results for config in configs}:
        records.check_writable(results)
    checked = set()
    for config in configs:
        if tuning_runs(config) and config.seed in config.tuning.seeds:
            raise ConfigError(f"seed={config.seed} is one of tuning.seeds, which only choose learning rates")
        key = repr(
            (config.device, config.kernel, config.data, config.model, config.norm, config.batch_size, config.ranks)
        )
        if key not in checked:
            parallel.check(config)
            check_kernel(config)
            pick_device(config.device)
            source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
            if config.method == "train" or probes.load(config.method).builds_model:
                machine.check_memory(config.model, config.norm, source.spec)
            checked.add(key)


def check_kernel(config: Config) -> None:
    """Refuse a run that demands kernels this machine has not; say so where it only has to do without."""
    if not isinstance(config.model, RecurrentConfig) or config.kernel == "reference":
        return
    on_cpu = pick_device(config.device).type == "cpu"
    reason = kernels.unavailable() if on_cpu else f"no kernel for device={config.device}"
    if reason and config.kernel == "native":
        raise ConfigError(f"kernel=native: {reason}")
    if reason and on_cpu:
        warn_once(f"recurrent layers run on the slow reference implementation: {reason}")


@cache
def warn_once(message: str) -> None:
    print(message, file=sys.stderr)


@hydra.main(config_path=str(schema.CONFIGS), config_name="run", version_base="1.3")
def main(composed: DictConfig) -> None:
    told_in_one_line(lambda: run_and_print(composed))  # here too: past this point Hydra adds lines of its own


def run_and_print(composed: DictConfig) -> None:
    from experiments import debug
    from experiments.progress import training_bar

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
        plain = json.loads((found[0] / records.CONFIG).read_text())["options"]
        return dataclasses.replace(schema.from_plain(plain), results=results)
    except FileNotFoundError:
        done = records.read_record(found[0]) is not None
        raise ConfigError(f"resume={name}: {'this run is done' if done else 'it never started'}") from None
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"resume={name}: {found[0] / records.CONFIG} is damaged: {one_line(error)}") from error


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
