"""Every arm of every experiment, and what its runs measure, composed once for as long as nothing has changed."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import data
import models
from experiments.sweeps import memory
from experiments.sweeps.arm import Name
from experiments.sweeps.compose import compose_arms
from experiments.training.measured import metric_names
from experiments.training.schema import Config, Optim, Tuning


def composed_arms(overrides: Sequence[str], experiments: Collection[str] = ()) -> dict[Name, Config]:
    """What `compose_arms` gives. The arms of a few experiments are found among all, or composed alone."""
    question = ["arms", *overrides]
    if (known := memory.recalled(question)) is not None:
        return {name: config for name, config in restored(known).items() if not experiments or name[0] in experiments}
    arms = compose_arms(overrides, experiments)
    if experiments:
        return arms
    kept = [[*name, dataclasses.asdict(config)] for name, config in arms.items()]
    if not any(getattr(config.data, "path", "") for config in arms.values()):  # whose content may change at any time
        memory.keep(question, kept)
    return arms


def restored(kept: Sequence[Sequence[Any]]) -> dict[Name, Config]:
    return {(experiment, arm): config_of(plain) for experiment, arm, plain in kept}


def config_of(plain: Mapping[str, Any]) -> Config:
    """The configuration that `dataclasses.asdict` made plain, which was checked then."""
    nodes = {
        "model": models.available()[plain["model"]["name"]],
        "data": data.available()[plain["data"]["name"]],
        "optim": Optim,
        "tuning": Tuning,
    }
    return Config(**{**plain, **{group: node(**plain[group]) for group, node in nodes.items()}})


def measured(configs: Mapping[Name, Config]) -> dict[str, set[str]]:
    """The names of all metrics of each experiment, without the packages that measure them."""
    by_experiment = {experiment: config for (experiment, _), config in configs.items()}
    question = ["metrics", {name: dataclasses.asdict(config) for name, config in by_experiment.items()}]
    if (known := memory.recalled(question)) is None:
        known = {experiment: sorted(metric_names(config)) for experiment, config in by_experiment.items()}
        memory.keep(question, known)
    return {experiment: set(names) for experiment, names in known.items()}
