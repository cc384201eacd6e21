"""Convolutional classifier, for the remark of the paper's section 6.7 (which names no architecture)."""

from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import require
from .case_norms import Unnormalized
from .classifier import METRICS as METRICS
from .classifier import Classifier
from .kernels.cnn_updates import CNNUpdates, native_updates
from .kernels.maps import relu_of_norm, wrapped
from .model import Batch, State
from .norms import feedforward, reparametrize
from .options import CNNConfig

Config = CNNConfig
CASES_AT_ONCE = 200  # in an evaluation


class CircularConv2d(nn.Conv2d):
    """A 3x3 convolution of maps (N, C, H, W) whose opposite sides meet.

    As padding_mode="circular", but channels_last maps stay so: F.pad would reorder them.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(wrapped(x), self.weight, stride=self.stride)


def shortcut(x: Tensor, like: Tensor) -> Tensor:
    """x (N, C, H, W) as maps of another size: every second pixel, further channels zero, no parameter."""
    if x.shape == like.shape:
        return x
    stride = -(-x.shape[2] // like.shape[2])
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, like.shape[1] - x.shape[1]))


class CNN(Classifier):
    """x: (N, C, H, W) -> logits (N, classes). ReLU, He initialisation; maps halve at the start and in the middle.

    `residual`: after the first two layers each pair of layers is a block relu(x + norm(conv(relu(norm(conv(x)))))), as
    in He et al. (2016); an odd last layer stands alone. Without a norm that keeps it small, what each of L blocks adds
    is multiplied by 1 / sqrt(L): x then grows at most by a factor of sqrt(e) over all of them, as for 0 or 1 block.
    """

    def __init__(self, config: Config, norm: str, spec: Any) -> None:
        super().__init__()
        channels, height, width = spec.input_shape
        self.circular, self.pooled = config.padding == "circular", config.head == "gap"
        self.blocks = range(2, config.depth - 1, 2) if config.residual else range(0)  # the first layer of each
        convs, norms = [], []
        for layer in range(config.depth):
            halve = layer in (0, config.depth // 2)
            out = config.width if layer < max(config.depth // 2, 1) else 2 * config.width
            if halve:
                height, width = (height + 1) // 2, (width + 1) // 2
            conv = CircularConv2d if self.circular else nn.Conv2d
            convs.append(conv(channels, out, 3, stride=2 if halve else 1, padding=1, bias=False))
            norms.append(feedforward(norm, out, config, axes=config.layer_axes, map_size=(height, width)))
            channels = out
        self.convs, self.norms = nn.ModuleList(convs), nn.ModuleList(norms)
        plain = isinstance(norms[0], Unnormalized)
        self.share = 1 / sqrt(max(len(self.blocks), 1)) if plain else 1.0  # of what a block adds
        self.head = nn.AdaptiveAvgPool2d(1) if self.pooled else nn.Identity()
        size = channels if self.pooled else channels * height * width
        self.hidden, self.hidden_norm = None, None
        if config.hidden_size:
            self.hidden = nn.Linear(size, config.hidden_size, bias=False)
            self.hidden_norm = feedforward(norm, config.hidden_size, config)
            size = config.hidden_size
        self.output, self.output_bias = nn.Linear(size, spec.outputs, bias=False), Unnormalized(spec.outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # With each pixel's channels side by side a CPU convolves fastest; a gain per unit would have to be reordered.
        if norm != "layer" or config.layer_axes != "unit":
            self.convs.to(memory_format=torch.channels_last)
        for layer in (*self.convs, *([] if self.hidden is None else [self.hidden])):
            reparametrize(norm, layer, "weight")

    def forward(self, x: Tensor) -> Tensor:
        before = x
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if layer in self.blocks:
                before = x
            a = conv(x)
            ends = layer - 1 in self.blocks
            x = torch.relu(shortcut(before, a) + self.share * norm(a)) if ends else relu_of_norm(norm, a)
        h = self.head(x).flatten(1)
        if self.hidden is not None and self.hidden_norm is not None:
            h = relu_of_norm(self.hidden_norm, self.hidden(h))
        logits: Tensor = self.output_bias(self.output(h))
        return logits

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Those of a few cases at a time, whose maps stay in the processor's cache, where cases have no company."""
        parts = zip(*(part.split(len(part) if self.training else CASES_AT_ONCE) for part in batch), strict=True)
        rows = [super(CNN, self).metrics(part)[0] for part in parts]
        return {name: torch.cat([row[name] for row in rows]) for name in METRICS}, None

    def native_updates(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> CNNUpdates | None:
        return native_updates(self, optimizer, clip_norm)


def build(config: Config, norm: str, spec: Any) -> CNN:
    require(config, spec, "image")
    return CNN(config, norm, spec)
