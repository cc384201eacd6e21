"""What is refused of a configuration, in one line: keys and values no run can have, and those that change nothing."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from math import isfinite
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

import data
import models
from experiments.records.nearest import did_you_mean, nearest, nearest_key
from experiments.training import probes
from experiments.training.schema import Config, ConfigError, Optim, Tuning, default, updates_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST = {int: 10**9, float: 3.4e38}  # what a float32 can hold
GROUPS: dict[str, Callable[[], dict[str, type]]] = {"model": models.available, "data": data.available}
UNSET = ("_target_", "arm", "sizes", "deviations")  # keys that no command line sets


def from_plain(plain: dict[str, Any]) -> Config:
    """The configuration that `dataclasses.asdict` made plain; raises KeyError, ValueError or OmegaConf's errors."""
    nodes = {"model": models.available()[plain["model"]["name"]], "data": data.available()[plain["data"]["name"]]}
    typed = OmegaConf.structured(Config(**{group: node() for group, node in nodes.items()}))
    config = OmegaConf.to_object(OmegaConf.merge(typed, plain))
    assert isinstance(config, Config)
    check(config)
    check_together(config)
    return config


def check(node: "DataclassInstance", prefix: str = "") -> None:
    """Refuse keys and values no run can have; a field's metadata may name its rules:

    `choices`, `minimum` (of an integer 1, of other numbers 0), `maximum` (LARGEST), `distinct` values in a list,
    `empty`: False, and `needs` (`check_effects`).
    """
    specs = {spec.name: spec for spec in dataclasses.fields(node)}
    for unknown in sorted(vars(node).keys() - specs):  # +key=value on the command line adds one
        raise ConfigError(f"{prefix}{unknown}: there is no such key; {unknown_key(prefix + unknown, node.__class__)}")
    for name, spec in specs.items():
        value, key, rules = getattr(node, name), prefix + name, spec.metadata
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check(value, key + ".")
        choices = rules.get("choices")
        if choices and value not in (spec.default, *choices):
            raise unknown_value(key, value, map(str, choices))
        if is_chosen(spec) and value != spec.default:
            raise ConfigError(f"{key}={value}: the name is not set but chosen, with {prefix[:-1]}=<name>")
        if rules.get("empty") is False and not value:
            raise ConfigError(f"{key}={value}: must not be empty")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, list):  # OmegaConf lets it through
                raise ConfigError(f"{key}={value}: give a list of numbers")
            check_number(key, number, rules)
        if rules.get("distinct") and len(set(value)) < len(value):
            raise ConfigError(f"{key}={value}: the values must differ")


def unknown_value(key: str, value: object, choices: Iterable[str]) -> ConfigError:
    valid = list(choices)
    return ConfigError(f"{key}={value}: {did_you_mean(nearest(str(value), valid))}choose one of {', '.join(valid)}")


def unknown_key(key: str, node: type["DataclassInstance"]) -> str:
    """What to say of a key that these options do not have: what may be meant, where there is one, what is valid."""
    own = [spec.name for spec in settable(node)]
    prefix, everywhere = key[: key.rfind(".") + 1], every_key()
    near = nearest_key(key, [prefix + name for name in own]) or nearest_key(key, everywhere.keys() - {key})
    others = f"it is one of {', '.join(everywhere[key])}; " if key in everywhere else ""
    return f"{others}{did_you_mean(near)}valid keys: {', '.join(own)}"


def every_key() -> dict[str, list[str]]:
    """Every key of every model and data set, and which of them have it."""
    nodes: dict[str, type[DataclassInstance]] = {"a run": Config, "optim": Optim, "tuning": Tuning}
    nodes |= {f"{group}={name}": node for group in GROUPS for name, node in GROUPS[group]().items()}
    found: dict[str, list[str]] = {}
    for owner, node in nodes.items():
        prefix = "" if node is Config else owner.partition("=")[0] + "."
        for spec in settable(node):
            found.setdefault(prefix + spec.name, []).append(owner)
    return found


def settable(node: type["DataclassInstance"]) -> list[dataclasses.Field[Any]]:
    """The options that a command line may set: all but the names of models and data sets, which are chosen."""
    return [spec for spec in dataclasses.fields(node) if spec.name not in UNSET and not is_chosen(spec)]


def is_chosen(spec: dataclasses.Field[Any]) -> bool:
    return spec.name == "name" and "choices" not in spec.metadata


def check_number(key: str, number: object, rules: Mapping[str, Any]) -> None:
    """Refuse a number outside its field's range; what is none is left alone."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return
    minimum = rules.get("minimum", 1 if isinstance(number, int) else 0)
    maximum = rules.get("maximum", LARGEST[type(number)])
    if not isfinite(number) or number < minimum:
        raise ConfigError(f"{key}={number}: must be at least {minimum} and finite")
    if number > maximum:
        raise ConfigError(f"{key}={number}: must be at most {maximum:,}")


def check_together(config: Config) -> None:
    """Refuse values that do not fit one another, where only training would find out, and those without effect."""
    data.check(config.data)
    if config.method != "train":
        probe = probes.load(config.method)
        for key, value, known in (("model", config.model.name, probe.models), ("norm", config.norm, probe.norms)):
            if known and value not in known:
                choices = " or ".join(known)
                raise ConfigError(f"method={config.method} with {key}={value}: choose {key}={choices}")
    check_effects(config)
    if twice := set(config.tuning.seeds) & set(config.tuning.further_seeds):
        raise ConfigError(
            f"tuning.further_seeds={config.tuning.further_seeds}: {min(twice)} is one of tuning.seeds too"
        )
    ghost_size = getattr(config.model, "ghost_size", 0)
    share = config.batch_size // config.ranks
    if ghost_size and share % ghost_size:
        of = f"batch_size={config.batch_size}" + (f" shared by ranks={config.ranks}" if config.ranks > 1 else "")
        raise ConfigError(f"model.ghost_size={ghost_size} does not divide {of}")


def check_effects(config: Config) -> None:
    """Refuse a value other than the default that would make another run of the same bits.

    What an option needs to change anything, its metadata say: `needs`, values by the key of another option.
    """
    norms = (probes.load(config.method).compared if config.method != "train" else ()) or (config.norm,)
    for part in ("model", "data", "optim"):
        node = getattr(config, part)
        for spec in dataclasses.fields(node):
            key, value = f"{part}.{spec.name}", getattr(node, spec.name)
            if value == default(spec):
                continue
            for other, valid in spec.metadata.get("needs", {}).items():
                found = reduce(getattr, other.split("."), config)
                if not set(norms if other == "norm" else (found,)) & set(valid):
                    raise idle(key, value, other, found, valid)
    if config.training_cases and config.updates not in (Config.updates, updates_of(config)):
        raise idle("updates", config.updates, "training_cases", config.training_cases, (0,))


def idle(key: str, value: object, other: str, found: object, valid: Sequence[Any]) -> ConfigError:
    choices = " or ".join(map(str, valid))
    return ConfigError(f"{key}={value} changes nothing with {other}={found}: leave it out, or choose {other}={choices}")
