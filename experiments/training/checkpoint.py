"""The last state of a run to go on from, in a file that is bound to the run it belongs to."""

import errno
import os
import sys
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.records.files import draft
from experiments.training.train import Progress

MOMENTS = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}  # what each keeps of a parameter


class CheckpointFile:
    """Where a run leaves its state and finds it again.

    `owner` names the run and the code it runs on. A file of another owner, or one that is damaged or incomplete, is
    told in one line and removed: the run begins anew.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner

    def save(self, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write by rename: a kill leaves the last one or this one, never half of one."""
        content = {
            "owner": self.owner,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": vars(progress),
            "rng": torch.get_rng_state(),
            "cuda_rng": cuda_rng(),
        }
        try:
            with draft(self.path) as partial:
                torch.save(content, partial)
        except RuntimeError as error:  # so torch tells a full disk
            reason = "no checkpoint could be written, is the disk full?"
            raise OSError(errno.ENOSPC, reason, os.fspath(self.path)) from error

    def restore(self, model: nn.Module, optimizer: Optimizer) -> Progress | None:
        """Load it, without pickle; None, and all as before, where there is none or it is not to be used."""
        before = deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
        try:
            if zipfile.ZipFile(self.path).testzip():  # torch itself does not look at the checksums it writes
                raise ValueError("damaged")
            content = torch.load(self.path, weights_only=True, map_location=next(model.parameters()).device)
            self.check(content, model, optimizer)
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            progress = Progress(**content["progress"])
            torch.set_rng_state(content["rng"].cpu())
            if content["cuda_rng"]:
                torch.cuda.set_rng_state_all([state.cpu() for state in content["cuda_rng"]])
            return progress
        except FileNotFoundError:
            return None
        except Exception as error:  # torch.load raises whatever the damage makes it raise
            told = str(error) if isinstance(error, ValueError) else type(error).__name__
            print(f"{self.path}: unusable checkpoint ({told}), the run starts anew", file=sys.stderr)
            self.path.unlink(missing_ok=True)
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        torch.set_rng_state(before[2])
        return None

    def check(self, content: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> None:
        """Raises ValueError for what this run did not leave; native code would take it as it is."""
        if content["owner"] != self.owner:
            raise ValueError("of another run or made by other code")
        if shapes(content["model"]) != shapes(model.state_dict()):
            raise ValueError("the model has other weights")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, kept in content["optimizer"]["state"].items():
            whole = kept.keys() == MOMENTS[type(optimizer).__name__]
            parameter = parameters[number]
            if not whole or any(not fits(moment, parameter) for moment in kept.values()):
                raise ValueError("the optimiser's averages do not fit the weights")


def fits(moment: Tensor | None, parameter: Tensor) -> bool:
    """Whether it is a number, or one for each weight."""
    if moment is None or moment.dim() == 0:
        return True
    return moment.shape == parameter.shape and moment.dtype == parameter.dtype


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def cuda_rng() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
