"""What Hydra knows of the options: the schema, and a group for models, data and sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

import data
import models
from experiments.records.one_line import Arguments
from experiments.training import schema
from experiments.training.schema import Config, ConfigError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
IMAGES = {"paper": "cifar10"}  # the data of CNNs by scale, data=images_<scale>, where they are not MNIST
OUTSIDE: list[Path] = []  # folders of configurations beside configs/


def register(outside: str | None = None) -> None:
    """Make the schema, every model and data set, and what each scale means for experiments, known to Hydra.

    And the experiments of `outside`, a folder of the user's with experiment/<name>.yaml. Hydra does not search it:
    whatever else is in there would be a group of options.
    """
    if outside:
        add_folder(Path(outside))
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, options in (("model", models.available()), ("data", data.available())):
        for name, node in options.items():
            store.store(group=group, name=name, node=node)
    for scale in known_scales():
        store.store(group="data", name=f"images_{scale}", node={"defaults": [IMAGES.get(scale, "mnist")]})
    for path in experiment_files():
        said = read(path)
        if path.parents[1] in OUTSIDE:
            store.store(group="experiment", name=path.stem, node=said, package="_global_")
        for scale, sizes in said.get("sizes", {}).items():
            store.store(group="sizes", name=f"{scale}_{path.stem}", node=sizes, package="_global_")


def add_folder(folder: Path) -> None:
    """Let experiments be found in a folder beside configs/ too. Raises ConfigError, also where a name is taken."""
    files = sorted((folder / "experiment").glob("*.yaml"))
    if not files:
        raise ConfigError(f"--config-dir {folder}: there is no experiment/<name>.yaml")
    for path in files:
        if (schema.CONFIGS / "experiment" / path.name).exists():
            raise ConfigError(f"--config-dir {folder}: the suite has an experiment {path.stem}; choose another name")
    if folder not in OUTSIDE:
        OUTSIDE.append(folder)


def experiment_files() -> list[Path]:
    """Those of configs/ and of the user."""
    return sorted(path for folder in (schema.CONFIGS, *OUTSIDE) for path in (folder / "experiment").glob("*.yaml"))


def known_experiments() -> list[str]:
    return sorted(path.stem for path in experiment_files())


def named_folder(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """What follows --config-dir on a command line, if it is there, and the other words."""
    parser = Arguments(prog="layernorm run", add_help=False)
    parser.add_argument("--config-dir")
    found, others = parser.parse_known_args(list(words))
    return found.config_dir, others


def read(path: Path) -> dict[str, Any]:
    """What an experiment's file says. Raises ConfigError where it is none."""
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict) or not isinstance(said.get("sizes", {}), dict):
        raise ConfigError(f"{path}: no experiment; see those of configs/experiment/")
    return said


def known_scales() -> list[str]:
    return sorted(path.stem for path in (schema.CONFIGS / "scale").glob("*.yaml"))
