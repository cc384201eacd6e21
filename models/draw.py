"""DRAW, a recurrent variational auto-encoder that paints an image glimpse by glimpse (Gregor et al. 2015).

The encoder sees the image and what the canvas lacks of it, the decoder a sample of latent variables; what the decoder
writes is added to the canvas. With attention both look through a small grid of Gaussian filters that the decoder
places; without, the original's own control, at the whole image. Ba, Kiros and Hinton (2016, equations 29-31) normalise
the cell states alone, `variant=cell_only`, of both LSTMs; nothing else in the model has a norm.
"""

from math import log
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels, require
from .errors import ModelError
from .model import Batch, Model, State
from .options import OF_A_BATCH, DRAWConfig, RecurrentConfig
from .rnn import RNN

Config = DRAWConfig
METRICS = ("loss", "reconstruction", "kl")
# A call of a native kernel lays out the weights anew: one step takes up to 1.8 times as long as the plain one.
NO_KERNEL = "each step of DRAW depends on the image it has made so far, and for single steps there is no kernel"


class DRAW(Model):
    """Batches are (x, y): x (B, side, side) of 0 and 1, y (B,) the key of each case's noise."""

    def __init__(self, config: Config, norm: str, side: int) -> None:
        super().__init__()
        size, self.latent_size, self.glimpses = config.hidden_size, config.latent_size, config.glimpses
        self.canvas = nn.Parameter(torch.zeros(side, side))
        self.read: Any = Reader(size, config.read_size, side) if config.attention else WholeReader(side)
        self.write: Any = Writer(size, config.write_size, side) if config.attention else WholeWriter(size, side)
        self.encoder = lstm(self.read.features + size, norm, config)
        self.latent = nn.Linear(size, 2 * self.latent_size)
        self.decoder = lstm(self.latent_size, norm, config)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the pixels (B, side, side) and the KL divergence of each glimpse (T, B).

        noise (T, B, latent_size): what the samples of the latent variables are made from.
        """
        kernels.settled(NO_KERNEL)
        canvas, divergences = self.canvas.expand_as(x), []
        encoded, decoded = (cell.initial_state(len(x)) for cell in (self.encoder, self.decoder))
        W_encoder, W_decoder = self.encoder.W_h, self.decoder.W_h
        for epsilon in noise:
            missing = x - torch.sigmoid(canvas)
            seen = torch.cat([self.read(x, missing, decoded[0]), decoded[0]], 1)
            encoded = self.encoder.step(self.encoder.input_terms(seen), encoded, W_encoder)
            mean, log_std = self.latent(encoded[0]).chunk(2, 1)
            divergences.append(kl_divergence(mean, log_std))
            z = mean + log_std.exp() * epsilon
            decoded = self.decoder.step(self.decoder.input_terms(z), decoded, W_decoder)
            canvas = canvas + self.write(decoded[0])
        return canvas, torch.stack(divergences)

    def loss(self, batch: Batch, state: State = None) -> tuple[Tensor, State]:
        values, _ = self.metrics(batch)
        return values["loss"].mean(), None

    def metrics(self, batch: Batch, state: State = None) -> tuple[dict[str, Tensor], State]:
        """Per image, in nats: `loss`, the bound on its negative log likelihood, and its terms `reconstruction`, `kl`.

        One sample of the latent variables estimates the bound.
        """
        x, keys = batch
        logits, divergences = self(x, noise_of(keys, self.glimpses, self.latent_size).to(x))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2))
        kl = divergences.sum(0)
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}, None


def lstm(inputs: int, norm: str, config: Config) -> Any:
    """A layer that is called step by step."""
    options = {name: value for name, value in vars(config).items() if name in vars(RecurrentConfig())}
    (layer,) = RNN(inputs, norm, 1, RecurrentConfig(**options)).layers
    return layer


def kl_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Of normal variables (B, Z) from standard normal ones, summed over Z: (B,)."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(1)


def noise_of(keys: Tensor, glimpses: int, latent_size: int) -> Tensor:
    """Standard normal numbers float32 (glimpses, B, latent_size); those of a case depend on its key alone."""
    generators = (np.random.Generator(np.random.Philox(key=key)) for key in keys.tolist())
    drawn = [generator.standard_normal((glimpses, latent_size), dtype=np.float32) for generator in generators]
    return torch.from_numpy(np.stack(drawn, 1))


class WholeReader(nn.Module):
    """The image and what is missing of it, pixel by pixel: (B, features)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.features = 2 * side**2

    def forward(self, x: Tensor, missing: Tensor, h: Tensor) -> Tensor:
        return torch.stack([x, missing], 1).flatten(1)


