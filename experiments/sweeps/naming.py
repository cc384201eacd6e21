"""The name of a run's arm, the same wherever the run is shown.

A run is an arm's only if its whole scientific configuration is that arm's, seed and learning rate aside. Any other is
named by the arm it is nearest to and by what differs: `layer_b16 batch_size=8`.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import data
import models
from experiments.records.files import UNSAID, flat, setting
from experiments.training import schema
from experiments.training.schema import Config

ASIDE = {"experiment", "seed", "optim.learning_rate"}  # an arm has many seeds, and its rate is tuned


def name_among(config: Config, declared: Config, arms: Mapping[str, Config]) -> str:
    """The name of a configuration of an experiment, which is declared with these arms.

    An experiment that has no arm by the name of the norm is taken to have one, which differs in the norm alone.
    """
    known = dict(arms)
    known.setdefault(config.norm, replace(declared, norm=config.norm))
    distances = {name: differences(config, arm) for name, arm in known.items()}
    nearest = min(distances, key=lambda name: len(distances[name]))
    return " ".join([nearest, *distances[nearest]])


def differences(config: Config, arm: Config) -> list[str]:
    """The settings in which a configuration is not an arm's, as on the command line."""
    own, other = ({**UNSAID, **flat(schema.scientific(either))} for either in (config, arm))
    parts = []
    for group, known in (("model", models.available()), ("data", data.available())):
        name = own[f"{group}.name"]
        if name != other[f"{group}.name"]:  # then what differs is what is not the model's, or the data's, default
            parts.append(f"{group}={name}")
            other |= flat({group: asdict(known[name]())})
    changed = [key for key, value in own.items() if key not in ASIDE and value != other.get(key)]
    return parts + [setting(key, own[key]) for key in shown(changed)] + users_file(own, changed)


def shown(changed: list[str]) -> list[str]:
    file = ("data.path", "data.digest", "data.corpus") if "data.digest" in changed else ("data.path",)
    return [key for key in changed if key not in file]


def users_file(own: Mapping[str, Any], changed: list[str]) -> list[str]:
    """A user's file is told by its name and the first digits of its digest: it may change and keep its name."""
    if "data.digest" not in changed:
        return []
    return [f"data.path={Path(own['data.path'] or '').name}@{own['data.digest'][:6]}"]
