"""From the claims to their verdicts: tune, run, judge, report. The command behind `make reproduce`."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from experiments.dashboards.sparklines import ArmRuns, tell_arms
from experiments.dashboards.wandb.process import show_all
from experiments.records.arm_rows import group_runs
from experiments.records.rows import Row
from experiments.records.table import Origin, write_table
from experiments.reports.tables import verdict_table
from experiments.reports.write import write_report
from experiments.sweeps.arm import evaluation_configs, tuning_runs
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.compose import Arm, command_line, compose_arms, launcher
from experiments.sweeps.failure import SweepError
from experiments.sweeps.preflight import metric_names
from experiments.training.errors import told_in_one_line
from experiments.training.schema import Config
from experiments.verdicts.claims import Registry, check_against
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.verdicts import judge


def check_claims(registry: Registry, arms: dict[Arm, Config]) -> None:
    """Refuse a claim about an arm or a metric that does not exist, or on a rate that is said to be tuned and is not."""
    names: dict[str, set[str]] = defaultdict(set)
    for experiment, arm in arms:
        names[experiment].add(arm)
    metrics = {experiment: metric_names(config) for (experiment, _), config in arms.items()}
    grids = {arm: len(tuning_runs(config)) // len(config.tuning.seeds) for arm, config in arms.items()}
    check_against(registry, names, metrics, grids)


def evaluated(rows: Sequence[Row], asked: Mapping[Arm, int]) -> list[ArmRuns]:
    """The evaluation runs of these arms, of which so many were asked for."""
    runs = group_runs(rows)
    return [ArmRuns(*arm, seeds, runs[arm].evaluations) for arm, seeds in asked.items()]


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
    except SweepError as error:  # the other runs are there: judge what can be judged, then tell
        failure = error
    rows = collect_rows(arms)
    tell_arms(evaluated(rows, {arm: config.seeds for arm, config in arms.items() if arm in wanted}))
    verdicts = judge(registry, rows)  # all claims, also those whose runs are of another day
    origin = Origin(f"make reproduce SCALE={options.scale}", datetime.now(UTC).isoformat(timespec="seconds"))
    write_table(rows, config.results, origin)
    write_report(registry, rows, verdicts, Path(config.results), origin)
    if config.tracking == "wandb":
        show_all(config.results)
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
