"""Runs arms: each tunes its learning rate, then runs its seeds."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.sweeps.arm import Arm, Plan, arms_of
from experiments.sweeps.audience import QUIET, Audience
from experiments.sweeps.preflight import check_runnable, check_several, check_sweep
from experiments.sweeps.sweep import changed_text, cores, run_all
from experiments.training.errors import EXPECTED
from experiments.training.identity import Run
from experiments.training.schema import Config

if TYPE_CHECKING:  # with these PyTorch, which is imported to train alone
    from experiments.training.training_run import Observer


def run_arms(
    configs: Sequence[Config],
    *,
    n_jobs: int = 0,
    share: tuple[int, int] = (0, 1),
    token: str = "",
    audience: Audience = QUIET,
) -> None:
    """Run configurations; an open learning rate is tuned first, once for all seeds of an arm.

    An arm's evaluation starts when its own tuning is done, so that no core waits for another arm. For the options see
    `sweep.run_all`.
    """
    n_jobs = n_jobs or cores(configs[0])
    check_several(configs)
    plan = Plan(arms_of(configs))
    run_all(
        plan.first(),
        plan.after,
        check=lambda: check_sweep(configs, n_jobs),
        total=lambda: plan.total,
        n_jobs=n_jobs,
        share=share,
        token=token,
        audience=audience,
    )


def read_arms(configs: Sequence[Config]) -> list[Arm]:
    """The arms of a sweep, with what is done of them."""
    arms = arms_of(configs)
    for arm in arms:
        arm.look()
    return arms


def run_tuned(
    config: Config, observe: "Observer" = lambda history: None, tell: Callable[[Path], None] = lambda folder: None
) -> dict[str, Any]:
    """The record of one run, after the tuning runs where its learning rate is open; `tell` gets the folder of each."""
    from experiments.training.run import perform

    check_runnable([config])
    arm = Arm(config, [config.seed])
    found: list[tuple[Run, dict[str, Any]]] = []  # those that were done before

    def made(wanted: Run, observe: "Observer" = lambda history: None) -> dict[str, Any]:
        tell(wanted.folder.path)
        if (record := wanted.record()) is not None:
            found.append((wanted, record))
        try:
            return record or perform(wanted, observe)
        except EXPECTED:  # it was refused: nothing was stopped that could go on
            wanted.folder.withdraw()
            raise

    for trial in arm.trials:  # which grow as they are done
        arm.after(trial, made(trial))
    (final,) = arm.evaluations
    record = made(final, observe)
    if changed := [wanted for wanted, record in found if wanted.changed(record)]:
        print(changed_text(changed, len(found)), file=sys.stderr)
    return record
