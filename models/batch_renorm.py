"""Batch renormalisation: batch norm corrected towards its running averages (Ioffe 2017)."""

from typing import Any

import torch
from torch import Tensor

from .batch_norms import RECURRENT_GAIN, BatchNorm, Statistics, StepwiseBatchNorm
from .case_norms import Layout, Norm


class BatchRenorm(BatchNorm):
    """`norm=renorm`: batch norm brought near to what the running averages would give (Ioffe 2017).

    With the mini-batch's mean m and deviation s and the running ones M and S the output is g ((a - m) / s r + d) + b,
    where r = s / S and d = (m - M) / S are constants to the gradient, r within [1 / r_max, r_max] and d within
    [-d_max, d_max]. In these limits training normalises as the test does, by M and S. They grow linearly from 1 and 0,
    where this is batch norm, over the first `renorm_warmup` updates. A single value is treated as batch norm does.
    """

    name = "renorm"
    table_1 = ()  # its output depends on what was normalised before

    def __init__(
        self, features: int, *, r_max: float = 3.0, d_max: float = 5.0, renorm_warmup: int = 300, **options: Any
    ) -> None:
        super().__init__(features, **options)
        self.r_max, self.d_max, self.renorm_warmup = r_max, d_max, renorm_warmup
        self.step = 0  # of a recurrent net: the first that is being normalised

    @classmethod
    def feedforward(cls, features: int, config: Any, *, axes: str, map_size: tuple[int, int] | None) -> Norm:
        return cls(features, **cls.chosen(config))

    @classmethod
    def recurrent(cls, features: int, config: Any, *, steps: int, gain: float | None, shift: bool) -> Norm:
        options = {"gain": RECURRENT_GAIN if gain is None else gain, "shift": shift, **cls.chosen(config)}
        return StepwiseBatchRenorm(features, steps=steps, **options)

    def alone(self, a: Tensor) -> bool:
        return False

    def layout(self, cases: int, positions: int) -> Layout | None:
        return None

    def scales(self, a: Tensor, groups: int) -> tuple[Tensor | None, Tensor | None]:
        gain, shift = super().scales(a, groups)
        assert gain is not None
        r, d = self.corrections(a, groups)
        return gain * r, gain * d if shift is None else gain * d + shift

    @torch.no_grad()
    def corrections(self, a: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """r and d of each channel of (N, groups * C, ...), the groups being successive steps."""
        at = torch.arange(self.step, self.step + groups, device=a.device).clamp_(max=len(self.running_mean) - 1)
        mean, deviation = self.running_mean[at], (self.running_variance[at] + self.eps).sqrt()
        own_variance, own_mean = torch.var_mean(a, [dim for dim in range(a.dim()) if dim != 1], correction=0)
        grown = (self.updates[at, None] / max(self.renorm_warmup, 1)).clamp(max=1)
        r_max, d_max = 1 + grown * (self.r_max - 1), grown * self.d_max
        r = ((own_variance.view_as(mean) + self.eps).sqrt() / deviation).clamp(1 / r_max, r_max)
        d = ((own_mean.view_as(mean) - mean) / deviation).clamp(-d_max, d_max)
        return r.flatten(), d.flatten()


class StepwiseBatchRenorm(BatchRenorm, StepwiseBatchNorm):
    """`norm=renorm` in a recurrent net."""

    def one_step(self, a: Tensor, mask: Tensor | None, step: int) -> tuple[Tensor, Statistics]:
        self.step = step
        found = super().one_step(a, mask, step)
        self.step = 0
        return found
