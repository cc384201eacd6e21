"""Batch norm whose mini-batch is that of all processes that train the model together."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .batch_norms import RECURRENT_GAIN, BatchNorm, Statistics, StepwiseBatchNorm
from .case_norms import Layout, Norm
from .errors import ModelError


def processes() -> int:
    """How many processes train this model together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class OfAllProcesses(torch.autograd.Function):
    """A tensor of this process -> those of all, (processes, ...). Its gradient is the sum of what all make of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        every = own.new_empty(processes(), *own.shape)
        dist.all_gather(list(every.unbind(0)), own)
        return every

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]


class SyncBatchNorm(BatchNorm):
    """`norm=sync_batch`: batch norm by the mini-batches of all processes together, as torch's SyncBatchNorm on GPUs.

    All mini-batches have the same size. Each process takes its mean, then its variance about that; they are exchanged
    and combined (Chan, Golub and LeVeque 1979), which costs no digit where means are large. A process by itself
    exchanges nothing: this is then `batch`, bit for bit.
    """

    name = "sync_batch"

    @classmethod
    def feedforward(cls, features: int, config: Any, *, axes: str, map_size: tuple[int, int] | None) -> Norm:
        return cls(features)

    @classmethod
    def recurrent(cls, features: int, config: Any, *, steps: int, gain: float | None, shift: bool) -> Norm:
        return StepwiseSyncBatchNorm(features, steps=steps, gain=RECURRENT_GAIN if gain is None else gain, shift=shift)

    def alone(self, a: Tensor) -> bool:
        return processes() == 1 and super().alone(a)

    def layout(self, cases: int, positions: int) -> Layout | None:
        return super().layout(cases, positions) if processes() == 1 else None

    def of_channels(self, a: Tensor, groups: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        if processes() == 1:
            return super().of_channels(a, groups, count)
        dims, wide = [d for d in range(a.dim()) if d != 1], (-1, *[1] * (a.dim() - 2))
        own = a.mean(dims)
        own_variance = (a - own.view(wide)).square().mean(dims)
        means, variances = OfAllProcesses.apply(torch.stack([own, own_variance])).unbind(1)
        mean = means.mean(0)
        inverse = ((variances + (means - mean).square()).mean(0) + self.eps).rsqrt()
        normalized = (a - mean.view(wide)) * inverse.view(wide)
        out = self.scale(normalized if groups == 1 else normalized.view(len(a), groups, self.features)).view(a.shape)
        return out, *(found.detach().view(groups, self.features) for found in (mean, inverse))

    def update(self, mean: Tensor, inverse: Tensor, count: int | Tensor) -> None:
        super().update(mean, inverse, count * processes())


class StepwiseSyncBatchNorm(SyncBatchNorm, StepwiseBatchNorm):
    """`norm=sync_batch` in a recurrent net. Raises ModelError on padding, of which each process would have its own."""

    def one_step(self, a: Tensor, mask: Tensor | None, step: int) -> tuple[Tensor, Statistics]:
        if mask is not None and processes() > 1:
            raise ModelError("norm=sync_batch: sequences with padding cannot be shared by processes; use norm=batch")
        return super().one_step(a, mask, step)
