"""From the claims to their verdicts: tune, run, judge, report. The command behind `make reproduce`."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import data
import models
from experiments import probes, sweep, tracking
from experiments.arms import evaluation_configs, read_arm
from experiments.claims import Registry, check_against
from experiments.claims_file import load_claims
from experiments.compose import Arm, command_line, compose_arms, launcher
from experiments.errors import told_in_one_line
from experiments.evidence import Row, group_runs
from experiments.final_tests import WAYS
from experiments.report import write_report
from experiments.run import tuning_runs
from experiments.run_table import rounded, write_table
from experiments.schema import Config
from experiments.sparklines import ArmRuns, tell_arms
from experiments.tables import verdict_table
from experiments.verdicts import judge

KEPT = ("run", "config", "status", "synthetic", "final", "history", "timing", "environment")  # of a record, in a row


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
        return set(probes.load(config.method).metrics)
    measured, longer = (models.metrics(config.model.name, longer=longer) for longer in (False, True))
    names = {f"{split}_{name}" for split in ("validation", "mean_validation", *WAYS) for name in measured}
    names |= {f"test_batch_{name}_increase" for name in measured}
    for variant in data.test_splits(config.data)[1:]:
        names |= {f"{variant}_{name}" for name in longer} | {f"{variant}_{name}_increase" for name in measured}
    return {"train_loss", "mean_train_loss", "seconds_per_update"} | names


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


def evaluated(rows: Sequence[Row], asked: Mapping[Arm, int]) -> list[ArmRuns]:
    """The evaluation runs of these arms, of which so many were asked for."""
    runs = group_runs(rows)
    return [ArmRuns(*arm, seeds, runs.get((*arm, "evaluate"), [])) for arm, seeds in asked.items()]


def reproduce(options: argparse.Namespace) -> None:
    registry = load_claims()
    chosen = registry.select(options.claim) if options.claim else registry
    arms = compose_arms([f"scale={options.scale}", *options.overrides])
    check_claims(registry, arms)
    wanted = {arm for claim in chosen.claims for arm in claim.arms()} if options.claim else set(arms)
    config = next(iter(arms.values()))
    failure = None
    try:
        runs = [run for arm in arms if arm in wanted for run in evaluation_configs(arms[arm])]
        launcher([f"scale={options.scale}", *options.overrides]).run_arms(runs)
    except sweep.SweepError as error:  # the other runs are there: judge what can be judged, then tell
        failure = error
    rows = collect_rows(arms)
    tell_arms(evaluated(rows, {arm: config.seeds for arm, config in arms.items() if arm in wanted}))
    verdicts = judge(registry, rows)  # all claims, also those whose runs are of another day
    command = f"make reproduce SCALE={options.scale}"
    write_table(rows, config.results, command)
    write_report(registry, rows, verdicts, Path(config.results), command)
    if config.tracking == "wandb":
        tracking.show_all(config.results)
    console = Console(width=None if sys.stdout.isatty() else 160)
    ids = {claim.id for claim in chosen.claims}
    console.print(verdict_table(verdict for verdict in verdicts if verdict.id in ids))
    console.print(f"{len(rows)} runs; report: {config.results}/report.html, verdicts: {config.results}/claims.json")
    if failure:
        raise failure


def main() -> None:
    options = command_line("python -m experiments.reproduce", __doc__).parse_args()
    told_in_one_line(lambda: reproduce(options))


if __name__ == "__main__":
    main()
