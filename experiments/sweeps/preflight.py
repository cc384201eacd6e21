"""What would fail in every run of a sweep is found before the first."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import data
from experiments.records import files
from experiments.sweeps.arm import Name, tuning_trials
from experiments.sweeps.composed import measured
from experiments.training import probes
from experiments.training.schema import Config, ConfigError


def check_runnable(configs: Sequence[Config], at_once: int = 1) -> None:
    """Find what would fail in every run before the first: the folder, the device, the data, a model that reads it, and
    memory for so many processes at once.
    """
    from experiments.training import machine, parallel  # with them PyTorch, which is imported to train alone

    data.tell_of_downloads()
    for results in {config.results for config in configs}:
        files.check_writable(results)
    checked = set()
    for config in configs:
        if tuning_trials(config) and config.seed in config.tuning.every_seed:
            raise ConfigError(f"seed={config.seed} is one of the tuning seeds, which only choose learning rates")
        key = repr(
            (config.device, config.kernel, config.data, config.model, config.norm, config.batch_size, config.ranks)
        )
        if key not in checked:
            parallel.check(config)
            machine.check_kernel(config)
            machine.pick_device(config.device)
            source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
            if config.method == "train" or probes.load(config.method).builds_model:
                machine.check_memory(config.model, config.norm, source.spec, max(at_once, config.ranks))
            checked.add(key)


def check_several(configs: Sequence[Config]) -> None:
    """Refuse what is for single runs."""
    for config in configs:
        for key in ("debug", "resume"):
            if value := getattr(config, key):
                raise ConfigError(f"{key}={value} is for single runs; leave it out, or -m")


def check_sweep(configs: Sequence[Config], n_jobs: int = 1) -> None:
    """As `check_runnable`, with `n_jobs` processes if there are as many runs."""
    runs = sum(1 + len(tuning_trials(config)) for config in configs)
    check_runnable(configs, min(n_jobs, runs))


Declared = tuple[dict[str, set[str]], dict[str, set[str]], dict[tuple[str, str], int]]


def declared(configs: Mapping[Name, Config]) -> Declared:
    """What claims may rest on: the arms and the metrics of each experiment, and how many rates each arm tries."""
    names: dict[str, set[str]] = defaultdict(set)
    for experiment, arm in configs:
        names[experiment].add(arm)
    grids = {arm: len({rate for rate, _ in tuning_trials(config)}) for arm, config in configs.items()}
    return names, measured(configs), grids
