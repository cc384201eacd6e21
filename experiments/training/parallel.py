"""Data-parallel runs: several processes ("ranks") each train on an equal share of every mini-batch.

The model and the data are wrapped and the loop of train.py knows nothing of it: each rank has a copy of the model, and
the gradients that its optimiser sees are the mean over all ranks, those of the whole mini-batch if its cases depend on
one another by nothing else. `norm=batch` normalises by the share of each rank, and rank 0's running averages serve;
`norm=sync_batch` by the whole mini-batch; all other norms see single cases. Rank 0 alone leaves files and output. A
run has no checkpoints, for the states of all ranks would have to be kept together: interrupted, it starts anew.

Rank 0 starts the others itself (`ranks=4`, on one machine), or torchrun starts all. On CPUs they talk by gloo, on GPUs,
one for each rank, by NCCL.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.parallel import DistributedDataParallel

from experiments.training.processes import ParallelError, RankDied, end_with_parent, server, started
from experiments.training.schema import Config
from experiments.training.train import Data
from models.model import Batch, Model, State

Work = Callable[..., Any]
SILENCE = timedelta(minutes=10)  # after which a rank counts as stuck; once all have met, a death is heard of at once


# ------------------------------------------------------------------------------------------- what the loop is given


class ShareOfData:
    """This rank's rows of each training batch: at every step the same, so that carried states stay with their rows.

    Evaluation batches are whole: every rank evaluates the same model on all cases.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self.data, self.test_splits = data, data.test_splits
        self.batches, self.carries_state = data.batches, data.carries_state
        self.rows = rows(batch_size)

    def train_batch(self, step: int) -> Batch:
        x, y = self.data.train_batch(step)
        return x[self.rows], y[self.rows]


class SharedModel(Model):
    """A model of which every rank has a copy; built alike, they start and stay alike."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        on_gpu = next(model.parameters()).is_cuda
        self.copies = DistributedDataParallel(
            Loss(model), device_ids=[torch.cuda.current_device()] if on_gpu else None, forward_sync_buffers=False
        )
        if dist.get_rank():  # noise on initial states is other noise on each rank
            seeds = np.random.SeedSequence((torch.initial_seed(), dist.get_rank()))
            torch.manual_seed(int(seeds.generate_state(1)[0]))

    def loss(self, batch: Batch, state: State = None) -> tuple[Tensor, State]:
        """The mean of all ranks' losses, whose gradient is the mean of theirs, and the state of this rank's rows.

        Without gradients, where norms only collect statistics, it is this rank's own loss.
        """
        if not torch.is_grad_enabled():
            loss, state = self.copies.module(batch, state)
            return loss, state
        loss, state = self.copies(batch, state)
        return MeanOfRanks.apply(loss), state

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        model: Model = self.copies.module.model
        return model.metrics(batch, state)

    def train(self, mode: bool = True) -> "SharedModel":
        if not mode:  # from here on all ranks evaluate one model: rank 0's
            for buffer in self.buffers():
                dist.broadcast(buffer, 0)
        return super().train(mode)


class Loss(nn.Module):
    """The loss as the forward pass of a module: that is what DistributedDataParallel wraps."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        return self.model.loss(batch, state)


class MeanOfRanks(torch.autograd.Function):
    """The mean of a loss over the ranks. Its gradients are averaged elsewhere, by DistributedDataParallel."""

    @staticmethod
    def forward(ctx: FunctionCtx, loss: Tensor) -> Tensor:
        total = loss.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: FunctionCtx, *slopes: Tensor) -> Tensor:
        return slopes[0]


def rows(batch_size: int) -> slice:
    """This rank's rows of a mini-batch."""
    size = share(batch_size, dist.get_world_size())
    return slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)


def share(batch_size: int, ranks: int) -> int:
    """How many cases of a mini-batch each rank has."""
    if batch_size % ranks:
        raise ParallelError(f"batch_size={batch_size}: {ranks} ranks cannot share it; take a multiple of {ranks}")
    return batch_size // ranks


def check(config: Config) -> None:
    """Refuse what cannot be shared. Raises ParallelError."""
    share(config.batch_size, config.ranks)
    if config.ranks > 1 and config.method != "train":
        raise ParallelError(f"ranks={config.ranks}: method={config.method} is no training run; leave ranks out")


# ---------------------------------------------------------------------------------------------- who works together


@contextmanager
def processes(ranks: int, work: Work, *arguments: object) -> Iterator[None]:
    """Inside, this process is rank 0 of `ranks`, and all others call `work(*arguments)`. One rank: nothing happens.

    `work` must be importable. Raises ParallelError with the reason if another rank ends before its work is done.
    """
    if ranks == 1:
        yield
    elif dist.is_initialized() and ranks == dist.get_world_size():  # torchrun's: they wait in torchrun.follow
        dist.broadcast_object_list([arguments])
        yield
    elif dist.is_initialized():
        raise ParallelError(f"this needs {ranks} processes and torchrun started {dist.get_world_size()}; do without it")
    else:
        with TemporaryDirectory() as folder:
            meeting = os.path.join(folder, "store"), ranks
            others: list[tuple[Any, Connection]] = []
            try:
                for rank in range(1, ranks):
                    others.append(start(rank, meeting, work, arguments))
                for _, pipe in others:  # until each lives: whoever waits for them below waits long
                    pipe.recv()
                join(0, *meeting)
                yield
            except (RuntimeError, EOFError) as error:
                raise lost([pipe for _, pipe in others]) or error from None
            finally:
                for process, _ in others:  # rank 0 has all it needs of them
                    process.kill()
                    process.join()
                leave()


def start(rank: int, meeting: tuple[str, int], work: Work, arguments: tuple[object, ...]) -> tuple[Any, Connection]:
    here, there = server().Pipe(duplex=False)
    with there:
        return started(assist, rank, meeting, there, work, arguments, daemon=True), here


def assist(rank: int, meeting: tuple[str, int], pipe: Connection, work: Work, arguments: tuple[object, ...]) -> None:
    """A further rank: it tells that it lives, and at the end that its work is done, or when and why it is not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for rank 0
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        pipe.send(None)
        join(rank, *meeting)
        work(*arguments)
        pipe.send(None)
    except Exception as error:
        pipe.send((time.monotonic(), f"{type(error).__name__}: {error}"))
        sys.exit(1)
    finally:
        leave()


def lost(pipes: list[Connection]) -> ParallelError | None:
    """The error of the rank that ended first, which all others only followed; None if none did."""
    reasons, told = [], wait(pipes, timeout=1)
    for rank, pipe in enumerate(pipes, start=1):
        if pipe in told:
            try:
                reasons.append((pipe.recv() or (np.inf, ""), rank))
            except EOFError:
                reasons.append(((-np.inf, "its process died"), rank))
    (when, reason), rank = min(reasons, default=((np.inf, ""), 0))
    kind = RankDied if when == -np.inf else ParallelError
    return None if when == np.inf else kind(f"rank {rank}: {' '.join(reason.split())}")


def join(rank: int, path: str, ranks: int) -> None:
    """Enter the process group of a run on this machine."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group(backend(), f"file://{path}", SILENCE, world_size=ranks, rank=rank)


def leave() -> None:
    if dist.is_initialized():
        gc.collect()  # what still holds the group is gone: else its threads outlive it and abort the process at the end
        dist.destroy_process_group()


def backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
