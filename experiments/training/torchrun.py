"""Runs whose ranks torchrun starts, on any machines: the command runs on rank 0, the others share its training runs."""

import dataclasses
import os
import sys
from collections.abc import Callable
from typing import Any

from experiments.training.processes import ParallelError
from experiments.training.schema import Config


def launched() -> bool:
    """Whether torchrun started this process; known without PyTorch."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def led(command: Callable[[], None]) -> None:
    """Run a command; under torchrun on rank 0 alone, whose training runs the other ranks share."""
    if not launched():
        return command()
    import torch
    from torch import distributed

    from experiments.training.parallel import SILENCE, backend, leave

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(backend(), timeout=SILENCE)
    try:
        if distributed.get_rank() == 0:
            if {"-m", "--multirun"} & set(sys.argv):
                raise ParallelError("torchrun starts single runs; for a sweep give ranks=<number> instead")
            command()
            distributed.broadcast_object_list([None])
        else:
            follow()
    finally:
        leave()


def follow() -> None:
    """Share the runs of rank 0 until it has no more."""
    from torch import distributed

    from experiments.training.training_run import take_part

    while True:
        told: list[Any] = [None]
        try:
            distributed.broadcast_object_list(told)
        except RuntimeError:
            sys.exit(1)  # rank 0 is gone and has said why
        if told[0] is None:
            return
        take_part(*told[0])


def as_started(config: Config) -> Config:
    """The configuration with the ranks that torchrun started. Raises ParallelError if it asks for others."""
    if not launched():
        return config
    from torch import distributed

    started = distributed.get_world_size()
    if config.ranks not in (1, started):
        raise ParallelError(f"ranks={config.ranks}: torchrun started {started}; leave ranks out")
    return dataclasses.replace(config, ranks=started)
