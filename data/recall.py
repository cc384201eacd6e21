"""Recall: name the first symbol of a sequence after reading others. A task whose only difficulty is its length.

Each case is a sequence of one-hot vectors (T, 2 K): at the first step one of K symbols to keep, at all others one of K
further symbols that mean nothing. The class is the first symbol. In the manner of the tasks of Hochreiter and
Schmidhuber (1997); cases are drawn, so there is no file, no end of training data and nothing to download.

Cases may have lengths of their own. What follows the end of one is padding, zeros, and a further feature says so: it is
1 inside the case and 0 on padding.
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
LENGTHS = 1  # sets their random numbers apart from those of symbols; fewer than any steps
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
    # if not 0: each case has a length of its own, uniform from this to sequence_length
    shortest_length: int = field(default=0, metadata={"minimum": 0, "recorded": "changed"})
    # further test splits test_distance_<n>: the cases of "test", all of n steps
    test_distances: list[int] = field(
        default_factory=list, metadata={"maximum": 10_000, "distinct": True, "recorded": "changed"}
    )
    validation_size: int = 2_000
    test_size: int = 5_000


def check(config: Config) -> None:
    """Refuse lengths that do not fit one another."""
    steps = config.sequence_length
    if config.shortest_length > steps:
        raise DataError(
            f"data.shortest_length={config.shortest_length} exceeds data.sequence_length={steps}, the length of the "
            "longest case; lower it"
        )
    further = list(config.test_distances)
    if min(further, default=steps + 1) <= steps:
        raise DataError(f"data.test_distances={further}: give more than data.sequence_length={steps}")


def load(config: Config, *, batch_size: int, seed: int) -> Recall:
    """The task as configured; training cases depend on the seed, those of validation and test do not.

    Raises DataError if a batch would have more than LARGEST_BATCH numbers.
    """
    longest = max([config.sequence_length, *config.test_distances])
    if max(batch_size, EVALUATION_BATCH) * longest * 2 * config.symbols > LARGEST_BATCH:
        sizes = f"batch_size={batch_size}, data.sequence_length={config.sequence_length}, data.symbols={config.symbols}"
        raise DataError(f"{sizes}: a batch of {LARGEST_BATCH:,} numbers or more is too large; lower one of them")
    return Recall(config, batch_size, seed)


def test_splits(config: Config) -> list[str]:
    return ["test", *distances(config)]


def distances(config: Config) -> dict[str, int]:
    """The steps of each further test split."""
    return {f"test_distance_{steps}": steps for steps in config.test_distances}


class Recall:
    """Batches x float32 (B, T, 2 K), with lengths (B, T, 2 K + 1); y int64 (B,)."""

    synthetic = False  # it stands in for nothing

    def __init__(self, config: Config, batch_size: int, seed: int) -> None:
        import torch

        self.config, self.batch_size, self.seed = config, batch_size, seed
        padded = config.shortest_length > 0
        self.spec = Spec("sequence", (config.sequence_length, 2 * config.symbols + padded), config.symbols, padded)
        self.test_splits, self.device = test_splits(config), torch.device("cpu")
        # The first test cases tell any other task, and any other generator of random numbers.
        self.digest = hashlib.sha256(self.symbols(10, SPLITS["test"], 0).tobytes()).hexdigest()

    def train_batch(self, step: int) -> Batch:
        """x, y of update `step`, drawn from (seed, step)."""
        return self.draw(self.batch_size, SPLITS["train"], self.seed, step)

    def batches(self, split: str) -> Iterator[Batch]:
        """The same cases for every seed, EVALUATION_BATCH at a time."""
        steps = distances(self.config).get(split, 0)
        size = self.config.validation_size if split == "validation" else self.config.test_size
        for start in range(0, size, EVALUATION_BATCH):
            yield self.draw(min(EVALUATION_BATCH, size - start), SPLITS["test" if steps else split], start, steps=steps)

    def carries_state(self, split: str) -> bool:
        """False: cases are independent."""
        return False

    def to(self, device: torch.device | str) -> Recall:
        import torch

        self.device = torch.device(device)
        return self

    def draw(self, cases: int, *entropy: int, steps: int = 0) -> Batch:
        """With `steps`, the cases all go on that far."""
        import torch

        ids = torch.from_numpy(self.symbols(cases, *entropy))
        if steps:
            ids = torch.cat([ids, torch.from_numpy(self.further(cases, steps, *entropy))], 1)
        first = torch.arange(ids.shape[1]) == 0
        x: Tensor = torch.nn.functional.one_hot(ids + ~first * self.config.symbols, 2 * self.config.symbols).float()
        if self.spec.padded:
            lengths = torch.full((cases,), steps) if steps else torch.from_numpy(self.lengths(cases, *entropy))
            inside = (torch.arange(ids.shape[1]) < lengths[:, None])[..., None].float()
            x = torch.cat([x * inside, inside], 2)
        return x.to(self.device), ids[:, 0].to(self.device)

    def symbols(self, cases: int, *entropy: int) -> NDArray[np.int64]:
        """int64 (cases, T): the symbol to keep, then those that mean nothing."""
        shape = cases, self.config.sequence_length
        return np.random.default_rng(entropy).integers(self.config.symbols, size=shape)

    def further(self, cases: int, steps: int, *entropy: int) -> NDArray[np.int64]:
        """int64 (cases, steps - T): more that mean nothing."""
        shape = cases, steps - self.config.sequence_length
        return np.random.default_rng((*entropy, steps)).integers(self.config.symbols, size=shape)

    def lengths(self, cases: int, *entropy: int) -> NDArray[np.int64]:
        """int64 (cases,), each from shortest_length to sequence_length."""
        shortest, longest = self.config.shortest_length, self.config.sequence_length
        return np.random.default_rng((*entropy, LENGTHS)).integers(shortest, longest + 1, size=cases)
