"""From names and overrides to typed configurations: of one experiment, of every arm, of the jobs of a sweep."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import data
from experiments.records.files import SCIENTIFIC, flat, one_name
from experiments.records.one_line import Arguments
from experiments.sweeps.arm import Name
from experiments.sweeps.naming import name_among
from experiments.sweeps.options import known_experiments, known_scales, register
from experiments.training import checks, schema
from experiments.training.errors import one_line
from experiments.training.schema import Config, ConfigError

# By these overrides runs, their number or what they are compared by change.
SCIENCE = {*SCIENTIFIC, "ranks", "training_cases", "arms", "tuning", "seeds"}


def compose_config(experiment: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration `layernorm run experiment=<experiment> <overrides>` would run."""
    return chosen(load([f"experiment={experiment}", *overrides]))


def load(overrides: Sequence[str]) -> DictConfig:
    return compose("run", list(overrides), return_hydra_config=True)


def compose_arms(overrides: Sequence[str], experiments: Collection[str] = ()) -> dict[Name, Config]:
    """Every arm of these experiments, or of all, as a claim names it; seed and, where it is tuned, rate still open."""
    register()
    changed = {parsed(override).key_or_group for override in overrides}
    as_declared = not any(key.partition(".")[0] in SCIENCE for key in changed)
    arms = {}
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        for experiment in experiments or known_experiments():
            try:
                composed = load([f"experiment={experiment}", *overrides])
            except HydraException as error:
                raise ConfigError(f"{experiment}: {one_line(error)}") from None
            for arm, config in arm_configs(composed).items():
                if clash := changed & flat(config.arms[arm]).keys():
                    raise ConfigError(
                        f"{min(clash)}=...: the arms of {experiment} differ in it, so no override may set it"
                    )
                arms[experiment, arm] = dataclasses.replace(config, arm=arm) if as_declared else with_name(config)
    return arms


def arm_configs(composed: DictConfig) -> dict[str, Config]:
    """The arms of an experiment that is composed, not yet named."""
    choices = composed.hydra.runtime.choices
    experiment, scale = choices["experiment"], choices["scale"]
    config = to_config(composed, experiment, scale)
    return {arm: arm_config(composed, arm, experiment, scale) for arm in config.arms}


def with_name(config: Config) -> Config:
    """With the name of the arm that it is, or of the nearest and what differs."""
    declared = declared_arms(config.experiment, config.scale, json.dumps(config.arms))
    return dataclasses.replace(config, arm=name_among(config, *declared))


@cache
def declared_arms(experiment: str, scale: str, arms: str) -> tuple[Config, dict[str, Config]]:
    """An experiment and its arms as its file has them, whatever a command line has changed, and arms it has added."""
    composed = load([f"experiment={experiment}", f"scale={scale}"])
    own: Any = OmegaConf.to_container(composed.arms)
    composed.arms = {**own, **json.loads(arms), **own}
    config = to_config(deepcopy(composed), experiment, scale)
    return config, {arm: arm_config(composed, arm, experiment, scale) for arm in config.arms}


def to_config(composed: DictConfig, experiment: str, scale: str) -> Config:
    """The typed, checked configuration of one composed by Hydra."""
    config = run_of(composed, experiment, scale)
    if config.arm:
        known = ", ".join(config.arms) or "none"
        raise ConfigError(f"arm={config.arm}: an arm is chosen by its settings, norm=... say; {experiment} has {known}")
    scratch = deepcopy(composed)
    for arm, values in config.arms.items():
        set_values(scratch, values, f"{experiment}: arms.{arm}")
    return config


