"""Labelled cases that fit in memory: images, or short sequences of fixed length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from data import Batch, DataError, Spec
from data.cache import Files

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Labelled: TypeAlias = "tuple[Tensor, Tensor]"  # cases uint8 (N, *input_shape), labels int64 (N,)

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Images:
    """A set of images as it was read: the last `held_out` of `train` are for validation."""

    train: Labelled
    test: Labelled
    held_out: int
    digest: str

    def splits(self, *, validation_size: int, test_size: int) -> dict[str, Labelled]:
        """Training, validation and test; of the latter two the first so many."""
        (x, y), (test_x, test_y) = self.train, self.test
        train, held_out = slice(-self.held_out), slice(-self.held_out, None)
        return {
            "train": (x[train], y[train]),
            "validation": (x[held_out][:validation_size], y[held_out][:validation_size]),
            "test": (test_x[:test_size], test_y[:test_size]),
        }

    def __str__(self) -> str:
        return f"{len(self.train[1]) - self.held_out:,} + {self.held_out:,} + {len(self.test[1]):,} images"


class Cases:
    """Batches of uint8 cases with labels, brought to [0, 1] as they are drawn.

    `splits` has "train", "validation" and "test", `view` lays out as (B, *input_shape) what is drawn of them;
    `variants` names further test splits by what they do to the float32 x (B, *input_shape) of "test". Each epoch visits
    the training cases in an order of its own, drawn from (seed, epoch), and drops what does not fill a last batch.
    Raises DataError if no batch is full.
    """

    def __init__(
        self,
        spec: Spec,
        splits: Mapping[str, Labelled],
        *,
        batch_size: int,
        seed: int,
        digest: str,
        synthetic: bool = False,
        view: Callable[[Tensor], Tensor] = lambda cases: cases,
        variants: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        import torch

        self.spec, self.digest, self.synthetic = spec, digest, synthetic
        self.test_splits = ["test", *(variants or {})]
        self._splits, self._view, self._variants = dict(splits), view, dict(variants or {})
        self._batch_size, self._seed = batch_size, seed
        self._count = len(splits["train"][1])
        self._batches_per_epoch = self._count // batch_size
        if not self._batches_per_epoch:
            raise DataError(f"batch_size={batch_size} exceeds the {self._count:,} training cases; lower it")
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def train_batch(self, step: int) -> Batch:
        """x float32 (B, *input_shape) in [0, 1] and y int64 (B,) of update `step`."""
        epoch, index = divmod(step, self._batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        cases, labels = self._splits["train"]
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._view(cases[chosen]).float().div_(255), labels[chosen]

    def batches(self, split: str) -> Iterator[Batch]:
        """The split in its own order, EVALUATION_BATCH cases at a time."""
        alter = self._variants.get(split)
        cases, labels = self._splits["test" if alter else split]
        for start in range(0, len(labels), EVALUATION_BATCH):
            x = self._view(cases[start : start + EVALUATION_BATCH]).float().div_(255)
            yield (alter(x) if alter else x), labels[start : start + EVALUATION_BATCH]

    def carries_state(self, split: str) -> bool:
        """False: cases are independent."""
        return False

    def to(self, device: torch.device | str) -> Cases:
        """Move all cases to `device`, as bytes."""
        self._splits = {name: (x.to(device), y.to(device)) for name, (x, y) in self._splits.items()}
        self._epoch = -1
        return self

    def _shuffled(self, epoch: int) -> Tensor:
        import torch

        # torch's generator keeps only 32 bits of a seed, so (seed, epoch) is mixed down to as many.
        mixed = int(np.random.SeedSequence((self._seed, epoch)).generate_state(1)[0])
        order = torch.randperm(self._count, generator=torch.Generator().manual_seed(mixed))
        return order.to(self._splits["train"][0].device)


def mapped(files: Files, name: str, *, skip: int = 0) -> Tensor:
    """The file's bytes after the first `skip`, uint8 (N,)."""
    import torch

    return torch.frombuffer(files.mapped(name), dtype=torch.uint8)[skip:]


@lru_cache
def synthetic_images(channels: int, size: int) -> Images:
    """Noisy copies of ten smooth patterns, uint8 (N, channels, size, size): learnable, always the same.

    2,500 cases for training, 500 of which are for validation, and 500 for testing.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(10, channels, 4, 4, generator=generator, dtype=torch.float32).double()  # every CPU's bytes
    patterns = torch.nn.functional.interpolate(corners, (size, size), mode="bilinear")
    labels = torch.randint(10, (3_000,), generator=generator)
    noise = torch.randint(128, (3_000, channels, size, size), generator=generator, dtype=torch.uint8)
    images = patterns.mul(127).byte()[labels] + noise
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return Images((images[:2_500], labels[:2_500]), (images[2_500:], labels[2_500:]), 500, digest)
