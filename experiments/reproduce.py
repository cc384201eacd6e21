"""From the claims to their verdicts: tune, run, judge, report. The command behind `make reproduce`."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from rich.console import Console

import data
import models
from experiments import probes, records, schema, sweep
from experiments.claims import Registry, check_against
from experiments.claims_file import load_claims
from experiments.report import write_report
from experiments.run import told_in_one_line, tuned_rate, tuning_runs
from experiments.schema import Config, ConfigError
from experiments.tables import verdict_table
from experiments.verdicts import judge

Arm = tuple[str, str]  # experiment and arm, as a claim names them


def compose_config(experiment: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration `python -m experiments.run experiment=<experiment> <overrides>` would run."""
    known = [path.stem for path in (schema.CONFIGS / "experiment").glob("*.yaml")]
    if experiment not in known:
        near = get_close_matches(experiment, known, 1)
        raise ConfigError(f"experiment={experiment}: unknown{f', did you mean {near[0]}?' if near else ''}")
    composed = compose("run", [f"experiment={experiment}", *overrides], return_hydra_config=True)
    return schema.to_config(composed, experiment, composed.hydra.runtime.choices["scale"])


def compose_arms(registry: Registry, overrides: Sequence[str]) -> dict[Arm, Config]:
    """The configuration of each arm that a claim of `registry` names, seed and learning rate still open."""
    schema.register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        wanted = sorted({arm for claim in registry.claims for arm in claim.arms()})
        plain = {experiment: compose_config(experiment, overrides) for experiment in {e for e, _ in wanted}}
        check_claims(registry, plain)
        return {(e, arm): compose_config(e, [*plain[e].arms[arm].split(), *overrides]) for e, arm in wanted}


def check_claims(registry: Registry, experiments: dict[str, Config]) -> None:
    """Refuse a claim about an arm or a metric that does not exist, or on a rate that is said to be tuned and is not."""
    arms = {name: set(config.arms) for name, config in experiments.items()}
    metrics = {name: metric_names(config) for name, config in experiments.items()}
    grids = {
        (name, arm): 0 if "learning_rate=" in overrides else len(set(config.tuning.learning_rates))
        for name, config in experiments.items()
        for arm, overrides in config.arms.items()
    }
    check_against(registry, arms, metrics, grids)


def metric_names(config: Config) -> set[str]:
    if config.method != "train":
        return set(probes.METRICS[config.method])
    splits = ["validation", "mean_validation", *data.test_splits(config.data)]
    measured = models.metrics(config.model.name)
    return {"train_loss", "mean_train_loss"} | {f"{split}_{name}" for split in splits for name in measured}


def run_arms(configs: Iterable[Config], *, workers: int = 0) -> list[dict[str, Any]]:
    """Run configurations and give their records; an open learning rate is tuned first, once for all seeds of an arm.

    An arm's evaluation starts when its own tuning is done, so that no core waits for another arm.
    """
    arms: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        arms[arm_key(config)].append(config)
    trials = {key: tuning_runs(group[0]) for key, group in arms.items()}
    tuned: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ready = [config for key, group in arms.items() if not trials[key] for config in group]
    trial_folders = {sweep.folder(trial) for group in trials.values() for trial in group}
    evaluated = []

    def after(config: Config, record: dict[str, Any]) -> list[Config]:
        key = arm_key(config)
        if sweep.folder(config) not in trial_folders:
            evaluated.append(record)
            return []
        tuned[key].append(record)
        if len(tuned[key]) < len(trials[key]):
            return []
        rate = tuned_rate(config, tuned[key])
        return [schema.at(waiting, waiting.seed, rate) for waiting in arms[key]]

    first = [trial for group in trials.values() for trial in group]
    total = len(first) + sum(len(group) for group in arms.values())
    sweep.run_all(first + ready, workers=workers, total=total, on_done=after)
    return evaluated


def arm_key(config: Config) -> str:
    return config.experiment + records.identity(schema.scientific(schema.at(config, 0, None)))


def evaluation_configs(config: Config) -> list[Config]:
    return [schema.at(config, seed, config.optim.learning_rate) for seed in range(config.seeds)]


def collect_rows(arms: dict[Arm, Config]) -> list[dict[str, Any]]:
    """The table the claims are judged on: a row for each tuning and evaluation run, read from its record."""
    rows = []
    for (experiment, arm), config in arms.items():
        trials = [sweep.read(trial) for trial in tuning_runs(config)]
        if any(trial is None for trial in trials):
            continue
        rate = tuned_rate(config, [t for t in trials if t])
        evaluated = [sweep.read(schema.at(c, c.seed, rate)) for c in evaluation_configs(config)]
        found = [("tune", t) for t in trials if t] + [("evaluate", e) for e in evaluated if e]
        rows += [to_row(record, experiment, arm, role, config.scale, bool(trials)) for role, record in found]
    return rows


def to_row(record: dict[str, Any], experiment: str, arm: str, role: str, scale: str, tuned: bool) -> dict[str, Any]:
    config = record["config"]
    return {
        "experiment": experiment,
        "arm": arm,
        "role": role,
        "scale": scale,
        "tuned": tuned,
        "seed": config["seed"],
        "learning_rate": config["optim"]["learning_rate"],
        **{key: record[key] for key in ("run", "config", "status", "synthetic", "final", "history", "timing")},
    }


def reproduce(options: argparse.Namespace) -> None:
    claims = schema.CONFIGS / "claims.yaml"
    registry = load_claims(claims)
    if options.claim:
        registry = registry.select(options.claim)
    overrides = [f"scale={options.scale}", *options.overrides]
    arms = compose_arms(registry, overrides)
    config = next(iter(arms.values()))
    records.check_writable(config.results)
    failure = None
    try:
        run_arms([c for arm in arms.values() for c in evaluation_configs(arm)], workers=config.workers)
    except sweep.SweepError as error:  # the other runs are there: judge what can be judged, then tell
        failure = error
    rows = collect_rows(arms)
    verdicts = judge(registry, rows)
    command = f"make reproduce SCALE={options.scale}"
    write_report(registry, rows, verdicts, Path(config.results), command)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(verdict_table(verdicts))
    console.print(f"{len(rows)} runs; report: {config.results}/report.md, verdicts: {config.results}/claims.json")
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
