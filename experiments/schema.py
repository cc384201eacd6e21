"""The configuration of a run: typed once, here for what all runs share, beside their code for models and data sets."""

import dataclasses
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

import data
import models
from experiments.probes import PROBES
from experiments.records import SCIENTIFIC, SuiteError
from models import kernels
from models.norms import NORMS


class ConfigError(SuiteError):
    """A configuration that cannot be run: the key, its value and what would be valid."""


@dataclass
class Optim:
    name: str = field(default="adam", metadata={"choices": ("adam", "sgd")})
    learning_rate: float | None = None  # null: the best of tuning.learning_rates on the tuning seeds
    momentum: float = 0.9  # sgd only
    schedule: str = field(default="linear", metadata={"choices": ("linear", "cosine", "constant")})  # decay to 0
    clip_norm: float = 0.0  # largest gradient norm; 0: no clipping


@dataclass
class Tuning:
    """How each arm gets its learning rate: the same grid and the same seeds, none of which is ever reported."""

    learning_rates: list[float] = field(default_factory=list)  # spaced by 3; the best must not be the first or last
    seeds: list[int] = field(default_factory=lambda: [1000, 1001], metadata={"minimum": 0})


@dataclass
class Config:
    # What is measured: a training run, or one of the exact properties and probes of experiments/probes/.
    method: str = field(default="train", metadata={"choices": ("train", *PROBES)})
    norm: str = field(default="layer", metadata={"choices": tuple(NORMS)})
    seed: int = field(default=0, metadata={"minimum": 0})
    batch_size: int = 32
    ranks: int = 1  # processes that share each mini-batch
    updates: int = 300  # optimiser steps
    # Above 0: the number of training cases, which then, divided by the batch size, gives the updates.
    training_cases: int = field(default=0, metadata={"minimum": 0})
    evaluations: int = 10  # on the validation set, evenly spaced
    model: Any = MISSING
    data: Any = MISSING
    optim: Optim = field(default_factory=Optim)
    # The rest names no science of a single run and is not part of its identity.
    experiment: str = ""
    scale: str = ""
    arms: dict[str, str] = field(default_factory=dict)  # arm -> the overrides that make it, as on the command line
    tuning: Tuning = field(default_factory=Tuning)
    seeds: int = 12  # evaluation seeds 0, 1, ... of `python -m experiments.reproduce`
    results: str = "results"  # folder of the records
    tracking: str = field(default="wandb", metadata={"choices": ("wandb", "none")})
    device: str = field(default="cpu", metadata={"choices": ("cpu", "cuda", "auto")})
    threads: int = 1  # of each process; several processes of one thread beat one of several on small nets
    workers: int = field(default=0, metadata={"minimum": 0})  # processes of a sweep; 0: one for each core
    # Recurrent layers: compiled kernels where they apply, only those, or the reference implementation.
    kernel: str = field(default="auto", metadata={"choices": kernels.MODES})
    checkpoint_seconds: float = 20.0


def register() -> None:
    """Make the schema and every model and data set known to Hydra."""
    OmegaConf.register_new_resolver("options", options_text, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, options in (("model", models.available()), ("data", data.available())):
        for name, node in options.items():
            store.store(group=group, name=name, node=node)


def options_text() -> str:
    """Every option with its default and, where there is a fixed set, its choices; for --help."""
    nodes: dict[str, Any] = {"run": Config(), "optim": Optim()}
    for group, found in (("model", models.available()), ("data", data.available())):
        nodes |= {f"{group}={name}": node() for name, node in found.items()}
    return "\n".join(f"{title}: {', '.join(told(node))}" for title, node in nodes.items())


def told(node: Any) -> list[str]:
    """`name=default`, or `name=default (choice|choice)`, of each option of a configuration."""
    lines = []
    for spec in dataclasses.fields(node):
        value, valid = getattr(node, spec.name), spec.metadata.get("choices")
        if spec.name != "name" and isinstance(value, str | int | float | list | None):
            lines.append(f"{spec.name}={value}" + (f" ({'|'.join(map(str, valid))})" if valid else ""))
    return lines


def to_config(composed: DictConfig, experiment: str, scale: str) -> Config:
    """The typed, checked configuration of one composed by Hydra."""
    with open_dict(composed):
        composed.pop("hydra", None)
    config = OmegaConf.to_object(OmegaConf.merge(composed, {"experiment": experiment, "scale": scale}))
    assert isinstance(config, Config)
    check(config)
    config.data = data.identified(config.data)
    if config.training_cases:
        config.updates = max(config.training_cases // config.batch_size, 1)
    return config


def check(node: Any, prefix: str = "") -> None:
    """Refuse values no run can have: integers below 1, negative or non-finite numbers, unknown choices.

    A field's metadata may name its `choices` or another `minimum`.
    """
    for spec in dataclasses.fields(node):
        value, key = getattr(node, spec.name), prefix + spec.name
        if dataclasses.is_dataclass(value):
            check(value, key + ".")
        choices = spec.metadata.get("choices")
        if choices and value not in choices:
            raise ConfigError(f"{key}={value}: choose one of {', '.join(map(str, choices))}")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            minimum = spec.metadata.get("minimum", 1 if isinstance(number, int) else 0)
            if not isfinite(number) or number < minimum:
                raise ConfigError(f"{key}={number}: must be at least {minimum} and finite")


def scientific(config: Config) -> dict[str, Any]:
    """The configuration as plain data, as it is recorded; `ranks` where there are several."""
    plain = dataclasses.asdict(config)
    return {key: plain[key] for key in ("experiment", *SCIENTIFIC, *(("ranks",) if config.ranks > 1 else ()))}


def at(config: Config, seed: int, learning_rate: float | None) -> Config:
    """The same run with another seed and learning rate."""
    optim = dataclasses.replace(config.optim, learning_rate=learning_rate)
    return dataclasses.replace(config, seed=seed, optim=optim)


CONFIGS = Path(__file__).resolve().parent.parent / "configs"
