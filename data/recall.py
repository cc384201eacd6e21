"""Recall: name the first symbol of a sequence after reading others. A task whose only difficulty is its length.

Each case is a sequence of one-hot vectors (T, 2 K): at the first step one of K symbols to keep, at all others one of K
further symbols that mean nothing. The class is the first symbol. In the manner of the tasks of Hochreiter and
Schmidhuber (1997); cases are drawn, so there is no file, no end of training data and nothing to download.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data import Batch, DataError, Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPLITS = {"train": 0, "validation": 1, "test": 2}
EVALUATION_BATCH = 1000
LARGEST_BATCH = 10**9  # numbers, of 4 bytes each


@dataclass
class Config:
    """Options of recall."""

    name: str = "recall"
    # steps of a sequence, the symbol to keep included
    sequence_length: int = 50
    # K, symbols to keep, and as many that mean nothing
    symbols: int = field(default=8, metadata={"minimum": 2})
    validation_size: int = 2_000
    test_size: int = 5_000


def load(config: Config, *, batch_size: int, seed: int) -> Recall:
    """The task as configured; training cases depend on the seed, those of validation and test do not.

    Raises DataError if a batch would have more than LARGEST_BATCH numbers.
    """
    if max(batch_size, EVALUATION_BATCH) * config.sequence_length * 2 * config.symbols > LARGEST_BATCH:
        sizes = f"batch_size={batch_size}, data.sequence_length={config.sequence_length}, data.symbols={config.symbols}"
        raise DataError(f"{sizes}: a batch of {LARGEST_BATCH:,} numbers or more is too large; lower one of them")
    return Recall(config, batch_size, seed)


def test_splits(config: Config) -> list[str]:
    return ["test"]


class Recall:
    """Batches x float32 (B, T, 2 K), y int64 (B,)."""

    synthetic = False  # it stands in for nothing

    def __init__(self, config: Config, batch_size: int, seed: int) -> None:
        import torch

        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.spec = Spec("sequence", (config.sequence_length, 2 * config.symbols), config.symbols)
        self.test_splits, self.device = ["test"], torch.device("cpu")
        # The first test cases tell any other task, and any other generator of random numbers.
        self.digest = hashlib.sha256(self.symbols(10, SPLITS["test"], 0).tobytes()).hexdigest()

    def train_batch(self, step: int) -> Batch:
        """x, y of update `step`, drawn from (seed, step)."""
        return self.draw(self.batch_size, SPLITS["train"], self.seed, step)

    def batches(self, split: str) -> Iterator[Batch]:
        """The same cases for every seed, EVALUATION_BATCH at a time."""
        size = self.config.validation_size if split == "validation" else self.config.test_size
        for start in range(0, size, EVALUATION_BATCH):
            yield self.draw(min(EVALUATION_BATCH, size - start), SPLITS[split], start)

    def carries_state(self, split: str) -> bool:
        """False: cases are independent."""
        return False

    def to(self, device: torch.device | str) -> Recall:
        import torch

        self.device = torch.device(device)
        return self

    def draw(self, cases: int, *entropy: int) -> Batch:
        import torch

        ids = torch.from_numpy(self.symbols(cases, *entropy))
        first = torch.arange(self.config.sequence_length) == 0
        x: Tensor = torch.nn.functional.one_hot(ids + ~first * self.config.symbols, 2 * self.config.symbols).float()
        return x.to(self.device), ids[:, 0].to(self.device)

    def symbols(self, cases: int, *entropy: int) -> NDArray[np.int64]:
        """int64 (cases, T): the symbol to keep, then those that mean nothing."""
        shape = cases, self.config.sequence_length
        return np.random.default_rng(entropy).integers(self.config.symbols, size=shape)
