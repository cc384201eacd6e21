"""Shows recorded runs and verdicts in Weights & Biases: as they go, or afterwards.

Offline, unless WANDB_MODE=online, each run becomes a folder of <results>/wandb once it is done or has failed: `wandb
leet` shows them, `wandb sync` uploads them. Online a sweep's runs are followed as they go. What is there already is
not shown again, so this can be interrupted at any moment and given again.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from experiments.dashboards.wandb.mirror import Mirror, follow, show_all
from experiments.dashboards.wandb.process import has_wandb
from experiments.records import files
from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.table import RUNS

MODES = ("offline", "online", "dryrun")  # the last is an old name of the first
DEFAULTS = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # the user's own win


def main() -> None:
    parser = Arguments(prog="python -m experiments.mirror", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="(results) or results/reference")
    parser.add_argument("--into", type=Path, help="the folder to write wandb/ into; without it, that of the results")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    logging.raiseExceptions = False  # a full disk is told once, not by each line of wandb's log
    later = "; the records are whole, python -m experiments.mirror shows them later" if options.follow else ""
    try:
        told_in_one_line(lambda: print(mirrored(options)), of_a_value, more=later)
    except SystemExit as end:
        leave(end.code)


def mirrored(options: argparse.Namespace) -> str:
    """Do what was asked for; what there is to say of it."""
    if not has_wandb():
        raise files.SuiteError("wandb is not installed; make setup, or pip install wandb")
    if (mode := os.environ["WANDB_MODE"]) not in MODES:
        raise files.SuiteError(f"WANDB_MODE={mode}: choose one of {', '.join(MODES[:2])}")
    if not options.follow and not any((options.results / name).exists() for name in ("runs", RUNS)):
        raise files.SuiteError(f"{options.results}: neither runs/ nor {RUNS}; make reproduce makes both")
    mirror = Mirror(options.into or options.results)
    try:
        if not options.follow:
            return show_all(mirror, options.results)
        follow(mirror, sys.stdin)
        return ""
    finally:
        mirror.place.close()


def leave(code: str | int | None) -> NoReturn:
    """End without waiting for a server that does not answer: wandb and the pool of threads would."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
