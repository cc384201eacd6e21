"""What is done, running, failed and missing of the runs the claims need. `layernorm status --help`.

Of chosen experiments (`--experiment`) also what came of each arm; with `--watch` again and again, until all is done.
"""

import argparse
from collections.abc import Collection

from experiments.dashboards.sparklines import MOST
from experiments.dashboards.standing import outcome_tables, state_table, watch
from experiments.dashboards.terminal import Terminal
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.compose import command_line, overrides_of
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.options import known_experiments, register
from experiments.sweeps.standing import Standing
from experiments.training.checks import unknown_value
from experiments.training.errors import told_in_one_line
from experiments.training.schema import ConfigError
from experiments.verdicts.claims import Registry
from experiments.verdicts.claims_file import CLAIMS, load_claims


def status(options: argparse.Namespace) -> None:
    register(options.config_dir)
    registry = load_claims(options.claims or CLAIMS).at(options.scale)
    named = claimed(options, registry)
    overrides = overrides_of(options, registry.seeds)
    configs = registry.covered(composed_arms(overrides, experiments(options, registry, named)))
    asked, console = wanted(options, configs.keys(), named), Terminal()
    standing = Standing([Arm(config, config.evaluation_seeds) for name, config in configs.items() if name in asked])
    curves = bool(options.experiment) and len(asked) <= MOST
    standing.look()
    if options.watch:
        watch(standing, console, curves=curves)
    console.print(state_table(standing, whole=True), *(outcome_tables(standing, console) if curves else ()), sep="")
    for failure in standing.failures():
        console.print(failure, highlight=False, soft_wrap=True)


def experiments(options: argparse.Namespace, registry: Registry, named: Collection[Name]) -> list[str]:
    """Those of the chosen claims and experiments; without any, none."""
    for name in options.experiment or []:
        if name not in (known := known_experiments()):
            raise unknown_value("experiment", name, known)
    if not (options.claim or options.claims or options.experiment):
        return []
    if options.claims:
        registry.experiments(known_experiments())  # all of which there are
    return sorted({*(options.experiment or []), *(experiment for experiment, _ in named)})


def wanted(options: argparse.Namespace, arms: Collection[Name], named: Collection[Name]) -> set[Name]:
    """The arms of the chosen claims and experiments; without any, those of all claims, or all."""
    for name in options.experiment or []:
        if name not in {experiment for experiment, _ in arms}:
            raise ConfigError(f"--experiment {name}: it has no arms, so no run of it is missing")
    found = {arm for arm in arms if arm[0] in (options.experiment or [])} | {*named}
    return set(arms) if options.all and not options.experiment else found


def claimed(options: argparse.Namespace, registry: Registry) -> set[Name]:
    """The arms that the chosen claims rest on, or, where nothing is chosen, all claims."""
    if options.experiment and not options.claim:
        return set()
    return (registry.select(options.claim) if options.claim else registry).arms()


def main() -> None:
    parser = command_line("layernorm status", __doc__)
    parser.add_argument("--experiment", action="append", help="only this one (repeatable), arm by arm")
    parser.add_argument("--watch", action="store_true", help="look again and again until all is done, or Ctrl-C")
    options = parser.parse_intermixed_args()
    told_in_one_line(lambda: status(options))


if __name__ == "__main__":
    main()