def arm_config(composed: DictConfig, arm: str, experiment: str, scale: str) -> Config:
    """The configuration of an experiment's arm: what Hydra composed, with the values of the arm merged in.

    Raises ConfigError, a line with experiment, arm, key and what would be valid.
    """
    where = f"{experiment}: arms.{arm}"
    changed = deepcopy(composed)
    set_values(changed, composed.arms[arm], where)
    try:
        return run_of(changed, experiment, scale)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def set_values(composed: DictConfig, values: object, where: str) -> None:
    """Merge what an arm sets into a configuration, in place."""
    groups = [values.get(key, {}) for key in ("model", "data")] if isinstance(values, Mapping) else [values]
    if unlike := [group for group in groups if not isinstance(group, Mapping)]:
        raise ConfigError(f"{where}: {text_of(unlike[0])} is no mapping of keys to values, such as {{norm: layer}}")
    try:
        composed.merge_with(values)
    except OmegaConfBaseException as error:
        place = f"{where}.{error.full_key or ''}".rstrip(".")
        raise ConfigError(f"{place}: {one_line(error)}") from None


def text_of(value: object) -> str:
    """As in YAML: a text that looks like a mapping has its quotes, and nothing is null."""
    if value is None:
        return "null"
    return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)


def run_of(composed: DictConfig, experiment: str, scale: str) -> Config:
    with open_dict(composed):
        composed.pop("hydra", None)
    composed.experiment, composed.scale = one_name("experiment", experiment), one_name("scale", scale)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    config.sizes, config.deviations = {}, ""  # have said what they are for
    checks.check(config)
    checks.check_together(config)
    config.data = data.identified(config.data)
    config.updates = schema.updates_of(config)
    config.tuning = schema.replicated(config)
    return config


def command_line(prog: str, description: str | None) -> argparse.ArgumentParser:
    """What commands about claims have in common."""
    parser = Arguments(prog=prog, description=description)
    parser.add_argument(
        "--scale", default="laptop", type=known_scale, help=f"{', '.join(known_scales())} (laptop): configs/scale/"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--claim", action="append", help="by id, 'B5*', source (paper, 6.6) or experiment (repeatable)")
    which.add_argument("--all", action="store_true", help="also the arms on which no claim rests")
    parser.add_argument(
        "--claims", metavar="FILE", help="claims of your own, judged alone, in the place of the suite's"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="with experiments of your own: experiment/<name>.yaml")
    parser.add_argument("overrides", nargs="*", help="for every run, as on the command line of layernorm run")
    return parser


def overrides_of(options: argparse.Namespace, seeds: int) -> list[str]:
    """What such a command line says of every run; claims of the user's own are asked of as many seeds as they need."""
    own = [f"seeds={seeds}"] if options.claims else []
    return [f"scale={options.scale}", *own, *options.overrides]


def known_scale(name: str) -> str:
    if name not in (known := known_scales()):
        raise argparse.ArgumentTypeError(str(checks.unknown_value("scale", name, known)))
    return name


def launcher(overrides: Sequence[str]) -> Any:
    """What runs the runs: this machine (hydra/launcher=sweep) or a cluster (hydra/launcher=slurm)."""
    register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return instantiate(load(overrides).hydra.launcher)


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
        seeds = [text for text in overrides if parsed(text).key_or_group == "seed" and is_value(parsed(text))]
        common = tuple(text for text in overrides if text not in seeds)
        if common not in self.typed:
            self.typed[common] = self.with_values(common)
        seed = parsed(seeds[-1]).value() if seeds else self.typed[common].seed
        if type(seed) is not int or not 0 <= seed <= schema.ANY_SEED["maximum"]:
            return self.in_full(overrides)  # which says what is wrong
        return dataclasses.replace(self.typed[common], seed=seed)

    def with_values(self, overrides: Sequence[str]) -> Config:
        values = [text for text in overrides if is_value(parsed(text)) and parsed(text).key_or_group not in self.groups]
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
    return configured(composed, choices["experiment"], choices["scale"])


def configured(composed: DictConfig, experiment: str, scale: str) -> Config:
    """The typed, checked and named configuration of one composed by Hydra."""
    return with_name(to_config(composed, experiment, scale))


@cache
def parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def is_value(override: Override) -> bool:
    """Whether an override does nothing but set a value of a run."""
    key = override.key_or_group
    return override.type == OverrideType.CHANGE and override.package is None and not key.startswith("hydra")
