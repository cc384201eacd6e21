"""CIFAR-10, colour photographs (3, 32, 32): the first 45,000 training images train, the last 5,000 validate,
10,000 test.

The archive holds pickles. torchvision reads them, once, and only after the hashes of the archive and of each
file were checked; the cache keeps plain bytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data import Spec, cache
from data.cases import Cases, Images, mapped, synthetic_images

SHAPE = (3, 32, 32)
VALIDATION = 5_000
# Made here from the verified archive, and from then on compared with the hashes they had then.
FILES: dict[str, str | None] = dict.fromkeys(["train-images", "train-labels", "test-images", "test-labels"])


@dataclass
class Config:
    """Options of CIFAR-10."""

    name: str = "cifar10"
    # synthetic: 2,000 + 500 + 500 generated images of the same shape, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many of the 5,000 validation and 10,000 test images
    validation_size: int = field(default=5_000, metadata={"maximum": 5_000})
    test_size: int = field(default=10_000, metadata={"maximum": 10_000})


def test_splits(config: Config) -> list[str]:
    return ["test"]


def load(config: Config, *, batch_size: int, seed: int) -> Cases:
    """CIFAR-10 as configured; raises DataError if it is neither cached nor to be had."""
    synthetic = config.source == "synthetic"
    images = synthetic_images(*SHAPE[:2]) if synthetic else _real(cache.ensure("cifar10", FILES, _sources()))
    splits = images.splits(validation_size=config.validation_size, test_size=config.test_size)
    spec = Spec("image", SHAPE, 10)
    return Cases(spec, splits, batch_size=batch_size, seed=seed, digest=images.digest, synthetic=synthetic)


def prepare() -> str:
    """Fetch and verify the images; says what is where."""
    files = cache.ensure("cifar10", FILES, _sources(), thorough=True)
    return f"{_real(files)} in {files.folder}"


DOWNLOADS = {"cifar10": prepare}


def _real(files: cache.Files) -> Images:
    train, test = (
        (mapped(files, f"{split}-images").view(-1, *SHAPE), mapped(files, f"{split}-labels").long())
        for split in ("train", "test")
    )
    return Images(train, test, VALIDATION, files.digest)


def _sources() -> Iterator[cache.Source]:
    from torchvision.datasets import CIFAR10  # takes a second, and only who downloads needs it

    yield CIFAR10.url, partial(_from_archive, CIFAR10.url, CIFAR10.tgz_md5)


def _from_archive(url: str, digest: str, into: Path) -> None:
    from torchvision.datasets import CIFAR10

    # torchvision's own downloader waits for ever where packets are dropped; download=True would start it.
    packed = into / "archive.tar.gz"
    cache.download(url, packed, digest)
    with tarfile.open(packed) as archive:
        archive.extractall(into, filter="data")
    for split in ("train", "test"):
        try:
            found = CIFAR10(str(into), train=split == "train", download=False)  # checks each file's MD5
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        np.ascontiguousarray(found.data.transpose(0, 3, 1, 2)).tofile(into / f"{split}-images")
        np.array(found.targets, dtype=np.uint8).tofile(into / f"{split}-labels")
