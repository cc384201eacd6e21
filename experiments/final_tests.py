"""The test metrics of a trained model; of one with batch norm also with other statistics than its running averages.

    test_<metric>                 as the model is used: with running averages
    test_reestimated_<metric>     averages taken anew, with the final weights, over training mini-batches
    test_batch_<metric>           each test mini-batch, of the size trained with, by its own statistics; over a quarter
                                  of the cases, for small mini-batches take long
    test_batch_<metric>_increase  that minus the metric of the same cases with running averages

So a loss that comes from noisy training is told apart from one that comes from bad averages. A model without batch
statistics knows one way only: its three values are the same.
"""

from collections.abc import Iterator
from typing import Any

import torch

from experiments.train import Row, evaluate, prefixed
from models.norms import BatchNorm

REESTIMATED_CASES = 2560  # over which averages are taken anew, in mini-batches of the size trained with
WAYS = ("test", "test_reestimated", "test_batch")


def test_metrics(model: Any, source: Any, batch_size: int) -> Row:
    """The metrics of each test split and, as `<split>_<metric>_increase`, by how much a variant exceeds `test`."""
    plain = evaluate(model, source, "test")
    final = prefixed("test", plain)
    for split in source.test_splits[1:]:
        variant = evaluate(model, source, split)
        final |= prefixed(split, variant)
        final |= {f"{split}_{name}_increase": variant[name] - value for name, value in plain.items()}
    return final | other_statistics(model, source, batch_size, plain)


def other_statistics(model: Any, source: Any, batch_size: int, plain: Row) -> Row:
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if norms and batch_size == 1:
        return {}  # a single value has no statistics
    by_own, by_running = own_and_running(model, source, batch_size) if norms else (plain, plain)
    if norms:
        reestimate(model, norms, source, max(REESTIMATED_CASES // batch_size, 1))
    reestimated = evaluate(model, source, "test") if norms else plain
    increase = {f"test_batch_{name}_increase": by_own[name] - value for name, value in by_running.items()}
    return prefixed("test_reestimated", reestimated) | prefixed("test_batch", by_own) | increase


@torch.no_grad()
def reestimate(model: Any, norms: list[BatchNorm], source: Any, batches: int) -> None:
    """Replace all running averages by plain means over so many training mini-batches, all with the present weights."""
    for norm in norms:
        norm.updates.zero_()
        norm.momentum = 0.0
    model.train()
    state: Any = None
    for step in range(batches):
        _, state = model.loss(source.train_batch(step), state)


def own_and_running(model: Any, source: Any, batch_size: int) -> tuple[Row, Row]:
    """Test metrics in mini-batches of the size trained with, each normalised by itself, and by running averages.

    Every so many rows of the evaluation batches are read to their end, as a text goes on from batch to batch; of all
    rows the first quarter, but at least one mini-batch.
    """
    rows = max(len(y) for _, y in source.batches("test"))
    parts = [Rows(source, start, batch_size) for start in range(0, max(rows // 4, batch_size), batch_size)]
    counts = [part.count() for part in parts]
    running = [evaluate(model, part, "test") for part in parts]  # first: training moves the averages
    return averaged(counts, [evaluate(model, part, "test", training=True) for part in parts]), averaged(counts, running)


def averaged(counts: list[int], rows: list[Row]) -> Row:
    total = sum(counts)
    return {name: sum(count * row[name] for count, row in zip(counts, rows, strict=True)) / total for name in rows[0]}


class Rows:
    """So many rows of every test batch; fewer at an end, but never a single one, which has no statistics."""

    def __init__(self, source: Any, start: int, size: int) -> None:
        self.source, self.rows = source, slice(start, start + size)

    def carries_state(self, split: str) -> bool:
        return bool(self.source.carries_state(split))

    def batches(self, split: str) -> Iterator[Any]:
        for batch in self.source.batches(split):
            part = tuple(tensor[self.rows] for tensor in batch)
            if len(part[0]) > 1:
                yield part

    def count(self) -> int:
        return sum(y.numel() for _, y in self.batches("test"))