class WholeWriter(nn.Module):
    """A number for each pixel: (B, side, side)."""

    def __init__(self, hidden_size: int, side: int) -> None:
        super().__init__()
        self.image, self.side = nn.Linear(hidden_size, side**2), side

    def forward(self, h: Tensor) -> Tensor:
        image: Tensor = self.image(h)
        return image.view(-1, self.side, self.side)


class Reader(nn.Module):
    """A patch of the image and the same one of what is missing of it: (B, features)."""

    def __init__(self, hidden_size: int, size: int, side: int) -> None:
        super().__init__()
        self.attention, self.features = Attention(hidden_size, size, side), 2 * size**2

    def forward(self, x: Tensor, missing: Tensor, h: Tensor) -> Tensor:
        rows, columns, intensity = self.attention(h)
        patches = [intensity * (rows @ image @ columns.mT) for image in (x, missing)]
        return torch.stack(patches, 1).flatten(1)


class Writer(nn.Module):
    """A patch, put where attention is: (B, side, side)."""

    def __init__(self, hidden_size: int, size: int, side: int) -> None:
        super().__init__()
        self.attention, self.patch = Attention(hidden_size, size, side), nn.Linear(hidden_size, size**2)
        self.size = size

    def forward(self, h: Tensor) -> Tensor:
        rows, columns, intensity = self.attention(h)
        image: Tensor = rows.mT @ self.patch(h).view(-1, self.size, self.size) @ columns / intensity
        return image


class Attention(nn.Module):
    """Where a grid of size x size filters lies in an image, and how it sees (Gregor et al. 2015, section 3.2).

    The decoder's state gives centre, variance, stride and intensity; where all are 0 the grid spans the image. At first
    it covers the middle half, its filters as wide as half a stride: across the whole image a grid of 2 x 2 sees the
    corners alone, which are always blank, and no gradient moves it.
    """

    def __init__(self, hidden_size: int, size: int, side: int) -> None:
        super().__init__()
        self.size, self.side = size, side
        self.place = nn.Linear(hidden_size, 5)
        self.stride = (side - 1) / max(size - 1, 1)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor([0.0, 0.0, 2 * log(self.stride / 4), -log(2), 0.0]))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Filters along rows and along columns, each (B, size, side), and the intensity (B, 1, 1)."""
        x, y, log_variance, log_stride, log_intensity = self.place(h)[..., None, None].unbind(1)
        stride = self.stride * log_stride.exp()
        along_x, along_y = (
            filters((self.side + 1) / 2 * (centre + 1), stride, log_variance.exp(), self.size, self.side)
            for centre in (x, y)
        )
        return along_y, along_x, log_intensity.exp()


def filters(centre: Tensor, stride: Tensor, variance: Tensor, size: int, side: int) -> Tensor:
    """Gaussian filters (B, size, side) over pixels 1 to side, each of sum 1; centre, stride, variance: (B, 1, 1).

    As a softmax their sum is 1 wherever they lie, also outside of the image, where densities round to 0.
    """
    place = torch.arange(size).to(centre)[:, None] - (size - 1) / 2
    pixel = torch.arange(1, side + 1).to(centre)
    return torch.softmax(-(pixel - centre - place * stride).square() / (2 * variance), -1)


def build(config: Config, norm: str, spec: Any) -> DRAW:
    require(config, spec, "binary_image")
    if norm in OF_A_BATCH:
        asked = f"model=draw with norm={norm}"
        raise ModelError(f"{asked}: its single steps keep no averages over mini-batches; use norm=layer or norm=none")
    return DRAW(config, norm, spec.input_shape[0])
