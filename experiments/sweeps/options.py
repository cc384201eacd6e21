"""What Hydra knows of the options: the schema, a group for models, data and sizes, and a text for --help."""

import dataclasses
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import data
import models
from experiments.training.schema import CONFIGS, Config, Optim

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
IMAGES = {"paper": "cifar10"}  # the data of CNNs by scale, data=images_<scale>, where they are not MNIST
NOT_SET = ("name", "experiment", "scale", "arm", "deviations")  # but chosen, or said in a file


def register() -> None:
    """Make the schema, every model and data set, and what each scale means for experiments, known to Hydra."""
    OmegaConf.register_new_resolver("options", options_text, replace=True)
    OmegaConf.register_new_resolver("groups", groups_text, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, options in (("model", models.available()), ("data", data.available())):
        for name, node in options.items():
            store.store(group=group, name=name, node=node)
    for scale in known_scales():
        store.store(group="data", name=f"images_{scale}", node={"defaults": [IMAGES.get(scale, "mnist")]})
    for path in (CONFIGS / "experiment").glob("*.yaml"):
        said = yaml.load(path.read_text(), Loader=LOADER)
        for scale, sizes in said.get("sizes", {}).items():
            store.store(group="sizes", name=f"{scale}_{path.stem}", node=sizes, package="_global_")


def known_scales() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "scale").glob("*.yaml"))


def groups_text() -> str:
    """The groups a command line chooses from; for --help. Hydra itself would list every folder of configs/."""
    files = {group: sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")) for group in ("experiment", "scale")}
    groups = {**files, "model": models.available(), "data": data.available()}
    return "\n".join(f"{group}: {', '.join(choices)}" for group, choices in groups.items())


def options_text() -> str:
    """Every option with its default and, where there is a fixed set, its choices; for --help."""
    nodes: dict[str, Any] = {"run": Config(), "optim": Optim()}
    for group, found in (("model", models.available()), ("data", data.available())):
        nodes |= {f"{group}={name}": node() for name, node in found.items()}
    return "\n".join(f"{title}: {', '.join(options_of(node))}" for title, node in nodes.items())


def options_of(node: "DataclassInstance") -> list[str]:
    """`name=default`, or `name=default (choice|choice)`, of each option of a configuration."""
    lines = []
    for spec in dataclasses.fields(node):
        value, valid = getattr(node, spec.name), spec.metadata.get("choices")
        if spec.name not in NOT_SET and isinstance(value, str | int | float | list | None):
            lines.append(f"{spec.name}={value}" + (f" ({'|'.join(map(str, valid))})" if valid else ""))
    return lines
