"""Binarised MNIST: the images of MNIST in black and white, each pixel drawn once for all.

The first 50,000 training images train, the last 10,000 validate, 10,000 test. A pixel is 1 with the probability that
its grey value says (Salakhutdinov and Murray 2008). The bits of Larochelle and Murray (2011), which papers use, are in
no package that was found; ours are drawn from a fixed seed.

What else a case needs that is random, the noise of a model's latent variables, it brings as a key: so it is the same
whatever the model, and whatever other cases there are in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data import Batch, Spec, cache, mnist
from data.cases import Cases, Labelled, mapped, synthetic_images

if TYPE_CHECKING:
    from torch import Tensor

SIDE = mnist.SIDE
PIXELS = SIDE**2
TRAINING, VALIDATION, TESTS = 50_000, 10_000, 10_000
BINARISATION = 2016  # seed of the pixels
FILE = "images.bits"
DIGESTS = {
    FILE: "231eabb5392bd46495b715862bc329c2b8fe18dc83da53092f1a6ba2e035443f"
}  # SHA-256: all images, training first, 8 pixels a byte
SPLITS = {"train": 0, "validation": 1, "test": 2}
WHITE = 255  # a pixel of 1, as a byte of an image


@dataclass
class Config:
    """Options of binarised MNIST."""

    name: str = "binary_mnist"
    # synthetic: 2,000 + 500 + 500 generated images of the same shape, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many of the 10,000 validation and 10,000 test images
    validation_size: int = field(default=VALIDATION, metadata={"maximum": VALIDATION})
    test_size: int = field(default=TESTS, metadata={"maximum": TESTS})


def load(config: Config, *, batch_size: int, seed: int) -> BinaryImages:
    """Binarised MNIST as configured; raises DataError if it is neither cached nor to be had."""
    spec = Spec("binary_image", (SIDE, SIDE), 2)
    if config.source == "synthetic":
        grey = synthetic_images(1, SIDE)
        parts = parted(binarised(grey.train[0].numpy(), grey.test[0].numpy()), 2_000, 500)
        digest, synthetic = grey.digest, True
    else:
        files = cache.ensure("binary_mnist", DIGESTS, _sources())
        parts = parted(mapped(files, FILE).numpy(), TRAINING, VALIDATION)
        digest, synthetic = files.digest, False
    sizes = {"train": None, "validation": config.validation_size, "test": config.test_size}
    splits = {split: with_keys(x[: sizes[split]], split) for split, x in parts.items()}
    return BinaryImages(spec, splits, batch_size=batch_size, seed=seed, digest=digest, synthetic=synthetic)


def test_splits(config: Config) -> list[str]:
    return ["test"]


def prepare() -> str:
    """Fetch MNIST, binarise and verify it; says what is where."""
    files = cache.ensure("binary_mnist", DIGESTS, _sources(), thorough=True)
    return f"{TRAINING:,} + {VALIDATION:,} + {TESTS:,} images in {files.folder}"


DOWNLOADS = {"binary_mnist": prepare}


class BinaryImages(Cases):
    """Batches x float32 (B, 28, 28) of 0 and 1; y int64 (B,), the key of each case's noise.

    In training a key is drawn from (seed, step) and the place in the batch, so that an image gets new noise each time
    it is seen; a case of validation or test has the same one always.
    """

    def train_batch(self, step: int) -> Batch:
        x, _ = super().train_batch(step)
        return x, keys(len(x), "train", self._seed, step).to(x.device)


def keys(cases: int, split: str, *entropy: int) -> Tensor:
    """int64 (cases,), which begin alike however many there are; as good as certainly no two are the same."""
    import torch

    words = np.random.SeedSequence((SPLITS[split], *entropy)).generate_state(cases, np.uint64)
    return torch.from_numpy((words >> np.uint64(1)).astype(np.int64))


def with_keys(images: Tensor, split: str) -> Labelled:
    return images, keys(len(images), split)


def binarised(*parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images of grey pixels, one part after the other, in black and white: 8 pixels a byte.

    A pixel is 1 where a number drawn from [0, 1), in the order of the pixels, is less than its byte / 255.
    """
    draw = np.random.Generator(np.random.PCG64(BINARISATION))
    images = (image for part in parts for image in part.reshape(-1, PIXELS))  # all at once take half a gigabyte
    return np.concatenate([np.packbits(draw.random(PIXELS) < image / 255) for image in images])


def parted(packed: NDArray[np.uint8], training: int, validation: int) -> dict[str, Tensor]:
    """All images by split, uint8 (N, 28, 28) of 0 and WHITE."""
    import torch

    images = torch.from_numpy(np.unpackbits(packed) * np.uint8(WHITE)).view(-1, SIDE, SIDE)
    return dict(zip(SPLITS, images.tensor_split((training, training + validation)), strict=True))


def _sources() -> Iterator[cache.Source]:
    yield "MNIST, binarised", _binarise


def _binarise(into: Path) -> None:
    grey = mnist.published()
    (into / FILE).write_bytes(binarised(grey.train[0].numpy(), grey.test[0].numpy()).tobytes())
