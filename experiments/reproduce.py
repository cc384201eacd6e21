"""From the claims to their verdicts: tune, run, judge, report. The command behind `make reproduce`.

The arms that claims rest on come first. With `--all` the others follow, once the verdicts are there.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from experiments.dashboards.sparklines import tell_arms
from experiments.dashboards.standing import expected_line
from experiments.dashboards.terminal import Terminal
from experiments.dashboards.wandb.process import show_all
from experiments.records.columns import entries
from experiments.records.commands import make_command, study
from experiments.records.studies import check_not_frozen, frozen
from experiments.records.table import Origin, read_table, write_table
from experiments.reports.beside import beside_lines, beside_study
from experiments.reports.tables import verdict_table
from experiments.reports.write import write_report
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.compose import SCIENCE, command_line, launcher, overrides_of
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.expected import expected
from experiments.sweeps.failure import SweepError
from experiments.sweeps.options import known_experiments, register
from experiments.sweeps.preflight import declared
from experiments.training.errors import told_in_one_line
from experiments.training.schema import Config, ConfigError
from experiments.verdicts.claims import Registry, check_against
from experiments.verdicts.claims_file import CLAIMS, load_claims
from experiments.verdicts.verdicts import judge


def list_claims(options: argparse.Namespace) -> None:
    registry = load_claims(options.claims or CLAIMS).at(options.scale)
    chosen = registry.select(options.claim) if options.claim else registry
    print(entries((claim.id, claim.statement) for claim in chosen.claims))


def reproduce(options: argparse.Namespace) -> None:
    if options.all and options.claims:
        raise ConfigError("--all is for the claims of the suite; leave it out, or --claims (make: ALL, CLAIMS)")
    register(options.config_dir)
    chosen = load_claims(options.claims or CLAIMS).at(options.scale)
    if some := options.claim or options.claims:
        chosen = chosen.select(options.claim or ["*"])
    experiments = chosen.experiments(known_experiments()) if some else []
    configs = composed_arms(overrides_of(options, chosen.seeds), experiments)
    check_against(chosen, *declared(configs))
    arms = {name: Arm(config, config.evaluation_seeds) for name, config in chosen.covered(configs).items()}
    first = [arm for name, arm in arms.items() if name in chosen.arms()]
    others = [arm for name, arm in arms.items() if name not in chosen.arms()]
    failures = run_and_report(options, chosen, arms, first)
    if options.all and others:
        failures += run_and_report(options, chosen, arms, others)
    elif others:
        print(f"{len(others)} more arms, on which no claim rests, run with --all (make: ALL=1)")
    if failures:
        raise SweepError("; ".join(map(str, failures)), "\n".join(failure.details for failure in failures))


def run_and_report(
    options: argparse.Namespace, registry: Registry, arms: Mapping[Name, Arm], wanted: Sequence[Arm]
) -> list[SweepError]:
    """Run the wanted arms, judge by all the runs there are, also those of another day; returns how runs failed."""
    config, failures = wanted[0].config, []
    check_not_frozen(config.results)
    where = launcher(overrides_of(options, registry.seeds))
    print(cost(wanted, where.at_once), file=sys.stderr)
    try:
        where.run_arms([arm.at_seed(seed) for arm in wanted for seed in arm.seeds])
    except SweepError as error:  # the other runs are there: judge what can be judged, then tell
        failures.append(error)
    rows = collect_rows(arms)
    tell_arms([arm.outcome() for arm in wanted])
    verdicts = judge(registry, rows)
    origin = origin_of(options, registry, config)
    write_table(rows, config.results, origin)
    write_report(registry, rows, verdicts, Path(config.results), origin)
    if config.tracking == "wandb":
        show_all(config.results)
    console = Terminal(width=None if sys.stdout.isatty() else 160)
    console.print(verdict_table(verdicts))
    if pairs := beside_study(origin.beside, verdicts):
        console.print(f"beside results/reference/{origin.beside}:\n{beside_lines(pairs, origin.beside)}")
    console.print(f"{len(rows)} runs; report: {config.results}/report.html, verdicts: {config.results}/claims.json")
    return failures


def cost(wanted: Sequence[Arm], at_once: Callable[[int, Config], int]) -> str:
    """How many runs are missing and how long they will take, in a line; `at_once`: how many are done at a time."""
    for arm in wanted:
        arm.look()
    config = wanted[0].config
    study = frozen(config.scale)
    found = expected(wanted, read_table(study)[0] if study else ())
    return expected_line(found, at_once(found.missing.total(), config), f"results/reference/{config.scale}")


def origin_of(options: argparse.Namespace, registry: Registry, config: Config) -> Origin:
    """What the report comes from: of chosen claims, and on other seeds, it stands beside the frozen study of its scale,
    unless that has runs of another kind."""
    changes = [text for text in options.overrides if text.lstrip("+~").partition("=")[0].partition(".")[0] in SCIENCE]
    own = {"CLAIMS": options.claims, "CONFIGS": options.config_dir}
    own = {name: path for name, path in own.items() if path}
    chosen = {"CLAIM": options.claim or [], "ALL": ["1"] if options.all else []}
    chosen |= {name: [path] for name, path in own.items()}
    told = (options.claim or config.first_seed) and not (changes or options.claims) and frozen(config.scale)
    return Origin(
        make_command("reproduce", **study(options.scale, config.first_seed), **chosen, ARGS=changes),
        datetime.now(UTC).isoformat(timespec="seconds"),
        tuple(claim.id for claim in registry.claims) if options.claim or options.claims else (),
        config.scale if told else "",
        own,
    )


def main() -> None:
    parser = command_line("layernorm reproduce", __doc__)
    parser.add_argument("--list", action="store_true", help="only list the claims, each with what it states")
    options = parser.parse_intermixed_args()
    told_in_one_line(lambda: list_claims(options) if options.list else reproduce(options))


if __name__ == "__main__":
    main()
