"""Shows recorded runs and verdicts in Weights & Biases: as they go, or afterwards.

Offline, unless WANDB_MODE=online, each run becomes a folder of <results>/wandb once it is done or has failed: `wandb
leet` shows them, `wandb sync` uploads them. Online a sweep's runs are followed as they go. What is there already is
not shown again, so this can be interrupted at any moment and given again. The exit code is 3 where wandb refused some.
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from experiments.dashboards.wandb import places
from experiments.dashboards.wandb.mirror import Mirror, follow, show_all
from experiments.dashboards.wandb.process import SOME_REFUSED, has_wandb, switched_off
from experiments.records import files
from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.table import RUNS

MODES = ("offline", "online", "disabled", "dryrun")  # the last is an old name of the first
DEFAULTS = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # the user's own win


def main() -> None:
    parser = Arguments(prog="layernorm mirror", description=__doc__)
    parser.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="(results) or results/reference/laptop"
    )
    parser.add_argument("--into", type=Path, help="the folder to write wandb/ into; without it, that of the results")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # wandb takes no empty one
    os.environ |= {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    logging.raiseExceptions = False  # a full disk is told once, not by each line of wandb's log
    # Beside a sweep this is no error of the sweep.
    around = {"before": "", "after": "; the records are whole, layernorm mirror shows them later"}
    try:
        told_in_one_line(lambda: sys.exit(mirrored(options)), of_a_value, **(around if options.follow else {}))
    except SystemExit as end:
        if end.code:
            leave(end.code)


def mirrored(options: argparse.Namespace) -> int:
    """Do what was asked for, and say it; the exit code."""
    if not has_wandb():
        raise files.SuiteError("wandb is not installed; make setup, or pip install wandb")
    if (mode := os.environ.get("WANDB_MODE", "")) and mode not in MODES:
        raise files.SuiteError(f"WANDB_MODE={mode}: choose one of {', '.join(MODES[:3])}")
    if not options.follow and not any((options.results / name).exists() for name in ("runs", RUNS)):
        raise files.SuiteError(f"{options.results}: neither runs/ nor {RUNS}; make reproduce makes both")
    off = switched_off()
    if off or (mode := places.asked_mode()) == "disabled":
        print(f"nothing is shown: wandb is switched off by {off or '`wandb disabled`, `wandb enabled` switches it on'}")
        return 0
    with places.place(options.into or options.results, online=mode == "online") as place:
        mirror = Mirror(place)
        if options.follow:
            follow(mirror, sys.stdin)
        else:
            print(show_all(mirror, options.results))
        for line in mirror.complaints():
            print(line, file=sys.stderr)
        return SOME_REFUSED if mirror.refused else 0


def leave(code: str | int | None) -> NoReturn:
    """End without waiting for a server that does not answer: wandb and the pool of threads would."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
