"""What is done, running, failed and missing of the runs the claims need. `python -m experiments.status --help`."""

import argparse
from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from experiments import schema
from experiments.arms import evaluation_configs
from experiments.claims_file import load_claims
from experiments.compose import Arm, command_line, compose_arms
from experiments.errors import told_in_one_line
from experiments.locks import held
from experiments.records import read_failure
from experiments.run import folder_of, read, tuned_rate, tuning_runs
from experiments.schema import Config, ConfigError
from experiments.sweep import Failure

STATES = ("done", "running", "failed", "missing")


def states(config: Config) -> Iterator[tuple[str, Config]]:
    """The state of each run of an arm. Its evaluation runs have no identity before its tuning is done."""
    tuning = tuning_runs(config)
    yield from ((state(trial), trial) for trial in tuning)
    trials = [record for record in map(read, tuning) if record]
    if len(trials) < len(tuning):
        yield from (("missing", evaluation) for evaluation in evaluation_configs(config))
        return
    rate = tuned_rate(config, trials)
    for evaluation in evaluation_configs(config):
        final = schema.at(evaluation, evaluation.seed, rate)
        yield state(final), final


def state(config: Config) -> str:
    folder = folder_of(config)
    if read(config):
        return "done"
    if held(folder):
        return "running"
    return "failed" if read_failure(folder) else "missing"


def status(options: argparse.Namespace) -> None:
    arms = compose_arms([f"scale={options.scale}", *options.overrides])
    asked = wanted(options, arms)
    chosen = {arm: config for arm, config in arms.items() if arm in asked}
    by_arm = len({experiment for experiment, _ in chosen}) == 1
    counts: dict[str, Counter[str]] = {}
    failures = []
    for (experiment, arm), config in chosen.items():
        count = counts.setdefault(arm if by_arm else experiment, Counter())
        for found, run in states(config):
            count[found] += 1
            if found == "failed" and (known := read_failure(folder_of(run))):
                failures.append(Failure(run, known["reason"], known["log"]).told())
    console = Console()
    console.print(table_of(counts, "arm" if by_arm else "experiment"))
    for told in failures:
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def wanted(options: argparse.Namespace, arms: dict[Arm, Config]) -> set[Arm]:
    """The arms of the chosen claims and experiments; without any, all."""
    known = {experiment for experiment, _ in arms}
    for name in options.experiment or []:
        if name not in known:
            raise ConfigError(f"--experiment {name}: choose one of {', '.join(sorted(known))}")
    found = {arm for arm in arms if arm[0] in (options.experiment or [])}
    if options.claim:
        registry = load_claims(schema.CONFIGS / "claims.yaml").select(options.claim)
        found |= {arm for claim in registry.claims for arm in claim.arms()}
    return found if options.claim or options.experiment else set(arms)


def table_of(counts: dict[str, Counter[str]], first: str) -> Table:
    table = Table(first, *STATES, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in counts.items():
        table.add_row(name, *(str(count[state] or "") for state in STATES))
    total = sum(counts.values(), Counter[str]())
    table.add_section()
    table.add_row("all", *(str(total[state]) for state in STATES))
    return table


def main() -> None:
    parser = command_line("python -m experiments.status", __doc__)
    parser.add_argument("--experiment", action="append", help="only this one (repeatable), arm by arm")
    options = parser.parse_args()
    told_in_one_line(lambda: status(options))


if __name__ == "__main__":
    main()
