"""From the claims to their verdicts: tune, run, judge, report. The command behind `make reproduce`."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import data
import models
from experiments import probes, records, schema, sweep
from experiments.claims import Registry, check_against
from experiments.claims_file import load_claims
from experiments.final_tests import WAYS
from experiments.report import write_report
from experiments.run import check_runnable, folder_of, read, told_in_one_line, tuned_rate, tuning_runs
from experiments.run_table import rounded, write_table
from experiments.schema import Config, ConfigError
from experiments.tables import verdict_table
from experiments.verdicts import judge

Arm = tuple[str, str]  # experiment and arm, as a claim names them
KEPT = ("run", "config", "status", "synthetic", "final", "history", "timing", "environment")  # of a record, in a row


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


def check_claims(registry: Registry, arms: dict[Arm, Config]) -> None:
    """Refuse a claim about an arm or a metric that does not exist, or on a rate that is said to be tuned and is not."""
    names: dict[str, set[str]] = defaultdict(set)
    for experiment, arm in arms:
        names[experiment].add(arm)
    metrics = {experiment: metric_names(config) for (experiment, _), config in arms.items()}
    grids = {arm: len(tuning_runs(config)) // len(config.tuning.seeds) for arm, config in arms.items()}
    check_against(registry, names, metrics, grids)


def metric_names(config: Config) -> set[str]:
    if config.method != "train":
        return set(probes.METRICS[config.method])
    measured, longer = (models.metrics(config.model.name, longer=longer) for longer in (False, True))
    names = {f"{split}_{name}" for split in ("validation", "mean_validation", *WAYS) for name in measured}
    names |= {f"test_batch_{name}_increase" for name in measured}
    for variant in data.test_splits(config.data)[1:]:
        names |= {f"{variant}_{name}" for name in longer} | {f"{variant}_{name}_increase" for name in measured}
    return {"train_loss", "mean_train_loss", "seconds_per_update"} | names


def run_arms(configs: Sequence[Config], *, workers: int = 0) -> None:
    """Run configurations; an open learning rate is tuned first, once for all seeds of an arm.

    An arm's evaluation starts when its own tuning is done, so that no core waits for another arm.
    """
    if debugged := {config.debug for config in configs} - {""}:
        raise ConfigError(f"debug={min(debugged)}: only single runs can be debugged; leave it out, or -m")
    check_runnable(configs)
    arms: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        arms[arm_key(config)].append(config)
    trials = {key: tuning_runs(group[0]) for key, group in arms.items()}
    waiting = {folder_of(trial): key for key, group in trials.items() for trial in group}
    tuned: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def after(config: Config, record: dict[str, Any]) -> list[Config]:
        key = waiting.pop(folder_of(config), None)
        if key is None:
            return []
        tuned[key].append(record)
        if len(tuned[key]) < len(trials[key]):
            return []
        rate = tuned_rate(config, tuned[key])
        return [schema.at(evaluation, evaluation.seed, rate) for evaluation in arms[key]]

    first = [trial for group in trials.values() for trial in group]
    ready = [config for key, group in arms.items() if not trials[key] for config in group]
    total = len(first) + len({folder_of(config) for config in configs})
    sweep.run_all(first + ready, workers=workers, total=total, on_done=after)


def arm_key(config: Config) -> str:
    """The same for all seeds of an arm, and another where the learning rate is given than where it is open."""
    return config.experiment + records.identity(schema.scientific(schema.at(config, 0, config.optim.learning_rate)))


def evaluation_configs(config: Config) -> list[Config]:
    return [schema.at(config, seed, config.optim.learning_rate) for seed in range(config.seeds)]


def read_arm(config: Config, seeds: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The finished runs of an arm: those that tune its rate and, once these are all there, those of `seeds`."""
    planned = tuning_runs(config)
    trials = [record for record in map(read, planned) if record]
    if len(trials) < len(planned):
        return trials, []
    rate = tuned_rate(config, trials)
    return trials, [record for seed in seeds if (record := read(schema.at(config, seed, rate)))]


def collect_rows(arms: dict[Arm, Config]) -> list[dict[str, Any]]:
    """The table the claims are judged on: a row for each tuning and evaluation run, read from its record."""
    rows = []
    for (experiment, arm), config in arms.items():
        for role, found in zip(("tune", "evaluate"), read_arm(config, range(config.seeds)), strict=True):
            rows += [to_row(record, experiment, arm, role, config.scale) for record in found]
    return rows


def to_row(record: dict[str, Any], experiment: str, arm: str, role: str, scale: str) -> dict[str, Any]:
    """A run as it is judged and tabulated: measured numbers rounded, here and nowhere else."""
    kept: dict[str, Any] = rounded({key: record[key] for key in KEPT})
    return {
        "experiment": experiment,
        "arm": arm,
        "role": role,
        "scale": scale,
        "seed": kept["config"]["seed"],
        "learning_rate": kept["config"]["optim"]["learning_rate"],
        **kept,
    }


def reproduce(options: argparse.Namespace) -> None:
    registry = load_claims(schema.CONFIGS / "claims.yaml")
    chosen = registry.select(options.claim) if options.claim else registry
    arms = compose_arms([f"scale={options.scale}", *options.overrides])
    check_claims(registry, arms)
    wanted = {arm for claim in chosen.claims for arm in claim.arms()} if options.claim else set(arms)
    config = next(iter(arms.values()))
    failure = None
    try:
        runs = [run for arm in arms if arm in wanted for run in evaluation_configs(arms[arm])]
        run_arms(runs, workers=config.workers)
    except sweep.SweepError as error:  # the other runs are there: judge what can be judged, then tell
        failure = error
    rows = collect_rows(arms)
    verdicts = judge(registry, rows)  # all claims, also those whose runs are of another day
    command = f"make reproduce SCALE={options.scale}"
    write_table(rows, config.results, command)
    write_report(registry, rows, verdicts, Path(config.results), command)
    console = Console(width=None if sys.stdout.isatty() else 160)
    ids = {claim.id for claim in chosen.claims}
    console.print(verdict_table(verdict for verdict in verdicts if verdict.id in ids))
    console.print(f"{len(rows)} runs; report: {config.results}/report.html, verdicts: {config.results}/claims.json")
    if failure:
        raise failure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce", description=__doc__)
    parser.add_argument("--scale", default="laptop", help="smoke, laptop (default) or paper: configs/scale/")
    parser.add_argument("--claim", action="append", help="only this claim (repeatable): configs/claims.yaml")
    parser.add_argument("overrides", nargs="*", help="for every run, as on the command line of experiments.run")
    options = parser.parse_args()
    told_in_one_line(lambda: reproduce(options))


if __name__ == "__main__":
    main()
