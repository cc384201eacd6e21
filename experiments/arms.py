"""The arms of experiments: each tunes its learning rate, then runs its seeds."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import records, schema, sweep
from experiments.run import arm_of, check_runnable, folder_of, read, tuned_rate, tuning_runs
from experiments.schema import Config, ConfigError
from experiments.sparklines import ArmRuns


def run_arms(configs: Sequence[Config], *, n_jobs: int = 0, share: tuple[int, int] = (0, 1), token: str = "") -> None:
    """Run configurations; an open learning rate is tuned first, once for all seeds of an arm.

    An arm's evaluation starts when its own tuning is done, so that no core waits for another arm. For `n_jobs`,
    `share` and `token` see `sweep.run_all`.
    """
    check_sweep(configs)
    first, total, after = planned(configs)
    sweep.run_all(first, n_jobs=n_jobs, total=total, on_done=after, share=share, token=token)


def check_sweep(configs: Sequence[Config]) -> None:
    """As `check_runnable`; also refuse what is for single runs."""
    for config in configs:
        for key in ("debug", "resume"):
            if value := getattr(config, key):
                raise ConfigError(f"{key}={value} is for single runs; leave it out, or -m")
    check_runnable(configs)


def planned(configs: Sequence[Config]) -> tuple[list[Config], int, sweep.Done]:
    """What can be run first, how many runs there will be, and what each that is done makes possible."""
    arms = by_arm(configs)
    trials = {key: tuning_runs(group[0]) for key, group in arms.items()}
    waiting: dict[Path, set[str]] = defaultdict(set)  # arms may share trials
    for key, group in trials.items():
        for trial in group:
            waiting[folder_of(trial)].add(key)
    tuned: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def after(config: Config, record: dict[str, Any]) -> list[Config]:
        possible = []
        for key in waiting.pop(folder_of(config), ()):
            tuned[key].append(record)
            if len(tuned[key]) == len(trials[key]):
                rate = tuned_rate(arms[key][0], tuned[key])
                possible += [schema.at(evaluation, evaluation.seed, rate) for evaluation in arms[key]]
        return possible

    first = [trial for group in trials.values() for trial in group]
    ready = [config for key, group in arms.items() if not trials[key] for config in group]
    total = len(waiting) + len({folder_of(config) for config in configs})
    return first + ready, total, after


def by_arm(configs: Sequence[Config]) -> dict[str, list[Config]]:
    arms: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        arms[arm_key(config)].append(config)
    return arms


def arm_key(config: Config) -> str:
    """The same for all seeds of an arm, and another where the learning rate is given than where it is open."""
    return config.experiment + records.identity(schema.scientific(schema.at(config, 0, config.optim.learning_rate)))


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


def read_arms(configs: Sequence[Config]) -> list[ArmRuns]:
    """The finished evaluation runs of a sweep, arm by arm."""
    arms = [(group[0], [config.seed for config in group]) for group in by_arm(configs).values()]
    found = [read_arm(first, seeds)[1] for first, seeds in arms]
    names = told_apart([first for first, _ in arms])
    return [
        ArmRuns(first.experiment, name, len(seeds), runs)
        for (first, seeds), name, runs in zip(arms, names, found, strict=True)
    ]


def told_apart(configs: Sequence[Config]) -> list[str]:
    """The names of arms; those that have one in common get the settings they differ in, learning rates aside."""
    names = [(config.experiment, arm_of(config)) for config in configs]
    flat = [set(settings(config)) for config in configs]
    alike: dict[tuple[str, str], set[str]] = {}
    for name, own in zip(names, flat, strict=True):
        alike[name] = alike.get(name, own) & own
    return [" ".join([name[1], *sorted(own - alike[name])]) for name, own in zip(names, flat, strict=True)]


def settings(config: Config) -> Iterator[str]:
    """All that tells an arm from another, as on the command line."""
    for key, value in records.flat(schema.scientific(schema.at(config, 0, None))).items():
        yield f"{key}={value}"
