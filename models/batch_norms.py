"""Batch norm, whose statistics cases share, in feed-forward and recurrent nets."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .case_norms import EPS, Layout, Norm
from .errors import ModelError

# Weight of the newest mini-batch in the running averages, after a warm-up in which they are plain means. Of 0.01, 0.03
# and 0.1 the one that gave batch norm the lowest validation losses on the tuning seeds: slower averages lag behind in
# runs of some hundred updates, faster ones are noisy at small batches.
MOMENTUM = 0.03
# Larger initial gains let the gradient through saturated units vanish (Cooijmans et al. 2016, section 4).
RECURRENT_GAIN = 0.1


class BatchNorm(Norm):
    """`norm=batch`: statistics of each unit over the mini-batch (Ioffe and Szegedy 2015; equation 2 here).

    a: (N, C) or (N, C, H, W), C = features. At test time running averages stand in; their variance is the unbiased
    estimate. A single value per channel has no spread: the output is exactly the shift and no gradient reaches the
    weights below. That is not an error but what the equation says; `undefined` remembers that it happened.

    With `ghost_size`, every so many successive cases of a mini-batch have statistics of their own, as they have on
    several devices that do not synchronise them (Hoffer et al. 2017); the averages then take their mean. `unbiased`
    divides by the unbiased estimate of the variance in training too.
    """

    name = "batch"
    table_1: ClassVar[tuple[int, ...]] = (1, 0, 1, 1, 1, 0)

    running_mean: Tensor
    running_variance: Tensor
    updates: Tensor
    undefined: Tensor

    def __init__(
        self,
        features: int,
        *,
        gain: float = 1.0,
        shift: bool = True,
        eps: float = EPS,
        steps: int = 1,
        ghost_size: int = 0,
        unbiased: bool = False,
    ) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps)
        self.ghost_size, self.unbiased, self.momentum = ghost_size, unbiased, MOMENTUM
        self.register_buffer("running_mean", torch.zeros(steps, features))
        self.register_buffer("running_variance", torch.ones(steps, features))
        self.register_buffer("updates", torch.zeros(steps))
        self.register_buffer("undefined", torch.tensor(False))

    @classmethod
    def feedforward(cls, features: int, config: Any, *, axes: str, map_size: tuple[int, int] | None) -> Norm:
        return cls(features, ghost_size=config.ghost_size, unbiased=config.unbiased)

    @classmethod
    def recurrent(cls, features: int, config: Any, *, steps: int, gain: float | None, shift: bool) -> Norm:
        return StepwiseBatchNorm(features, steps=steps, gain=RECURRENT_GAIN if gain is None else gain, shift=shift)

    def forward(self, a: Tensor) -> Tensor:
        if not self.training:
            return self.apply_statistics(a, self.running_mean[0], self.running_variance[0])
        if self.ghost_size:
            return self.ghosts(a)
        count = a.numel() // self.features
        if count > 1 and self.alone(a):
            return self.normalize_and_update(a)
        out, mean, inverse = self.normalize(a, count)
        self.update(mean[None], inverse[None], count)
        return out

    def layout(self, cases: int, positions: int) -> Layout | None:
        if not self.training:
            return Layout("given", 1, self.features)
        if self.unbiased:
            return None
        return Layout("mean", self.ghost_batches(cases), self.features)

    def alone(self, a: Tensor) -> bool:
        """Whether one call can do all: on the CPU, for elsewhere the weight of the newest would have to be fetched."""
        return a.device.type == "cpu" and not self.unbiased

    def normalize_and_update(self, a: Tensor) -> Tensor:
        """`normalize` and `update` in one call, which is a third of the time of a small update."""
        self.updates += 1
        weight = max(1 / self.updates.item(), self.momentum)
        averages = self.running_mean[0], self.running_variance[0]
        return torch.native_batch_norm(a, self.gain, self.shift, *averages, True, weight, self.eps)[0]

    def ghosts(self, a: Tensor) -> Tensor:
        """Normalise each ghost batch by itself: every (ghost batch, channel) pair is a channel of one call."""
        size, groups = self.ghost_size, self.ghost_batches(len(a))
        positions = a.shape[2:]
        paired = a.view(groups, size, *a.shape[1:]).transpose(0, 1).reshape(size, groups * self.features, *positions)
        count = paired.numel() // (groups * self.features)
        out, mean, inverse = self.of_channels(paired, groups, count)
        self.update(mean, inverse, count)
        return out.view(size, groups, self.features, *positions).transpose(0, 1).reshape(a.shape)

    def ghost_batches(self, cases: int) -> int:
        if self.ghost_size and cases % self.ghost_size:
            raise ModelError(f"model.ghost_size={self.ghost_size} does not divide a mini-batch of {cases} cases")
        return cases // self.ghost_size if self.ghost_size else 1

    def of_channels(self, a: Tensor, groups: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise (N, groups * C, ...) per channel: output, mean and 1 / sqrt(variance + eps), (groups, C)."""
        if count == 1:
            self.undefined.fill_(True)
            mean = a.detach().view(groups, self.features)
            out = self.scale((a * 0).view(groups, self.features, *a.shape[2:])).view(a.shape)
            return out, mean, torch.full_like(mean, self.eps**-0.5)
        gain, shift = self.scales(a, groups)
        eps, root = self.eps, 1.0
        if self.unbiased:  # variance times count / (count - 1): as much less of eps, and of what comes out the root
            eps, root = eps * (count - 1) / count, ((count - 1) / count) ** 0.5
            gain = root * (a.new_ones(a.shape[1]) if gain is None else gain)
        out, mean, inverse = torch.native_batch_norm(a, gain, shift, None, None, True, 0.0, eps)
        return out, mean.view(groups, self.features), root * inverse.view(groups, self.features)

    def scales(self, a: Tensor, groups: int) -> tuple[Tensor | None, Tensor | None]:
        """Gain and shift of the channels (N, groups * C, ...) once they are normalised."""
        gain = self.gain if self.gain is None or groups == 1 else self.gain.repeat(groups)
        shift = self.shift if self.shift is None or groups == 1 else self.shift.repeat(groups)
        return gain, shift

    def normalize(self, a: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise (N, C, ...) by its own `count` values a channel: output, mean, 1 / sqrt(variance + eps)."""
        out, mean, inverse = self.of_channels(a, 1, count)
        return out, mean[0], inverse[0]

    def apply_statistics(self, a: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalise by given statistics; with them fixed, each case's output depends on that case alone."""
        return F.batch_norm(a, mean, variance, self.gain, self.shift, False, 0.0, self.eps)

    @torch.no_grad()
    def update(self, mean: Tensor, inverse: Tensor, count: int | Tensor) -> None:
        """Move the running averages towards the statistics of `count` values each, (steps, C).

        `count` may differ from step to step, (steps, 1); a step without values keeps its averages. Averaged is the
        unbiased estimate of the variance; of a single value it is 0. Where one average stands for all steps, it
        takes the mean over the steps.
        """
        counts = torch.as_tensor(count, dtype=mean.dtype, device=mean.device).expand(len(mean), 1)
        variance = (inverse.pow(-2) - self.eps).clamp_(min=0)
        if not self.unbiased:
            variance = variance * (counts / (counts - 1).clamp(min=1))
        seen = counts.view(-1) > 0
        if len(self.running_mean) == 1 < len(mean):
            if not seen.any():
                return
            mean, variance, seen = mean[seen].mean(0, True), variance[seen].mean(0, True), seen.any()[None]
        kept = len(self.running_mean)  # longer training sequences leave nothing of their further steps
        mean, variance, seen = mean[:kept], variance[:kept], seen[:kept]
        updates = self.updates[: len(mean)].add_(seen)
        weight = ((1 / updates.clamp(min=1)).clamp_(min=self.momentum) * seen)[:, None].to(mean.dtype)
        self.running_mean[: len(mean)].lerp_(mean, weight)
        self.running_variance[: len(mean)].lerp_(variance, weight)


Statistics = tuple[Tensor, Tensor, int]  # of one step: mean, 1 / sqrt(variance + eps), number of cases


class StepwiseBatchNorm(BatchNorm):
    """Batch norm in a recurrent net: one gain and shift for all time steps, statistics for each step of its own.

    After Cooijmans et al. (2016). a: (B, F) at time `step`, or a whole sequence (T, B, F) with step=None. Beyond the
    `steps` seen in training the last step's averages serve. With steps=1 ("pooled") every step shares one running
    average; training normalises each step by its own mini-batch all the same, for it has nothing else. `mask` (B,) or
    (T, B) is true where a case is not padding; padding enters no statistics. Averages of single steps are collected
    and stored by `flush`, once a sequence.
    """

    def __init__(
        self, features: int, *, steps: int, gain: float = RECURRENT_GAIN, shift: bool = True, eps: float = EPS
    ) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps, steps=steps)
        self.pending: list[Statistics] = []

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        if step is None:
            return self.sequence(a, mask)
        if not self.training:
            at = min(step, len(self.running_mean) - 1)
            return self.apply_statistics(a, self.running_mean[at], self.running_variance[at])
        out, statistics = self.one_step(a, mask, step)
        self.pending.append(statistics)
        return out

    def one_step(self, a: Tensor, mask: Tensor | None, step: int) -> tuple[Tensor, Statistics]:
        count = len(a) if mask is None else int(mask.sum())
        if mask is None or count == len(a):
            out, mean, inverse = self.normalize(a, count)
            return out, (mean, inverse, count)
        if count == 0:
            unused = torch.ones_like(self.running_mean[0])
            return self.scale(a * 0), (unused, unused, 0)
        inside, mean, inverse = self.normalize(a[mask], count)
        return torch.zeros_like(a).masked_scatter(mask[:, None], inside), (mean, inverse, count)

    def sequence(self, a: Tensor, mask: Tensor | None) -> Tensor:
        length, batch, features = a.shape
        if self.training and (mask is not None or batch == 1):
            masks = [None] * length if mask is None else list(mask)
            parts = [self.one_step(row, inside, t) for t, (row, inside) in enumerate(zip(a, masks, strict=True))]
            self.store([statistics for _, statistics in parts])
            return torch.stack([out for out, _ in parts])
        if self.training:  # each (step, unit) pair is a channel of one call
            channels = a.transpose(0, 1).reshape(batch, length * features)
            out, mean, inverse = self.of_channels(channels, length, batch)
            self.update(mean, inverse, batch)
            return out.view(batch, length, features).transpose(0, 1)
        mean, inverse = self.statistics_at(length)
        return self.scale((a - mean[:, None]) * inverse[:, None])

    def statistics_at(self, length: int) -> Tensor:
        """Mean and 1 / sqrt(variance + eps) that serve at test time, (2, length, F)."""
        at = torch.arange(length, device=self.running_mean.device).clamp_(max=len(self.running_mean) - 1)
        return torch.stack([self.running_mean[at], (self.running_variance[at] + self.eps).rsqrt()])

    def flush(self) -> None:
        """Store the statistics of the single steps since the last call (one sequence)."""
        if self.pending:
            self.store(self.pending)
            self.pending = []

    def store(self, statistics: list[Statistics]) -> None:
        means, inverses, counts = zip(*statistics, strict=True)
        count = torch.tensor(counts, device=means[0].device)[:, None]
        self.update(torch.stack(means), torch.stack(inverses), count)
