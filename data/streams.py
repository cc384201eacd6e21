"""Text for truncated backpropagation through time: parallel streams, cut into successive chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from data import Batch, DataError, Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EVALUATION_STREAMS = 64


@dataclass(frozen=True)
class Corpus:
    """A text as ids: `parts` has "train", "validation" and "test", int16 (N,); id i means `symbols[i]`.

    The first `kept` symbols are characters of the text; one more, if there is one, stands for all others. `digest` is
    the SHA-256 of the bytes it was read from.
    """

    name: str
    symbols: str
    kept: int
    parts: Mapping[str, Tensor]
    digest: str

    def __str__(self) -> str:
        lengths = " + ".join(f"{len(ids):,}" for ids in self.parts.values())
        return f"{lengths} characters, {len(self.symbols)} symbols"

    @cached_property
    def rest_share(self) -> dict[str, float]:
        """The share of each part that the symbol for all others makes, from 0 to 1."""
        rest = {name: int(np.count_nonzero(ids.numpy() == self.kept)) for name, ids in self.parts.items()}
        return {name: count / max(len(self.parts[name]), 1) for name, count in rest.items()}


class Streams:
    """Batches x, y of ids, int64 (B, T) with T = `sequence_length`; y is x one symbol later.

    Row b of each batch continues row b of the batch before, so a model can carry its state. In training, the
    text is a ring; the rows start at equal distances on it, moved by an offset drawn from the seed.
    Validation and test are up to EVALUATION_STREAMS fixed streams over the first `limits[split]` characters,
    whatever the batch size and the seed. With `test_length`, the split "test_long" adds pieces of that length
    which do not continue one another. `alphabet` says what became of the text's characters: how many are "symbols",
    and the "rest_share" of each part that others make. Raises DataError if the corpus or a limit is too short for
    that, or if all of the training part is one symbol.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        sequence_length: int,
        batch_size: int,
        seed: int,
        limits: Mapping[str, int],
        test_length: int = 0,
        synthetic: bool = False,
    ) -> None:
        self.spec = Spec("text", (sequence_length,), len(corpus.symbols))
        self.symbols, self.digest, self.synthetic = corpus.symbols, corpus.digest, synthetic
        self.alphabet: dict[str, Any] = {"symbols": corpus.kept, "rest_share": corpus.rest_share}
        self.test_splits = ["test", "test_long"] if test_length else ["test"]
        self._length, self._test_length = sequence_length, test_length
        longest = max(sequence_length, test_length)
        _require(corpus, limits, train=batch_size * sequence_length, validation=sequence_length, test=longest)
        self._train = corpus.parts["train"]
        self._held_out = {split: corpus.parts[split][: limit + 1] for split, limit in limits.items()}
        self._positions = self._first_positions(batch_size, seed)

    def train_batch(self, step: int) -> Batch:
        """x, y int64 (B, T) of update `step`; x starts with the last symbols of the y before."""
        chunk = self._train[(self._positions + step * self._length) % len(self._train)].long()
        return chunk[:, :-1].contiguous(), chunk[:, 1:].contiguous()

    def batches(self, split: str) -> Iterator[Batch]:
        """The chunks of the fixed streams in order, or the pieces of "test_long", int64 (rows, length)."""
        return self._pieces() if split == "test_long" else self._chunks(self._held_out[split])

    def carries_state(self, split: str) -> bool:
        """True but for "test_long"."""
        return split != "test_long"

    def to(self, device: torch.device | str) -> Streams:
        """Move the text to `device`."""
        self._train, self._positions = self._train.to(device), self._positions.to(device)
        self._held_out = {split: ids.to(device) for split, ids in self._held_out.items()}
        return self

    def _first_positions(self, batch_size: int, seed: int) -> Tensor:
        """Where each row's symbols of step 0 lie, int64 (B, T + 1): T inputs and the target of the last."""
        import torch

        offset = int(np.random.default_rng(seed).integers(len(self._train)))
        starts = offset + torch.arange(batch_size) * (len(self._train) // batch_size)
        return starts[:, None] + torch.arange(self._length + 1)

    def _chunks(self, ids: Tensor) -> Iterator[Batch]:
        count = min(EVALUATION_STREAMS, (len(ids) - 1) // self._length)
        span = (len(ids) - 1) // count
        x, y = (ids[start : start + count * span].view(count, span).long() for start in (0, 1))
        for start in range(0, span - self._length + 1, self._length):
            chunk = slice(start, start + self._length)
            yield x[:, chunk].contiguous(), y[:, chunk].contiguous()

    def _pieces(self) -> Iterator[Batch]:
        ids, length = self._held_out["test"], self._test_length
        end = (len(ids) - 1) // length * length
        x, y = (ids[start : start + end].view(-1, length) for start in (0, 1))
        for start in range(0, len(x), EVALUATION_STREAMS):
            yield x[start : start + EVALUATION_STREAMS].long(), y[start : start + EVALUATION_STREAMS].long()


def _require(corpus: Corpus, limits: Mapping[str, int], **needed: int) -> None:
    """Raise DataError, with what would do, unless each part has the `needed` inputs and one more target."""
    for split, limit in limits.items():
        if limit < needed[split]:
            raise DataError(f"data.{split}_size={limit} is too low: one sequence has {needed[split]}")
    total = sum(map(len, corpus.parts.values()))
    growth = max((count + 1) / max(len(corpus.parts[part]), 1) for part, count in needed.items())
    if growth > 1:
        raise DataError(
            f"{corpus.name}: {total:,} characters are too few, {math.ceil(total * growth):,} are needed; "
            "take a longer text, or lower data.sequence_length, data.test_length or batch_size"
        )
    if corpus.kept + (corpus.rest_share["train"] > 0) < 2:
        raise DataError(
            f"{corpus.name}: the training part is one symbol over and over, for no two characters are frequent enough "
            "to be told apart; take a longer text, or another"
        )
