"""Normalisation of summed inputs: the one axis that every model of the suite shares.

A norm turns summed inputs `a` into what the non-linearity sees. Ba, Kiros and Hinton (2016), equations 2-4:

    none    a + b                             no statistics; the shift is the layer's ordinary bias
    batch   g * (a - mu) / sigma + b          mu, sigma of each unit over the cases of the mini-batch
    layer   g * (a - mu) / sigma + b          mu, sigma of each case over the units of the layer

so the shift always belongs to the norm and a layer's linear part has none: a bias inside the normalised sum would
be cancelled (batch) or break the invariances of the paper's Table 1 (layer). sigma^2 is the biased variance, and one
EPS inside the square root serves all norms. Gains and shifts are constants at the start and draw no random numbers,
so that one seed gives every norm the same initial weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
# Weight of the newest mini-batch in the running averages, after a warm-up in which they are plain means. Of 0.01, 0.03
# and 0.1 the one that gave batch norm the lowest validation losses on the tuning seeds: slower averages lag behind in
# runs of some hundred updates, faster ones are noisy at small batches.
MOMENTUM = 0.03

# Which units of a convolutional layer share layer norm's statistics and which share a gain:
# all of (C, H, W) with a gain per channel; all of (C, H, W) with a gain per unit; the C units of one pixel.
LAYER_AXES = ("channel", "unit", "pixel")


class Norm(nn.Module):
    """Gain and shift of `features` units; `None` where a norm has no gain or its user keeps the shift elsewhere."""

    def __init__(self, features: int, *, gain: float | None, shift: bool, eps: float = EPS) -> None:
        super().__init__()
        self.features, self.eps = features, eps
        self.gain = None if gain is None else nn.Parameter(torch.full((features,), gain))
        self.shift = nn.Parameter(torch.zeros(features)) if shift else None


class Unnormalized(Norm):
    """`norm=none`: adds the shift. a: (N, features, ...) or, recurrent, (..., features)."""

    def __init__(self, features: int, *, gain: float = 1.0, shift: bool = True, eps: float = EPS) -> None:
        super().__init__(features, gain=None, shift=shift)

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        if self.shift is None:
            return a
        return a + (self.shift.view(-1, 1, 1) if a.dim() == 4 else self.shift)


class LayerNorm(Norm):
    """`norm=layer`: statistics of each case over its own units (equation 3), the same in training and at test time.

    a: (..., features), or (N, C, H, W) with features = C and `axes` one of LAYER_AXES ("unit" needs `map_size`).
    """

    def __init__(
        self,
        features: int,
        *,
        gain: float = 1.0,
        shift: bool = True,
        eps: float = EPS,
        axes: str = "channel",
        map_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps)
        self.axes = axes
        if axes == "unit" and map_size is not None:
            self.gain = nn.Parameter(torch.full((features, *map_size), gain))
            self.shift = nn.Parameter(torch.zeros(features, *map_size)) if shift else None

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        if a.dim() != 4:
            return F.layer_norm(a, (self.features,), self.gain, self.shift, self.eps)
        if self.axes == "channel":
            return F.group_norm(a, 1, self.gain, self.shift, self.eps)
        if self.axes == "unit":
            return F.layer_norm(a, a.shape[1:], self.gain, self.shift, self.eps)
        return F.layer_norm(a.movedim(1, -1), (self.features,), self.gain, self.shift, self.eps).movedim(-1, 1)


class BatchNorm(Norm):
    """`norm=batch`: statistics of each unit over the mini-batch (Ioffe and Szegedy 2015; equation 2 here).

    a: (N, C) or (N, C, H, W), C = features. At test time running averages stand in; their variance is the unbiased
    estimate. A single value per channel has no spread: the output is exactly the shift and no gradient reaches the
    weights below. That is not an error but what the equation says; `undefined` remembers that it happened.
    """

    running_mean: Tensor
    running_variance: Tensor
    updates: Tensor
    undefined: Tensor

    def __init__(
        self, features: int, *, gain: float = 1.0, shift: bool = True, eps: float = EPS, steps: int = 1
    ) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps)
        self.register_buffer("running_mean", torch.zeros(steps, features))
        self.register_buffer("running_variance", torch.ones(steps, features))
        self.register_buffer("updates", torch.zeros(steps))
        self.register_buffer("undefined", torch.tensor(False))

    def forward(self, a: Tensor) -> Tensor:
        if not self.training:
            return self.apply_statistics(a, self.running_mean[0], self.running_variance[0])
        count = a.numel() // self.features
        out, mean, inverse = self.normalize(a, count)
        self.update(mean[None], inverse[None], count)
        return out

    def normalize(self, a: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise (N, C, ...) by its own `count` values a channel: output, mean, 1 / sqrt(biased variance + eps)."""
        if count == 1:
            self.undefined.fill_(True)
            mean = a.detach().reshape(-1)
            return self.scale(a * 0), mean, torch.full_like(mean, self.eps**-0.5)
        out, mean, inverse = torch.native_batch_norm(a, self.gain, self.shift, None, None, True, 0.0, self.eps)
        return out, mean, inverse

    def apply_statistics(self, a: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalise by given statistics; with them fixed, each case's output depends on that case alone."""
        return F.batch_norm(a, mean, variance, self.gain, self.shift, False, 0.0, self.eps)

    def scale(self, normalized: Tensor) -> Tensor:
        shape = (1, -1, 1, 1) if normalized.dim() == 4 else (-1,)
        out = normalized if self.gain is None else self.gain.view(shape) * normalized
        return out if self.shift is None else out + self.shift.view(shape)

    @torch.no_grad()
    def update(self, mean: Tensor, inverse: Tensor, count: int | Tensor) -> None:
        """Move the running averages towards the statistics of `count` values each, (steps, C).

        `count` may differ from step to step, (steps, 1); a step without values keeps its averages. Averaged is the
        unbiased estimate of the variance; of a single value it is 0. Where one average stands for all steps, it
        takes the mean over the steps.
        """
        counts = torch.as_tensor(count, dtype=mean.dtype, device=mean.device).expand(len(mean), 1)
        variance = (inverse.pow(-2) - self.eps).clamp_(min=0) * (counts / (counts - 1).clamp(min=1))
        seen = counts.view(-1) > 0
        if len(self.running_mean) == 1 < len(mean):
            if not seen.any():
                return
            mean, variance, seen = mean[seen].mean(0, True), variance[seen].mean(0, True), seen.any()[None]
        kept = len(self.running_mean)  # longer training sequences leave nothing of their further steps
        mean, variance, seen = mean[:kept], variance[:kept], seen[:kept]
        updates = self.updates[: len(mean)].add_(seen)
        weight = ((1 / updates.clamp(min=1)).clamp_(min=MOMENTUM) * seen)[:, None].to(mean.dtype)
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

    def __init__(self, features: int, *, steps: int, gain: float = 0.1, shift: bool = True, eps: float = EPS) -> None:
        super().__init__(features, gain=gain, shift=shift, eps=eps, steps=steps)
        self.pending: list[Statistics] = []

    def forward(self, a: Tensor, step: int | None = None, mask: Tensor | None = None) -> Tensor:
        if step is None:
            return self.sequence(a, mask)
        if not self.training:
            at = min(step, len(self.running_mean) - 1)
            return self.apply_statistics(a, self.running_mean[at], self.running_variance[at])
        out, statistics = self.one_step(a, mask)
        self.pending.append(statistics)
        return out

    def one_step(self, a: Tensor, mask: Tensor | None) -> tuple[Tensor, Statistics]:
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
            parts = [self.one_step(row, inside) for row, inside in zip(a, masks, strict=True)]
            self.store([statistics for _, statistics in parts])
            return torch.stack([out for out, _ in parts])
        if self.training:  # each (step, unit) pair is a channel of one call
            channels = a.transpose(0, 1).reshape(batch, length * features)
            gain = None if self.gain is None else self.gain.repeat(length)
            shift = None if self.shift is None else self.shift.repeat(length)
            out, mean, inverse = torch.native_batch_norm(channels, gain, shift, None, None, True, 0.0, self.eps)
            self.update(mean.view(length, features), inverse.view(length, features), batch)
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


NORMS: dict[str, type[Norm]] = {"none": Unnormalized, "batch": BatchNorm, "layer": LayerNorm}


def feedforward(norm: str, features: int, *, axes: str = "channel", map_size: tuple[int, int] | None = None) -> Norm:
    """The norm of a feed-forward layer: (N, features), or (N, features, H, W) of a convolution, map_size=(H, W)."""
    if norm == "layer":
        return LayerNorm(features, axes=axes, map_size=map_size)
    return NORMS[norm](features)  # type: ignore[call-arg]  # every norm has defaults for gain and shift


def recurrent(norm: str, features: int, *, steps: int, gain: float | None = None, shift: bool = True) -> Norm:
    """The norm of one term of a recurrent layer; `steps`: time steps with statistics of their own (batch norm only).

    The gain starts at 1, for batch norm at 0.1: Cooijmans et al. (2016, section 4) found that larger gains let the
    gradient through saturated units vanish.
    """
    if norm == "batch":
        return StepwiseBatchNorm(features, steps=steps, gain=0.1 if gain is None else gain, shift=shift)
    return NORMS[norm](features, gain=1.0 if gain is None else gain, shift=shift)


def undefined(model: nn.Module) -> bool:
    """Whether batch norm had to normalise a single value per channel anywhere in `model` during training."""
    return any(bool(module.undefined) for module in model.modules() if isinstance(module, BatchNorm))
