"""The arms of experiments: each tunes its learning rate, then runs its seeds."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.dashboards.sparklines import ArmRuns
from experiments.dashboards.wandb.process import Tell
from experiments.records import files
from experiments.sweeps import sweep
from experiments.sweeps.arm import by_arm, read_arm, tuned_rate, tuning_runs
from experiments.sweeps.preflight import check_runnable, check_sweep
from experiments.training import schema
from experiments.training.identity import arm_of, folder_of
from experiments.training.run import run
from experiments.training.schema import Config
from experiments.training.training_run import Observer


def run_arms(configs: Sequence[Config], *, n_jobs: int = 0, share: tuple[int, int] = (0, 1), token: str = "") -> None:
    """Run configurations; an open learning rate is tuned first, once for all seeds of an arm.

    An arm's evaluation starts when its own tuning is done, so that no core waits for another arm. For `n_jobs`,
    `share` and `token` see `sweep.run_all`.
    """
    check_sweep(configs)
    first, total, after = planned(configs)
    sweep.run_all(first, n_jobs=n_jobs, total=total, on_done=after, share=share, token=token)


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
    for key, value in files.flat(schema.scientific(schema.at(config, 0, None))).items():
        yield f"{key}={value}"


def run_tuned(
    config: Config, observe: Observer = lambda history: None, tell: Tell = lambda folder: None
) -> dict[str, Any]:
    """`run`, after the tuning runs where the learning rate is left open; `tell` gets the folder of each."""
    check_runnable([config])
    trials = []
    for trial in tuning_runs(config):
        tell(folder_of(trial))
        trials.append(run(trial))
    final = schema.at(config, config.seed, tuned_rate(config, trials))
    tell(folder_of(final))
    return run(final, observe)
