"""An arm of an experiment: the runs that tune its learning rate, the rate, and the runs at its seeds."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from experiments.records import files
from experiments.records.tuning import best_learning_rate
from experiments.training import schema
from experiments.training.identity import read
from experiments.training.schema import Config, ConfigError


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


def by_arm(configs: Sequence[Config]) -> dict[str, list[Config]]:
    arms: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        arms[arm_key(config)].append(config)
    return arms


def arm_key(config: Config) -> str:
    """The same for all seeds of an arm, and another where the learning rate is given than where it is open."""
    return config.experiment + files.identity(schema.scientific(schema.at(config, 0, config.optim.learning_rate)))


def evaluation_configs(config: Config) -> list[Config]:
    return [schema.at(config, seed, config.optim.learning_rate) for seed in range(config.seeds)]


def read_arm(config: Config, seeds: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The finished runs of an arm: those that tune its rate and, once these are all there, those of `seeds`."""
    expected = tuning_runs(config)
    trials = [record for record in map(read, expected) if record]
    if len(trials) < len(expected):
        return trials, []
    rate = tuned_rate(config, trials)
    return trials, [record for seed in seeds if (record := read(schema.at(config, seed, rate)))]
