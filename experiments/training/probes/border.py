"""Units near the border of a feature map: what section 6.7 of the paper holds against layer norm in convolutional nets.

"The large number of the hidden units whose receptive fields lie near the boundary of the image are rarely turned on and
thus have very different statistics from the rest of the hidden units within the same layer." So units may differ by
their position. They may also differ by their channel, which group norm's success speaks for. Here both are measured.

Zeros beyond the border are one reason to differ by position, images that are blank near it another. Circular padding
takes away the first, and moving each image around the torus by a random offset, so that every position sees the same
content, the second (`shifted_...`; the net was trained on images that stay). With both gone no position is special, and
what a share still is there it is by chance: neighbours see the same strokes, so in one image every region is its own.
"""

from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import models
from data import Data
from experiments.training.probes.parts.histogram import Histogram, histogram
from experiments.training.schema import Config
from experiments.training.train import train
from models.cnn import CNN

Layers = list[tuple[Tensor, Tensor]]
CASES = 250
SMALLEST_MAP = 6
INTERIOR = 2  # pixels from the border
SMALLEST = 1e-300  # instead of 0 in a denominator
MEASURES = (
    "border_rate_ratio",
    "border_share",
    "channel_share",
    "border_in_channel_share",
    "channel_minus_border_share",
    "border_mean_difference",
)
MODELS = ("cnn",)
METRICS = (*MEASURES, *(f"shifted_{name}" for name in MEASURES))


def measure(config: Config, data: Data) -> dict[str, Any]:
    """Train a convolutional net, then compare the border of its maps with their interior on 250 validation images.

    Each number is a mean over the layers with maps of at least 6 x 6; what it is of one layer, `of_layer` says. The
    model is in its test mode. The histograms are of what ReLU sees in these layers, at the border and in the interior.
    """
    model = models.build(config.model, config.norm, data.spec, config.seed)
    assert isinstance(model, CNN)
    train(model, data, config.optim, updates=config.updates, evaluations=0)
    model.eval()
    images = next(iter(data.batches("validation")))[0][:CASES]
    shifted = around_the_torus(images, torch.Generator().manual_seed(config.seed))
    layers = record(model, images)
    moved = {f"shifted_{name}": value for name, value in of_layers(record(model, shifted)).items()}
    return {**of_layers(layers), **moved, "histograms": pre_activations(layers)}


def of_layers(layers: Layers) -> dict[str, float]:
    rows = [of_layer(sums, outputs) for sums, outputs in layers]
    return {name: fmean(row[name] for row in rows) for name in MEASURES}


def pre_activations(layers: Layers) -> dict[str, Histogram]:
    """What ReLU sees at the border of all these layers' maps, and in their interior."""
    places = [regions(*outputs.shape[2:]) for _, outputs in layers]
    return {
        f"pre_activations_{name}": histogram(
            torch.cat([outputs[:, :, at[which]].flatten() for (_, outputs), at in zip(layers, places, strict=True)])
        )
        for which, name in enumerate(("border", "interior"))
    }


@torch.no_grad()
def record(model: CNN, images: Tensor) -> Layers:
    """Summed inputs of each convolution with maps large enough, and what its norm makes of them, (N, C, H, W)."""
    found: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[module] = output

    handles = [module.register_forward_hook(hook) for module in (*model.convs, *model.norms)]
    model(images)
    for handle in handles:
        handle.remove()
    layers = [(found[conv], found[norm]) for conv, norm in zip(model.convs, model.norms, strict=True)]
    return [(sums, outputs) for sums, outputs in layers if min(sums.shape[2:]) >= SMALLEST_MAP]


def of_layer(sums: Tensor, outputs: Tensor) -> dict[str, float]:
    """A layer's numbers, from summed inputs and their norm's outputs (N, C, H, W).

    Border units have no position between them and the edge of the map, interior ones at least two; those in between
    are left out. All shares are of the variance of a case's summed inputs over these units, which layer norm
    normalises together, averaged over the cases.

    `border_rate_ratio`: the share of outputs above 0, which ReLU lets through, at the border over that in the interior;
    `border_share`: the share that border or interior explains (one-way analysis of variance);
    `channel_share`: the share that the channel explains; by chance it would be channels / units, at most 0.03 here;
    `border_in_channel_share`: what border or interior explains beyond the channel, where each channel may respond to
    the border in its own way;
    `channel_minus_border_share`: channel_share - border_in_channel_share;
    `border_mean_difference`: |mean at the border - mean in the interior| of a channel, over all cases, in standard
    deviations of that channel over cases and positions; averaged over the channels.
    """
    border, interior = regions(sums.shape[2], sums.shape[3])
    channels = sums.shape[1]
    inside = torch.cat([sums[:, :, border], sums[:, :, interior]], 2).double()  # (N, C, positions)
    at_border = torch.arange(inside.shape[2]) < int(border.sum())
    factor = at_border.long().expand(channels, -1)
    channel = torch.arange(channels)[:, None].expand_as(factor)
    channel_share = share(inside, channel)
    border_in_channel = share(inside, 2 * channel + factor) - channel_share
    means = inside[:, :, at_border].mean((0, 2)) - inside[:, :, ~at_border].mean((0, 2))
    rates = [float((outputs[:, :, region] > 0).double().mean()) for region in (border, interior)]
    return {
        "border_rate_ratio": rates[0] / max(rates[1], 1 / outputs.numel()),
        "border_share": share(inside, factor),
        "channel_share": channel_share,
        "border_in_channel_share": border_in_channel,
        "channel_minus_border_share": channel_share - border_in_channel,
        "border_mean_difference": float((means.abs() / inside.std((0, 2)).clamp(min=SMALLEST)).mean()),
    }


def regions(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Border and interior of a map, (H, W) each, true inside."""
    rows, columns = (torch.minimum(torch.arange(n), torch.arange(n).flip(0)) for n in (height, width))
    distance = torch.minimum(rows[:, None], columns)
    return distance == 0, distance >= INTERIOR


def share(sums: Tensor, factor: Tensor) -> float:
    """The share of the variance over a case's units, (N, *units), that a factor's level (*units) explains; the mean."""
    a = sums.flatten(1) - sums.flatten(1).mean(1, keepdim=True)
    levels = nn.functional.one_hot(factor.flatten()).to(a.dtype)
    counts = levels.sum(0)
    explained = ((a @ levels) ** 2 / counts.clamp(min=1)).sum(1)
    return float((explained / a.square().sum(1).clamp(min=SMALLEST)).mean())


def around_the_torus(images: Tensor, draw: torch.Generator) -> Tensor:
    """Each image (C, H, W) of (N, C, H, W) moved by an offset of its own, uniform over the pixels."""
    height, width = images.shape[2:]
    offsets = torch.stack([torch.randint(size, (len(images),), generator=draw) for size in (height, width)], 1)
    moved: list[Tensor] = [image.roll(offset.tolist(), (1, 2)) for image, offset in zip(images, offsets, strict=True)]
    return torch.stack(moved)
