"""From names and overrides to typed configurations: of one experiment, of every arm, of the jobs of a sweep."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import schema
from experiments.schema import Config, ConfigError

Arm = tuple[str, str]  # experiment and arm, as a claim names them


def known_experiments() -> list[str]:
    return sorted(path.stem for path in (schema.CONFIGS / "experiment").glob("*.yaml"))


def compose_config(experiment: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration `python -m experiments.run experiment=<experiment> <overrides>` would run."""
    return with_values(compose_experiment(experiment, overrides), experiment)


def compose_experiment(experiment: str, overrides: Sequence[str]) -> DictConfig:
    return compose("run", [f"experiment={experiment}", *overrides], return_hydra_config=True)


def with_values(composed: DictConfig, experiment: str, values: Sequence[str] = ()) -> Config:
    """A composed configuration with some values (not groups) set; much cheaper than to compose it anew."""
    scale = composed.hydra.runtime.choices["scale"]
    changed = OmegaConf.merge(composed, OmegaConf.from_dotlist(list(values)))
    assert isinstance(changed, DictConfig)
    return schema.to_config(changed, experiment, scale)


def compose_arms(overrides: Sequence[str]) -> dict[Arm, Config]:
    """Every arm of every experiment, as a claim names it; seed and, where it is tuned, learning rate still open."""
    schema.register()
    changed = {override.split("=")[0] for override in overrides}
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        arms = {}
        for experiment in known_experiments():
            composed = compose_experiment(experiment, overrides)
            for arm, own in with_values(composed, experiment).arms.items():
                clash = changed & {override.split("=")[0] for override in own.split()}
                if clash:
                    raise ConfigError(
                        f"{min(clash)}=...: the arms of {experiment} differ in it, so no override may set it"
                    )
                arms[experiment, arm] = with_values(composed, experiment, own.split())
    return arms


def launcher(overrides: Sequence[str]) -> Any:
    """What runs the runs: this machine (hydra/launcher=sweep) or a cluster (hydra/launcher=slurm)."""
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return instantiate(compose_experiment(known_experiments()[0], overrides).hydra.launcher)


class Jobs:
    """The configurations of a sweep's jobs.

    To compose one takes a tenth of a second. So each choice of groups is composed once, values are set in a copy, and
    jobs that differ in their seed alone share all the rest. `load` composes a list of overrides in full.
    """

    def __init__(self, load: Callable[[list[str]], DictConfig]) -> None:
        self.load = load
        self.groups = set(load([]).hydra.runtime.choices)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.typed: dict[tuple[str, ...], Config] = {}

    def configs(self, jobs: Iterable[Sequence[str]]) -> list[Config]:
        return [self.config(overrides) for overrides in jobs]

    def config(self, overrides: Sequence[str]) -> Config:
        seeds = [text for text in overrides if parsed(text).key_or_group == "seed" and plain(parsed(text))]
        common = tuple(text for text in overrides if text not in seeds)
        if common not in self.typed:
            self.typed[common] = self.with_values(common)
        seed = parsed(seeds[-1]).value() if seeds else self.typed[common].seed
        if type(seed) is not int or not 0 <= seed <= schema.ANY_SEED["maximum"]:
            return self.in_full(overrides)  # which says what is wrong
        return dataclasses.replace(self.typed[common], seed=seed)

    def with_values(self, overrides: Sequence[str]) -> Config:
        values = [text for text in overrides if plain(parsed(text)) and parsed(text).key_or_group not in self.groups]
        groups = tuple(text for text in overrides if text not in values)
        if groups not in self.composed:
            self.composed[groups] = self.load(list(groups))
        changed = deepcopy(self.composed[groups])
        try:
            for override in map(parsed, values):
                OmegaConf.update(changed, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            return self.in_full(overrides)
        return chosen(changed)

    def in_full(self, overrides: Sequence[str]) -> Config:
        return chosen(self.load(list(overrides)))


def chosen(composed: DictConfig) -> Config:
    choices = composed.hydra.runtime.choices
    return schema.to_config(composed, choices["experiment"], choices["scale"])


@cache
def parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def plain(override: Override) -> bool:
    """Whether an override does nothing but set a value of a run."""
    key = override.key_or_group
    return override.type == OverrideType.CHANGE and override.package is None and not key.startswith("hydra")
