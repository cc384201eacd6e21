"""CIFAR-10, colour photographs (3, 32, 32): the first 45,000 training images train, the last 5,000 validate,
10,000 test.

The archive holds pickles. They are read once, and only after the hash of the archive was checked; the cache keeps plain
bytes.
"""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data import Spec, cache
from data.cases import Cases, Images, mapped, synthetic_images
from data.downloads import download

SHAPE = (3, 32, 32)
VALIDATION = 5_000
# The author's archive, and the copy from which PaddlePaddle fetches it.
SOURCES = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
)
ARCHIVE_HASH = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # SHA-256
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
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
    for url in SOURCES:
        yield url, partial(_from_archive, url)


def _from_archive(url: str, into: Path) -> None:
    packed = into / "archive.tar.gz"
    download(url, packed, ARCHIVE_HASH)
    with tarfile.open(packed) as archive:
        for split, names in BATCHES.items():
            members = [archive.extractfile(f"cifar-10-batches-py/{name}") for name in names]
            batches = [pickle.load(member, encoding="latin1") for member in members if member]
            np.concatenate([batch["data"] for batch in batches]).tofile(into / f"{split}-images")
            np.concatenate([batch["labels"] for batch in batches]).astype(np.uint8).tofile(into / f"{split}-labels")
